package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of seccomp(2) and seccomp_unotify(2), where x/sys has no names.
const (
	setModeFilter     = 1
	flagNewListener   = 8
	retAllow          = 0x7fff0000
	retUserNotify     = 0x7fc00000
	ioctlReceive      = 0xc0502100
	ioctlSend         = 0xc0182101
	notificationSize  = 80
	offsetOfNumber    = 0 // of the system call in seccomp_data
	notificationWords = notificationSize / 8
)

type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// watched runs a program under a filter that suspends its syncfs calls, and
// hands the filter's listener to the recorder. It returns only with an error.
func watched(socket string, args []string) error {
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	conn := c.(*net.UnixConn)
	// The filter holds for this thread, which the program then replaces.
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetOfNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SYNCFS, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: retUserNotify},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, flagNewListener, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	if _, err := conn.Write([]byte("watch\n")); err != nil {
		return err
	}
	// The recorder asks for the descriptor in a message of its own, so that a
	// buffered reader can not swallow it.
	reply := bufio.NewReader(conn)
	if _, err := reply.ReadString('\n'); err != nil {
		return err
	}
	if _, _, err := conn.WriteMsgUnix([]byte("f"), unix.UnixRights(int(fd)), nil); err != nil {
		return err
	}
	line, err := reply.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ok" {
		return fmt.Errorf("recorder: %q, %v", line, err)
	}
	return unix.Exec(program, args, os.Environ())
}

// receive takes the listener that watched sends.
func receive(c *net.UnixConn) (int, error) {
	if _, err := fmt.Fprintln(c, "send"); err != nil {
		return -1, err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("no descriptor came: %v", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

// watch answers the suspended calls with success, after each was reported,
// until the filter has no more processes.
func watch(fd int, report func()) {
	defer unix.Close(fd)
	for {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err != nil && err != unix.EINTR {
			log.Print(err)
			return
		}
		if ready[0].Revents&unix.POLLIN == 0 {
			if ready[0].Revents&unix.POLLHUP != 0 {
				return
			}
			continue
		}
		var notification [notificationWords]uint64
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlReceive, uintptr(unsafe.Pointer(&notification)))
		if e != 0 {
			continue // the caller is gone
		}
		report()
		answer := response{id: notification[0]}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlSend, uintptr(unsafe.Pointer(&answer)))
	}
}
