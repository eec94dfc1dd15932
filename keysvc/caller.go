package keysvc

import (
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// Caller is who asks: a principal, and how it was identified.
type Caller struct {
	// ARN is the principal: the account root for the superuser, a user under
	// the path local/ for everybody else on this machine.
	ARN string
	// UID is the user id that the kernel reported for the peer.
	UID uint32
	// PID is the peer's process when it connected. It is for people who read
	// logs: it may have been reused since.
	PID int32
	// RequestID is the request's, for GetKeyLastUsage; "" within a batch.
	RequestID string
}

// LocalCaller is the principal of a user of this machine.
func LocalCaller(uid uint32) Caller {
	arn := "arn:aws:iam::" + Account + ":"
	if uid == 0 {
		arn += "root"
	} else {
		arn += "user/local/" + strconv.FormatUint(uint64(uid), 10)
	}
	return Caller{ARN: arn, UID: uid}
}

// peerCaller asks the kernel who connected. The answer was fixed at connect(2):
// a descriptor passed on, or a later setuid, does not change it.
func peerCaller(c net.Conn) (Caller, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Caller{}, fmt.Errorf("a %s connection has no peer credentials", c.LocalAddr().Network())
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", err)
	}
	if credErr != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", credErr)
	}
	caller := LocalCaller(cred.Uid)
	caller.PID = cred.Pid
	return caller, nil
}
