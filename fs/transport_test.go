package fs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// rings counts the io_uring instances of a process.
func rings(t *testing.T, pid int) (n int) {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatal("no descriptors", err)
	}
	for _, fd := range fds {
		if name, _ := os.Readlink(fd); name == "anon_inode:[io_uring]" {
			n++
		}
	}
	return n
}

// TestTransport: io_uring is used where the kernel offers it, unless it shall not be.
func TestTransport(t *testing.T) {
	fstest.RequireRoot(t)
	fstest.RequireUring(t)
	v := fstest.New(t, fstest.Unmounted())
	for transport, used := range map[string]bool{"auto": true, "uring": true, "dev": false} {
		v.Mount("--transport", transport)
		file := filepath.Join(v.Mnt, transport)
		content := bytes.Repeat([]byte(transport), 1<<20)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: read %d bytes, %v", transport, len(got), err)
		}
		if n := rings(t, v.Worker()); (n > 0) != used {
			t.Errorf("--transport %s: %d rings", transport, n)
		}
		v.Unmount()
	}
}

// TestInterrupts: signals to a program never show in what its requests come to.
func TestInterrupts(t *testing.T) {
	v := fstest.New(t)
	done := make(chan int)
	go func() {
		runtime.LockOSThread()
		done <- unix.Gettid()
		defer close(done)
		for i := range 100 {
			name := filepath.Join(v.Mnt, fmt.Sprint("f", i))
			content := []byte(strings.Repeat("x", 1+i*1000))
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Error(err)
				return
			}
			if err := os.Rename(name, name+"n"); err != nil {
				t.Error(err)
				return
			}
			if got, err := os.ReadFile(name + "n"); err != nil || !bytes.Equal(got, content) {
				t.Errorf("read %d bytes of %d, %v", len(got), len(content), err)
				return
			}
		}
	}()
	thread := <-done
	for {
		select {
		case <-done:
			return
		case <-time.After(100 * time.Microsecond):
			// The one that Go itself uses to stop a goroutine, and takes any number of.
			if err := unix.Tgkill(os.Getpid(), thread, unix.SIGURG); err != nil && err != unix.ESRCH {
				t.Fatal(err)
			}
		}
	}
}
