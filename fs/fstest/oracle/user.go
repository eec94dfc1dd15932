package oracle

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is who does an operation.
type User struct {
	UID, GID int
	Groups   []int
}

// actor does work on a thread of its own that has one user's identity.
type actor struct {
	work chan func()
	done chan error
}

// newActor starts a thread for a user, or for the process's own identity when
// u is nil. The raw system calls change the one thread, where the syscall
// package would change every thread of the process. The thread never gives
// the identity back: it ends with its goroutine.
func newActor(u *User) (*actor, error) {
	a := &actor{work: make(chan func()), done: make(chan error)}
	go func() {
		runtime.LockOSThread()
		// A mapped file that lost its tail raises SIGBUS. As a panic, it is one
		// operation's result.
		debug.SetPanicOnFault(true)
		a.done <- become(u)
		for f := range a.work {
			a.done <- protect(f)
		}
	}()
	return a, <-a.done
}

func become(u *User) error {
	if u == nil || u.UID == 0 {
		return nil
	}
	groups := make([]uint32, len(u.Groups)+1)
	for i, g := range u.Groups {
		groups[i] = uint32(g)
	}
	_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(u.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if e == 0 {
		_, _, e = unix.RawSyscall(unix.SYS_SETRESGID, uintptr(u.GID), uintptr(u.GID), uintptr(u.GID))
	}
	if e == 0 {
		_, _, e = unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.UID), uintptr(u.UID), uintptr(u.UID))
	}
	if e != 0 {
		return fmt.Errorf("become uid %d: %w", u.UID, e)
	}
	return nil
}

func protect(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("fault: %v", p)
		}
	}()
	f()
	return nil
}

func (a *actor) do(f func()) error {
	a.work <- f
	return <-a.done
}

func (a *actor) close() { close(a.work) }
