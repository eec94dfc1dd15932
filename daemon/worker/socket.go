package worker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/internal/peercred"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// SocketPath is where the worker of a volume listens, for a state directory as
// kmsclient.StateDir takes it.
func SocketPath(stateDir, volume string) (string, error) {
	keysvc, err := kmsclient.SocketPath(stateDir)
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(keysvc), "mounts", volume+".sock"), nil
}

// short calls do with a name for path that fits into a unix address, whose 108 bytes a
// state directory's own path may come close to.
func short(path string, do func(short string) error) error {
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), filepath.Base(path)))
}

// listen binds path. What is there is a dead worker's: the caller has the volume
// locked.
func listen(path string) (l *net.UnixListener, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	err = short(path, func(short string) error {
		if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"}); err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // its name is of a descriptor that will be closed
		return os.Chmod(short, 0o600)
	})
	if err != nil && l != nil {
		l.Close()
	}
	return l, err
}

// dial connects to the worker that listens on path.
func dial(path string) (conn net.Conn, err error) {
	err = short(path, func(short string) error {
		conn, err = net.Dial("unix", short)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the worker does not answer on %s: %w", path, err)
	}
	if err := checkPeer(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return conn, nil
}

// errStranger says who is not talked to.
var errStranger = errors.New("at the other end of the socket is another user")

// checkPeer lets root and this process's own user pass.
func checkPeer(conn net.Conn) error {
	cred, err := peercred.Of(conn)
	if err != nil {
		return err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("%w (uid %d)", errStranger, cred.Uid)
	}
	return nil
}
