// Package blocking takes connections out of Go's network poller.
package blocking

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Take closes c, a unix socket's connection, and returns the socket as a file that is
// read and written by blocking system calls. What comes then wakes the thread that waits
// for it, and only that one. After an error c is closed too.
//
// [net.UnixConn.File] would not do. Its file is in the poller's epoll set, as c is,
// and stays there when it is made blocking: another thread would wake up twice for
// each message and find nothing to do (epoll(7), "edge-triggered"). Idle processors
// make that dear: it was half of what a small request cost.
func Take(c net.Conn) (*os.File, error) {
	defer c.Close()
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("take a connection of type %T", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("take a connection: %w", err)
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(old uintptr) {
		if fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); dupErr == nil {
			dupErr = unix.SetNonblock(fd, false)
		}
	})
	// Before the file is made: NewFile asks whether the descriptor blocks, and
	// leaves alone the poller if it does.
	if err = errors.Join(err, dupErr); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("take a connection: %w", err)
	}
	return os.NewFile(uintptr(fd), "unix socket"), nil
}

// Shutdown ends all reads and writes of a file that Take returned, at both ends.
func Shutdown(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var shutErr error
	err = raw.Control(func(fd uintptr) { shutErr = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	return errors.Join(err, shutErr)
}
