package blocking_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/internal/blocking"
)

// pair is a connection whose one end was taken.
func pair(t *testing.T) (*os.File, net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f, err := blocking.Take(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, peer
}

// polled says whether an epoll instance of this process watches fd (proc(5),
// fdinfo).
func polled(t *testing.T, fd uintptr) bool {
	t.Helper()
	line := regexp.MustCompile(fmt.Sprintf(`(?m)^tfd:\s+%d\s`, fd))
	found := false
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range fds {
		if to, err := os.Readlink(p); err != nil || !strings.Contains(to, "eventpoll") {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + filepath.Base(p))
		if err != nil {
			t.Fatal(err)
		}
		found = found || line.Match(info)
	}
	return found
}

func TestTakenConnectionIsNotPolled(t *testing.T) {
	f, peer := pair(t)
	if polled(t, f.Fd()) {
		t.Error("the poller still watches the socket")
	}
	raw, err := peer.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if !polled(t, fd) {
			t.Error("the other end is not watched: this test sees nothing")
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestTakenConnectionTalks(t *testing.T) {
	f, peer := pair(t)
	go io.WriteString(peer, "ask")
	b := make([]byte, 3)
	if _, err := io.ReadFull(f, b); err != nil || string(b) != "ask" {
		t.Fatalf("read %q, %v", b, err)
	}
	if _, err := f.WriteString("tell"); err != nil {
		t.Fatal(err)
	}
	b = make([]byte, 4)
	if _, err := io.ReadFull(peer, b); err != nil || string(b) != "tell" {
		t.Fatalf("the peer read %q, %v", b, err)
	}
}

func TestShutdownEndsARead(t *testing.T) {
	f, peer := pair(t)
	read := make(chan error)
	go func() {
		_, err := f.Read(make([]byte, 1))
		read <- err
	}()
	if err := blocking.Shutdown(f); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != io.EOF {
		t.Errorf("the read ends with %v", err)
	}
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the peer's read ends with %v", err)
	}
}
