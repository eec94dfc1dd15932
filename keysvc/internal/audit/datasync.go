package audit

import (
	"fmt"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncer makes files durable without a thread that waits for the disk: Go's scheduler
// takes one in fdatasync(2) for busy, and gives its processor to nobody for a while. The
// kernel does it by itself (io_submit(2), IOCB_CMD_FDSYNC) and tells an eventfd(2),
// for which the runtime's poller waits. Where the kernel does not, a thread waits.
type syncer struct {
	mu        sync.Mutex // one sync at a time; guards what follows
	queue     uintptr    // aio_context_t; 0 if there is none
	done      *os.File   // the eventfd: something submitted is complete
	submitted uint64     // how many were, the number of the last
}

// newSyncer returns one that is usable in any case.
func newSyncer() *syncer {
	s := new(syncer)
	const room = 1 // for what is submitted at a time
	if _, _, e := unix.Syscall(unix.SYS_IO_SETUP, room, uintptr(unsafe.Pointer(&s.queue)), 0); e != 0 {
		s.queue = 0
		return s
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		s.destroy()
		return s
	}
	s.done = os.NewFile(uintptr(fd), "eventfd")
	return s
}

// close gives back what the kernel has. After it a thread waits.
func (s *syncer) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue == 0 {
		return nil
	}
	s.destroy()
	return s.done.Close()
}

func (s *syncer) destroy() {
	// It fails only for what is no queue.
	_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, s.queue, 0, 0)
	s.queue = 0
}

// datasync is fdatasync(2), which includes a file's new size.
func (s *syncer) datasync(f *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue != 0 {
		if err := s.submit(f); err == nil {
			return s.await()
		}
		// Some filesystems cannot, and the kernel may have no memory for it: whatever
		// is wrong with the file itself, fdatasync will tell.
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	if err := raw.Control(func(fd uintptr) {
		for {
			if syncErr = unix.Fdatasync(int(fd)); syncErr != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	return os.NewSyscallError("fdatasync", syncErr)
}

// iocb is the kernel's struct iocb (linux/aio_abi.h).
type iocb struct {
	data           uint64
	_              [2]uint32 // aio_key and aio_rw_flags, in an order that depends on the machine
	opcode         uint16
	_              int16
	fd             uint32
	_              [4]uint64 // of reads and writes
	flags, eventFD uint32
}

const (
	fdsync      = 3 // IOCB_CMD_FDSYNC
	tellEventFD = 1 // IOCB_FLAG_RESFD
)

// submit has the kernel begin, which then keeps f open.
func (s *syncer) submit(f *os.File) error {
	file, err := f.SyscallConn()
	if err != nil {
		return err
	}
	done, err := s.done.SyscallConn()
	if err != nil {
		return err
	}
	s.submitted++
	cb := &iocb{data: s.submitted, opcode: fdsync, flags: tellEventFD}
	var e unix.Errno
	err = file.Control(func(fd uintptr) {
		err = done.Control(func(eventFD uintptr) {
			cb.fd, cb.eventFD = uint32(fd), uint32(eventFD)
			_, _, e = unix.Syscall(unix.SYS_IO_SUBMIT, s.queue, 1, uintptr(unsafe.Pointer(&cb)))
		})
	})
	if err == nil && e != 0 {
		err = e
	}
	return err
}

// ioEvent is the kernel's struct io_event.
type ioEvent struct {
	data, iocb   uint64
	result, more int64
}

// await returns the result of what was submitted last. What was before it may have been
// given up on.
func (s *syncer) await() error {
	for {
		var count [8]byte
		if _, err := io.ReadFull(s.done, count[:]); err != nil {
			return fmt.Errorf("wait for the disk: %w", err)
		}
		for {
			e, ok, err := s.next()
			switch {
			case err != nil:
				return err
			case ok && e.data == s.submitted && e.result < 0:
				return os.NewSyscallError("fdatasync", unix.Errno(-e.result))
			case ok && e.data == s.submitted:
				return nil
			}
			if !ok {
				break
			}
		}
	}
}

// next is a completion that nobody has seen, if there is one.
func (s *syncer) next() (e ioEvent, ok bool, err error) {
	var now unix.Timespec
	for {
		n, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, s.queue, 0, 1, uintptr(unsafe.Pointer(&e)), uintptr(unsafe.Pointer(&now)), 0)
		switch errno {
		case 0:
			return e, n == 1, nil
		case unix.EINTR:
		default:
			return e, false, os.NewSyscallError("io_getevents", errno)
		}
	}
}
