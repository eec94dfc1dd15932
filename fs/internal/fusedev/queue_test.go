package fusedev_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/fs/internal/fusedev"
)

// TestManySlowAnswers: requests of one CPU that wait for long keep none of its others
// waiting, as many as they are.
func TestManySlowAnswers(t *testing.T) { onBoth(t, testManySlowAnswers) }

func testManySlowAnswers(t *testing.T, transport fusedev.Transport) {
	var s slowFS
	conn, mnt := mount(t, &s, transport)
	onFirstCPU := func(do func()) {
		runtime.LockOSThread() // for ever: the thread ends with us
		var cpu unix.CPUSet
		cpu.Set(0)
		if err := unix.SchedSetaffinity(0, &cpu); err != nil {
			t.Log(err) // another CPU then
		}
		do()
	}
	var slow sync.WaitGroup
	for i := range 200 {
		slow.Go(func() {
			onFirstCPU(func() {
				if err := unix.Access(filepath.Join(mnt, fmt.Sprint("slow", i)), unix.F_OK); err != unix.ENOENT {
					t.Error(err)
				}
			})
		})
		within(t, "one more slow lookup", func() { <-s.asked })
	}
	within(t, "a request beside them", func() {
		done := make(chan struct{})
		go onFirstCPU(func() {
			defer close(done)
			var st unix.Statfs_t
			if err := unix.Statfs(mnt, &st); err != nil || st.Namelen != 77 {
				t.Errorf("statfs: %v, name length %d", err, st.Namelen)
			}
		})
		<-done
	})
	close(s.gate)
	within(t, "slow lookups", slow.Wait)
	within(t, "unmount", func() {
		if err := conn.Unmount(); err != nil {
			t.Error(err)
		}
	})
}

// logged collects a log.
type logged struct {
	sync.Mutex
	strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Builder.Write(p)
}

func (l *logged) String() string {
	l.Lock()
	defer l.Unlock()
	return l.Builder.String()
}

// tryMount mounts a slowFS that logs into log.
func tryMount(t *testing.T, s *slowFS, log *logged, change func(*fusedev.Options)) (*fusedev.Conn, string, error) {
	t.Helper()
	s.RawFileSystem = fuse.NewDefaultRawFileSystem()
	s.asked, s.gate = make(chan string, 1000), make(chan struct{})
	protocol := fuse.NewProtocolServer(s, &fuse.MountOptions{MaxWrite: 1 << 20})
	o := fusedev.Options{
		Mountpoint: t.TempDir(), Source: "slow", Subtype: "kmsfs", MaxRequest: 1 << 20, QuickSize: 1 << 20,
		Log: slog.New(slog.NewTextHandler(log, nil)),
		Handle: func(in, out [][]byte) (int, unix.Errno) {
			n, code := protocol.HandleRequest(in, out)
			return n, unix.Errno(code)
		},
	}
	change(&o)
	conn, err := fusedev.Mount(o)
	if err == nil {
		t.Cleanup(func() { _ = unix.Unmount(o.Mountpoint, unix.MNT_DETACH) })
	}
	return conn, o.Mountpoint, err
}

// TestAuto: io_uring is used where the kernel offers it.
func TestAuto(t *testing.T) {
	fstest.RequireRoot(t)
	fstest.RequireUring(t)
	var s slowFS
	conn, _, err := tryMount(t, &s, new(logged), func(*fusedev.Options) {})
	if err != nil {
		t.Fatal(err)
	}
	if conn.Queues() == 0 {
		t.Error("no queues")
	}
	within(t, "unmount", func() {
		if err := conn.Unmount(); err != nil {
			t.Error(err)
		}
	})
}

// TestQueuesRefused: where the kernel does not take the queues, of which it has been told
// already, the mount fails and is gone; unless it may do without.
func TestQueuesRefused(t *testing.T) {
	fstest.RequireRoot(t)
	fstest.RequireUring(t)
	t.Run("uring", func(t *testing.T) {
		var s slowFS
		within(t, "mount", func() {
			_, mnt, err := tryMount(t, &s, new(logged), func(o *fusedev.Options) { o.RefuseQueues(); o.Transport = fusedev.Uring })
			if !errors.Is(err, unix.EINVAL) {
				t.Errorf("mounted: %v", err)
			}
			if fstest.Mounted(mnt) {
				t.Error("a mount is left")
			}
		})
	})
	t.Run("auto", func(t *testing.T) {
		var s slowFS
		var log logged
		within(t, "mount", func() {
			conn, mnt, err := tryMount(t, &s, &log, func(o *fusedev.Options) { o.RefuseQueues() })
			if err != nil {
				t.Error(err)
				return
			}
			if conn.Queues() != 0 {
				t.Error("there are queues")
			}
			if _, err := os.Lstat(filepath.Join(mnt, "absent")); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			if err := conn.Unmount(); err != nil {
				t.Error(err)
			}
		})
		if !strings.Contains(log.String(), "io_uring failed") {
			t.Errorf("the log says nothing:\n%s", log.String())
		}
	})
}

// TestRingsBreak: when the queues fail, the mount ends, with an error for everybody who
// waits for an answer, and the log says why.
func TestRingsBreak(t *testing.T) {
	fstest.RequireRoot(t)
	fstest.RequireUring(t)
	var s slowFS
	var log logged
	conn, mnt, err := tryMount(t, &s, &log, func(o *fusedev.Options) { o.Transport = fusedev.Uring })
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error)
	go func() {
		_, err := os.Lstat(filepath.Join(mnt, "slow"))
		waits <- err
	}()
	within(t, "a slow lookup", func() { <-s.asked })
	if err := conn.BreakRings(); err != nil {
		t.Fatal(err)
	}
	within(t, "the end", func() {
		// Each CPU's queue notices with its next request.
		for conn.Alive() {
			_, _ = os.Lstat(filepath.Join(mnt, "absent"))
		}
		if err := <-waits; err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a lookup that waited: %v", err)
		}
		close(s.gate)
		conn.Wait()
	})
	if !strings.Contains(log.String(), "io_uring_enter") {
		t.Errorf("the log does not say why:\n%s", log.String())
	}
}

// TestKilled: with the server the mount ends, and nobody waits for an answer any more.
func TestKilled(t *testing.T) { onBoth(t, testKilled) }

func testKilled(t *testing.T, transport fusedev.Transport) {
	mnt := t.TempDir()
	cmd := exec.Command(os.Args[0], mnt)
	cmd.Env = append(os.Environ(), serveEnv+"="+map[fusedev.Transport]string{fusedev.Dev: "dev", fusedev.Uring: "uring"}[transport])
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) })
	var said string
	if _, err := fmt.Fscanln(out, &said); err != nil || said != "ok" {
		t.Fatal(said, err)
	}
	var busy sync.WaitGroup
	for range 8 {
		busy.Go(func() {
			for {
				if _, err := os.ReadFile(filepath.Join(mnt, "f")); err != nil {
					return
				}
			}
		})
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	within(t, "whoever was reading", busy.Wait)
	// The kernel gives the rings up some time after the process is gone.
	err = fstest.Poll(30*time.Second, func() (bool, error) {
		_, err := os.Lstat(mnt)
		return errors.Is(err, unix.ENOTCONN), nil
	})
	if err != nil {
		t.Errorf("a dead mount answers: %v", err)
	}
}

// TestNotOffered: a kernel without FUSE over io_uring is told apart before it is told.
func TestNotOffered(t *testing.T) {
	if err := fusedev.TryWithoutOffer(); err == nil || !strings.Contains(err.Error(), "enable_uring") {
		t.Error(err)
	}
}
