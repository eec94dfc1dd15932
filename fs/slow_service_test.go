package fs_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// valve stands in the key service's place and passes on what it is asked,
// unless it is held.
type valve struct {
	held  sync.RWMutex  // locked: nothing passes
	asked chan struct{} // says so when something comes
	delay atomic.Int64  // nanoseconds that it is kept before it passes
}

// newValve puts a valve before the key service of an unmounted volume.
func newValve(t *testing.T, v *fstest.Volume) *valve {
	t.Helper()
	socket := findSocket(t, v.State)
	service := socket + ".real"
	rename(t, socket, service)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	w := &valve{asked: make(chan struct{}, 1)}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go w.pass(client, service)
		}
	}()
	return w
}

func (w *valve) pass(client net.Conn, service string) {
	defer client.Close()
	server, err := net.Dial("unix", service)
	if err != nil {
		return
	}
	defer server.Close()
	go io.Copy(client, server)
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		select {
		case w.asked <- struct{}{}:
		default:
		}
		time.Sleep(time.Duration(w.delay.Load()))
		w.held.RLock()
		_, err = server.Write(buf[:n])
		w.held.RUnlock()
		if err != nil {
			return
		}
	}
}

// hold closes the valve. What then comes is in asked.
func (w *valve) hold() {
	w.held.Lock()
	select {
	case <-w.asked:
	default:
	}
}

// askedBy holds the valve while do runs, until something comes, and tells whether it
// did. do must end then.
func (w *valve) askedBy(do func() error) (asked bool, err error) {
	w.hold()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err = <-done:
		w.held.Unlock()
	case <-w.asked:
		asked = true
		w.held.Unlock()
		err = <-done
	}
	return asked, err
}

// TestSlowKeyService: while an open waits for the key service, nothing else
// that is done with the file does.
func TestSlowKeyService(t *testing.T) {
	v := fstest.New(t, fstest.MountArgs("--key-cache-ttl", "1ns"), fstest.Unmounted())
	service := newValve(t, v)
	v.Mount()
	name := filepath.Join(v.Mnt, "f")
	err := os.WriteFile(name, []byte("content"), 0o644)
	if err == nil {
		err = unix.Setxattr(name, "user.a", []byte("1"), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	ops := map[string]func() error{
		"getxattr":  func() error { _, err := unix.Getxattr(name, "user.a", buf); return err },
		"listxattr": func() error { _, err := unix.Listxattr(name, buf); return err },
		"chmod":     func() error { return unix.Chmod(name, 0o600) },
	}
	t.Run("first open", func(t *testing.T) {
		v.Remount()
		duringOpen(t, service, name, ops)
	})
	t.Run("further open", func(t *testing.T) {
		v.Remount()
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ops["write"] = func() error { _, err := f.WriteAt([]byte("C"), 0); return err }
		duringOpen(t, service, name, ops)
	})
}

// duringOpen does ops while an open of the file waits for the key service.
func duringOpen(t *testing.T, service *valve, name string, ops map[string]func() error) {
	t.Helper()
	service.hold()
	opened := make(chan error)
	go func() {
		f, err := os.Open(name)
		if err == nil {
			err = f.Close()
		}
		opened <- err
	}()
	<-service.asked
	for what, do := range ops {
		done := make(chan error, 1)
		go func() { done <- do() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(commandWait):
			t.Errorf("%s waits too", what)
		}
	}
	select {
	case err := <-opened:
		t.Errorf("the open did not wait: %v", err)
	default:
	}
	service.held.Unlock()
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// TestSlowKeyServiceElsewhere: while creates and opens wait for the key service,
// whatever needs no key goes on.
func TestSlowKeyServiceElsewhere(t *testing.T) {
	v := fstest.New(t, fstest.Unmounted())
	service := newValve(t, v)
	v.Mount()
	service.hold()
	var waiting sync.WaitGroup
	for i := range 3 { // two connections each: the client has six, one request on each
		sub := filepath.Join(v.Mnt, fmt.Sprint("sub", i)) // in which nobody else creates
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, open := range []func() (int, error){
			func() (int, error) { return unix.Open(v.Mnt, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600) },
			func() (int, error) {
				return unix.Open(filepath.Join(sub, "f"), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
			},
		} {
			waiting.Go(func() {
				fd, err := open()
				if err != nil {
					t.Error(err)
				}
				unix.Close(fd)
			})
			<-service.asked
		}
		done := make(chan error, 1)
		go func() { done <- os.MkdirAll(filepath.Join(v.Mnt, fmt.Sprint("dir", i)), 0o755) }()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(commandWait):
			t.Error("mkdir waits for the key service")
		}
	}
	service.held.Unlock()
	waiting.Wait()
}
