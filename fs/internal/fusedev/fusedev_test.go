package fusedev_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/fs/internal/fusedev"
)

// slowFS is an empty directory in which looking for names that begin with
// "slow" takes until gate is closed.
type slowFS struct {
	fuse.RawFileSystem
	asked chan string
	gate  chan struct{}
}

func (s *slowFS) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, _ *fuse.EntryOut) fuse.Status {
	if len(name) >= 4 && name[:4] == "slow" {
		s.asked <- name
		<-s.gate
	}
	return fuse.ENOENT
}

func (s *slowFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Mode, out.Ino = unix.S_IFDIR|0o755, in.NodeId
	return fuse.OK
}

func (s *slowFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.NameLen = 77
	return fuse.OK
}

// onBoth runs a test on either transport.
func onBoth(t *testing.T, test func(t *testing.T, transport fusedev.Transport)) {
	fstest.RequireRoot(t)
	t.Run("dev", func(t *testing.T) { test(t, fusedev.Dev) })
	t.Run("uring", func(t *testing.T) {
		fstest.RequireUring(t)
		test(t, fusedev.Uring)
	})
}

func mount(t *testing.T, s *slowFS, transport fusedev.Transport) (*fusedev.Conn, string) {
	t.Helper()
	s.RawFileSystem = fuse.NewDefaultRawFileSystem()
	s.asked, s.gate = make(chan string, 1000), make(chan struct{})
	mnt := t.TempDir()
	const maxRequest = 1 << 20
	protocol := fuse.NewProtocolServer(s, &fuse.MountOptions{MaxWrite: maxRequest})
	conn, err := fusedev.Mount(fusedev.Options{
		Mountpoint: mnt, Source: "slow", Subtype: "kmsfs", Flags: unix.MS_NOSUID | unix.MS_NODEV,
		MaxRequest: maxRequest, Log: slog.Default(),
		QuickSize: maxRequest, Transport: transport,
		Handle: func(in, out [][]byte) (int, unix.Errno) {
			n, code := protocol.HandleRequest(in, out)
			return n, unix.Errno(code)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) })
	return conn, mnt
}

// within fails the test when do takes longer than anything here should.
func within(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("hangs: " + what)
	}
}

// TestSlowAnswer: what was taken for quick and is not keeps nobody else waiting.
func TestSlowAnswer(t *testing.T) { onBoth(t, testSlowAnswer) }

func testSlowAnswer(t *testing.T, transport fusedev.Transport) {
	var s slowFS
	conn, mnt := mount(t, &s, transport)
	var slow sync.WaitGroup
	for i := range 20 {
		slow.Go(func() {
			if _, err := os.Lstat(filepath.Join(mnt, fmt.Sprint("slow", i))); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
		within(t, "one more slow lookup", func() { <-s.asked })
		within(t, "requests beside slow ones", func() {
			for j := range 50 {
				var st unix.Statfs_t
				if err := unix.Statfs(mnt, &st); err != nil || st.Namelen != 77 {
					t.Errorf("statfs: %v, name length %d", err, st.Namelen)
				}
				if _, err := os.Lstat(filepath.Join(mnt, fmt.Sprint("quick", j))); !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	close(s.gate)
	within(t, "slow lookups", slow.Wait)
	within(t, "unmount", func() {
		if err := conn.Unmount(); err != nil {
			t.Error(err)
		}
	})
}

// TestUnmountedByOthers: the connection ends when the mount is gone by another
// hand, and only after the requests that are being answered.
func TestUnmountedByOthers(t *testing.T) { onBoth(t, testUnmountedByOthers) }

func testUnmountedByOthers(t *testing.T, transport fusedev.Transport) {
	var s slowFS
	conn, mnt := mount(t, &s, transport)
	go os.Lstat(filepath.Join(mnt, "slow"))
	within(t, "a slow lookup", func() { <-s.asked })
	if err := conn.Unmount(); err == nil {
		t.Fatal("unmounted while in use")
	}
	if err := unix.Unmount(mnt, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { conn.Wait(); close(ended) }()
	select {
	case <-ended:
		t.Error("ended before the last request was answered")
	case <-time.After(50 * time.Millisecond):
	}
	close(s.gate)
	within(t, "the end", func() { <-ended })
}

// TestMountFails: what cannot be mounted leaves nothing behind.
func TestMountFails(t *testing.T) {
	fstest.RequireRoot(t)
	_, err := fusedev.Mount(fusedev.Options{Mountpoint: filepath.Join(t.TempDir(), "absent"), Subtype: "kmsfs", MaxRequest: 1 << 20})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("mount at an absent mountpoint: %v", err)
	}
}

// TestNotifyAfterUnmount: what comes too late for the kernel goes nowhere, and
// least of all into a file that has got the device's descriptor.
func TestNotifyAfterUnmount(t *testing.T) { onBoth(t, testNotifyAfterUnmount) }

func testNotifyAfterUnmount(t *testing.T, transport fusedev.Transport) {
	conn, _ := mount(t, &slowFS{}, transport)
	device := -1
	fds, err := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if name, _ := os.Readlink("/proc/self/fd/" + fd.Name()); name == "/dev/fuse" {
			device, err = strconv.Atoi(fd.Name())
		}
	}
	if err != nil || device < 0 {
		t.Fatalf("no descriptor of the device: %v", err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := conn.Unmount(); err != nil {
		t.Fatal(err)
	}
	conn.Wait()
	err = fstest.Poll(time.Minute, func() (bool, error) {
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, device)
		if err == nil && fd != device {
			err = unix.Close(fd)
		}
		return fd == device, err
	})
	if err != nil {
		t.Fatalf("the device stays open: %v", err)
	}
	defer unix.Close(device)
	for what, err := range map[string]error{"store": conn.Store(1, []byte("content")), "invalidate": conn.InvalidateAttr(1)} {
		if err != unix.ENODEV {
			t.Errorf("%s after the mount is gone: %v", what, err)
		}
	}
	if st, err := file.Stat(); err != nil || st.Size() > 0 {
		t.Errorf("%d bytes were written to another file, %v", st.Size(), err)
	}
}
