package keysvc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is the service's unix socket. Closing it removes the socket first,
// so that no client finds a socket that nobody will answer.
type Listener struct {
	*net.UnixListener
	path string // "" when systemd owns the socket
	ino  uint64
}

// Listen binds path, or takes the socket that systemd passed. Call it with the
// service's directory locked: a socket that nobody answers on is a dead
// service's and replaced.
func Listen(path string) (*Listener, error) {
	if l, err := inherited(); l != nil || err != nil {
		return l, err
	}
	if err := makeSocketDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.SetUnlinkOnClose(false)
	// Root's service answers every user, and tells them apart by their
	// credentials; a user's own service is nobody else's business.
	mode := os.FileMode(0o600)
	if os.Geteuid() == 0 {
		mode = 0o666
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), l.Close())
	}
	wrapped := &Listener{UnixListener: l, path: path}
	if st, err := os.Lstat(path); err == nil {
		wrapped.ino = st.Sys().(*syscall.Stat_t).Ino
	}
	return wrapped, nil
}

// Close removes the socket, if it is still ours, and stops listening.
func (l *Listener) Close() error {
	var err error
	if l.path != "" {
		if st, statErr := os.Lstat(l.path); statErr == nil && st.Sys().(*syscall.Stat_t).Ino == l.ino {
			err = os.Remove(l.path)
		}
	}
	return errors.Join(err, l.UnixListener.Close())
}

// makeSocketDir creates the socket's directory. Root's is open to all, so that
// their requests reach the service and are answered.
func makeSocketDir(dir string) error {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 && dir == "/run/kmsfs" {
		mode = 0o755
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	return nil
}

// removeStale removes a socket that nobody answers on.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if st.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("listen: %s exists and is not a socket: remove it or choose another --socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("listen: another process answers on %s: choose another --socket", path)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("listen: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove a dead service's socket: %w", err)
	}
	return nil
}

// inherited returns the socket that systemd passed (sd_listen_fds(3)), or nil.
func inherited() (*Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	if n := os.Getenv("LISTEN_FDS"); n != "1" {
		return nil, fmt.Errorf("listen: systemd passed %s sockets, one is expected", n)
	}
	const firstFD = 3
	unix.CloseOnExec(firstFD)
	f := os.NewFile(firstFD, "kmsfs-keysvc.socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen on systemd's socket: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("listen: systemd's socket is not a unix socket"), l.Close())
	}
	u.SetUnlinkOnClose(false)
	return &Listener{UnixListener: u}, nil
}
