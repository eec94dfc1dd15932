package kmsclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/internal/peercred"
)

// ErrImpostor says that somebody else's process answered on the socket.
var ErrImpostor = errors.New("the process behind the key service's socket is not the key service's")

// connect opens a connection and checks who is at its other end.
func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	conn, err := dialUnix(ctx, c.socket)
	if err != nil {
		return nil, err
	}
	if err := c.checkPeer(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// dialUnix waits for room in the listener's backlog, which a unix socket
// reports as EAGAIN instead of blocking.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	for deadline := time.Now().Add(upgradeTimeout); ; {
		conn, err := d.DialContext(ctx, "unix", path)
		if !errors.Is(err, unix.EAGAIN) || time.Now().After(deadline) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// checkPeer accepts a service of the state directory's owner or of root. Any
// user could put a socket into a shared directory and collect plaintexts.
func (c *Client) checkPeer(conn net.Conn) error {
	cred, err := peercred.Of(conn)
	if err != nil {
		return err
	}
	want, err := ownerOf(c.stateDir)
	if err != nil {
		return err
	}
	if cred.Uid != 0 && cred.Uid != want {
		return fmt.Errorf("%w: %s is served by uid %d, not by uid %d or root", ErrImpostor, c.socket, cred.Uid, want)
	}
	c.peer.Store(cred)
	return nil
}

// foreign is the error for a peer that answered, but not as the service does.
func (c *Client) foreign(cause error) error {
	peer := c.peer.Load()
	return fmt.Errorf("process %d of uid %d answers on %s, but not as a key service of this version does: stop what listens there, or give another --state-dir: %w", peer.Pid, peer.Uid, c.socket, cause)
}

// ownerOf is the owner of a state directory; of one that does not exist yet,
// this process's user, who would make it.
func ownerOf(stateDir string) (uint32, error) {
	st, err := os.Stat(stateDir)
	if errors.Is(err, os.ErrNotExist) {
		return uint32(os.Geteuid()), nil
	}
	if err != nil {
		return 0, fmt.Errorf("state directory: %w", err)
	}
	return st.Sys().(*syscall.Stat_t).Uid, nil
}

// nobodyAnswers tells whether a failed connect means that no service runs.
func nobodyAnswers(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
}

// dial is connect, and starts the service when none answers and it may.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.connect(ctx)
	if err == nil {
		return conn, nil
	}
	if !nobodyAnswers(err) {
		return nil, fmt.Errorf("connect to the key service: %w", err)
	}
	if !c.opts.Autostart {
		return nil, fmt.Errorf("no key service answers on %s: start it with `kmsfs keysvc serve`: %w", c.socket, err)
	}
	return c.autostart(ctx)
}
