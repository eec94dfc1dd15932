package audit

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDatasync: the kernel makes files durable by itself, or a thread waits, and whoever
// asks cannot tell.
func TestDatasync(t *testing.T) {
	byKernel, byThread := newSyncer(), newSyncer()
	if byKernel.queue == 0 {
		t.Log("this kernel has no asynchronous I/O: a thread waits")
	}
	if err := byThread.close(); err != nil {
		t.Fatal(err)
	}
	if err := byThread.close(); err != nil {
		t.Fatal("closed again: ", err)
	}
	for name, s := range map[string]*syncer{"by the kernel": byKernel, "by a thread": byThread} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					f, err := os.Create(filepath.Join(dir, string(rune('a'+i))))
					if err != nil {
						t.Error(err)
						return
					}
					defer f.Close()
					for range 20 {
						if _, err := f.WriteString("a record\n"); err != nil {
							t.Error(err)
						}
						if err := s.datasync(f); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()

			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			if err := s.datasync(w); !errors.Is(err, unix.EINVAL) {
				t.Errorf("a pipe: %v", err)
			}
			f, err := os.Create(filepath.Join(dir, "closed"))
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			if err := s.datasync(f); err == nil {
				t.Error("a closed file is durable")
			}
		})
	}
	if err := byKernel.close(); err != nil {
		t.Fatal(err)
	}
}

// TestDatasyncGivenUp: the result of a sync that nobody waited for is not taken for
// that of the next.
func TestDatasyncGivenUp(t *testing.T) {
	s := newSyncer()
	defer s.close()
	if s.queue == 0 {
		t.Skip("this kernel has no asynchronous I/O")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.submit(f); err != nil {
		t.Fatal(err)
	}
	// The kernel may end two at a time in either order.
	done, err := s.done.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = done.Control(func(fd uintptr) {
		ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(ended, 60_000); n != 1 {
			t.Errorf("the first sync has not ended: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.submit(f); err != nil {
		t.Fatal(err)
	}
	if err := s.await(); err != nil {
		t.Fatal(err)
	}
	if e, ok, err := s.next(); ok || err != nil {
		t.Errorf("the result of sync %d of %d was left: %v", e.data, s.submitted, err)
	}
}
