package keysvctest

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// DialAs connects to a unix socket as user uid, so that this is the uid which
// the peer sees. Another uid than the test's own needs root.
func DialAs(socket string, uid uint32) (net.Conn, error) {
	if uid == uint32(os.Geteuid()) {
		return net.Dial("unix", socket)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), socket)
	defer f.Close()
	if err := connectAs(fd, socket, uid); err != nil {
		return nil, fmt.Errorf("connect as uid %d: %w", uid, err)
	}
	return net.FileConn(f) // a duplicate; the credentials stay
}

// connectAs changes the effective uid of this thread only: the raw system call
// does not do what libc and package unix do, which is to change all threads.
func connectAs(fd int, socket string, uid uint32) (err error) {
	runtime.LockOSThread()
	if err := setThreadEUID(uid); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	if back := setThreadEUID(uint32(os.Getuid())); back != nil {
		return back // the thread stays locked, and dies with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

func setThreadEUID(uid uint32) error {
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
		return errno
	}
	return nil
}
