package keysvc

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// TestPeerCaller: the kernel says who is at the other end of a unix socket. Where it does
// not, there is no caller.
func TestPeerCaller(t *testing.T) {
	svc := openQuiet(t, t.TempDir(), false)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := svc.peerCaller(far)
	if err != nil || c.Peer == nil || c.Peer.UID != uint32(os.Getuid()) || c.Peer.PID != int32(os.Getpid()) || c.ARN != svc.LocalCaller(c.Peer.UID).ARN {
		t.Errorf("the caller is %+v, %v", c, err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	pipe, _ := net.Pipe()
	for want, conn := range map[string]net.Conn{
		"a pipe connection has no peer credentials":               pipe,
		"peer credentials: invalid argument":                      new(net.UnixConn),
		"peer credentials: raw-control unix " + l.Addr().String(): far, // closed
	} {
		c, err := svc.peerCaller(conn)
		if err == nil || !strings.HasPrefix(err.Error(), want) || c.Peer != nil || c.Type != policy.Anonymous {
			t.Errorf("%+v, %v, not %s", c, err, want)
		}
	}
}

// TestOnlyPeersActForOthers: who has no process on this machine is nobody else, whatever
// the policies say.
func TestOnlyPeersActForOthers(t *testing.T) {
	svc := openQuiet(t, t.TempDir(), false)
	root := svc.LocalCaller(0)
	root.call = new(call)
	if _, err := svc.actAs(root, 1); err != nil {
		t.Error(err)
	}
	root.Peer = nil
	for _, uid := range []uint32{0, 1} {
		c, err := svc.actAs(root, uid)
		var e *kmsapi.Error
		if !errors.As(err, &e) || e.Code != kmsapi.CodeAccessDenied || !strings.HasSuffix(e.Message, "because only the superuser and forwarders act for others") || c.Type != policy.Anonymous {
			t.Errorf("the root user from elsewhere as %d: %+v, %v", uid, c, err)
		}
	}
}
