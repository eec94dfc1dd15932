package fs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
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

// idlePolicies counts the threads of a process that the scheduler runs when there is
// nothing else to run: SCHED_IDLE.
func idlePolicies(t *testing.T, pid int) (n int) {
	t.Helper()
	stats := fstest.ThreadStats(pid)
	if len(stats) == 0 {
		t.Fatal("no threads")
	}
	for _, stat := range stats {
		if policy := stat[41-3]; policy == fmt.Sprint(unix.SCHED_IDLE) {
			n++
		}
	}
	return n
}

// TestYield: a thread that takes requests over io_uring gives way to those who get its
// answers, but not for long, and not where others keep the CPU busy: they would keep it
// from every request.
func TestYield(t *testing.T) {
	fstest.RequireRoot(t)
	fstest.RequireUring(t)
	v := fstest.New(t, fstest.Unmounted())
	v.Mount("--transport", "uring")
	name := filepath.Join(v.Mnt, "f")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	work := func(until func(i int) bool) {
		for i := 0; !until(i); i++ {
			if err := os.Chmod(name, 0o644); err != nil { // one request
				t.Error(err)
				return
			}
		}
	}
	yielded := func(limit time.Duration) error {
		stop := make(chan struct{})
		var worker sync.WaitGroup
		worker.Go(func() {
			work(func(int) bool {
				select {
				case <-stop:
					return true
				default:
					return false
				}
			})
		})
		defer worker.Wait()
		defer close(stop)
		return fstest.Poll(limit, func() (bool, error) { return idlePolicies(t, v.Worker()) > 0, nil })
	}
	if err := yielded(20 * time.Second); err != nil {
		t.Errorf("no thread gives way: %v", err)
	}
	if err := fstest.Poll(20*time.Second, func() (bool, error) { return idlePolicies(t, v.Worker()) == 0, nil }); err != nil {
		t.Errorf("a thread gives way when there is nothing to do: %v", err)
	}

	// Two programs that never sleep on each CPU.
	var hogs []*exec.Cmd
	defer func() {
		for _, hog := range hogs {
			_ = hog.Process.Kill()
			_ = hog.Wait()
		}
	}()
	taskset := fstest.RequireProgram(t, "taskset", "util-linux")
	for cpu := range runtime.NumCPU() {
		for range 2 {
			hog := exec.Command(taskset, "-c", fmt.Sprint(cpu), "sh", "-c", "while :; do :; done")
			if err := hog.Start(); err != nil {
				t.Fatal(err)
			}
			hogs = append(hogs, hog)
		}
	}
	began := time.Now()
	work(func(i int) bool { return i == 3000 || time.Since(began) > time.Minute })
	took := time.Since(began)
	t.Logf("3000 requests between programs that never sleep: %v", took)
	if took > time.Minute {
		t.Error("requests starve")
	}
}
