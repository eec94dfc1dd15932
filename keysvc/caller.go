package keysvc

import (
	"crypto/tls"
	"net"
	"net/netip"

	"kmsfs.dev/kmsfs/internal/peercred"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// Caller is who asks: a principal, and how it was identified.
type Caller struct {
	policy.Principal
	// Peer is the process at the other end of the unix socket; nil for a caller
	// who was identified by a signature.
	Peer *Peer
	// Remote is where a signed request came from; nil for a local caller.
	Remote *Remote
	// UserAgent is what the client says it is; "" within a batch.
	UserAgent string
	// RequestID is the request's, for GetKeyLastUsage; "" within a batch.
	RequestID string
	// ViaService is the service that asks on the caller's behalf, as in
	// ec2.us-east-1.amazonaws.com. It never comes from a request.
	ViaService string

	call *call // the call in hand, which will be recorded
}

// Peer is a process of this machine, as the kernel reported it when it connected.
type Peer struct {
	UID uint32
	// PID is for people who read logs: it may have been reused since.
	PID int32
}

// Remote is the other end of a network connection, and the access key that signed.
type Remote struct {
	AccessKeyID string
	Addr        netip.Addr
	// TLS is nil on plain HTTP.
	TLS *tls.ConnectionState
}

// LocalCaller is the caller that a user of this machine is: the account root
// for the superuser and for the user whose service this is, and for everybody
// else an IAM user under the path local/. The unique id of that one is made of the
// user's number: it comes back with the number, as all that the user owns does.
func (s *Service) LocalCaller(uid uint32) Caller {
	c := Caller{Peer: &Peer{UID: uid}}
	if uid == 0 || uid == s.owner {
		c.Principal = accountRoot(Account)
		return c
	}
	c.Principal = localUser(uid).Principal()
	return c
}

// peerCaller is who connected.
func (s *Service) peerCaller(c net.Conn) (Caller, error) {
	cred, err := peercred.Of(c)
	if err != nil {
		return Caller{}, err
	}
	caller := s.LocalCaller(cred.Uid)
	caller.Peer.PID = cred.Pid
	return caller, nil
}
