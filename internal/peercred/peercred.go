// Package peercred tells who is at the other end of a unix socket.
package peercred

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Of asks the kernel who connected, or for a client who listens (SO_PEERCRED, unix(7)).
// The answer was fixed at connect(2): a descriptor passed on, or a later setuid, does not
// change it. Connections other than those of unix sockets have none.
func Of(c net.Conn) (*unix.Ucred, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("a %s connection has no peer credentials", c.LocalAddr().Network())
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return nil, fmt.Errorf("peer credentials: %w", err)
	}
	return cred, nil
}
