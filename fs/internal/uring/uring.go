// Package uring submits commands to files through an io_uring and collects how they
// ended: the little of io_uring(7) that a FUSE device needs, by raw system calls.
//
// A [Ring] is for one goroutine at a time. Which thread submits a command matters all
// the same, when the kernel finishes it in that thread's name: the thread has to live,
// locked (runtime.LockOSThread), for as long as its commands are under way.
package uring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/io_uring.h.
const (
	setupCQSize      = 1 << 3
	setupCoopTaskrun = 1 << 8
	setupTaskrunFlag = 1 << 9
	setupSQE128      = 1 << 10
	setupNoSQArray   = 1 << 16

	featSingleMmap = 1 << 0
	featNoDrop     = 1 << 1

	offSQRing = 0
	offSQEs   = 0x10000000

	enterGetEvents = 1 << 0

	sqTaskrun = 1 << 2 // a command is done, and enters the ring when we enter the kernel

	opRead     = 22
	opUringCmd = 46
)

// Sizes of struct io_uring_sqe with IORING_SETUP_SQE128, and of struct io_uring_cqe.
const (
	sqeSize = 128
	cqeSize = 16
)

// params is struct io_uring_params.
type params struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
		_                                                           uint64
	}
	cq struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
		_                                                           uint64
	}
}

// Ring is an io_uring.
type Ring struct {
	fd         int
	rings, sqe []byte // what is shared with the kernel

	sqHead, sqTail, sqFlags *atomic.Uint32
	sqMask, tail            uint32 // tail is ours; the kernel sees it when we enter
	cqHead, cqTail          *atomic.Uint32
	cqMask                  uint32
	cqes                    []byte
}

// Completion is how a command ended.
type Completion struct {
	Data   uint64 // as it was submitted
	Result int32  // negative: an errno
}

// Err is the error of a completion, if it is one.
func (c Completion) Err() error {
	if c.Result < 0 {
		return unix.Errno(-c.Result)
	}
	return nil
}

// New makes a ring to which that many commands can be submitted at a time, and in which
// twice as many can have ended. No more is lost than that: the kernel keeps the rest.
//
// Commands are finished by the thread that submitted them whenever it enters the kernel
// or sleeps interruptibly there, whatever for, and not only when it waits on the ring: so
// other threads see what has ended while that one is held up.
func New(entries int) (*Ring, error) {
	p := params{flags: setupSQE128 | setupNoSQArray | setupCoopTaskrun | setupTaskrunFlag | setupCQSize, cqEntries: uint32(2 * entries)}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &Ring{fd: int(fd)}
	if err := r.attach(&p); err != nil {
		return nil, errors.Join(fmt.Errorf("io_uring: %w", err), r.Close())
	}
	return r, nil
}

// attach maps what is shared with the kernel.
func (r *Ring) attach(p *params) (err error) {
	if want := uint32(featSingleMmap | featNoDrop); p.features&want != want {
		return errors.New("the kernel's is too old")
	}
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_POPULATE
	if r.rings, err = unix.Mmap(r.fd, offSQRing, int(p.cq.cqes+p.cqEntries*cqeSize), prot, flags); err != nil {
		return err
	}
	if r.sqe, err = unix.Mmap(r.fd, offSQEs, int(p.sqEntries*sqeSize), prot, flags); err != nil {
		return err
	}
	at := func(off uint32) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&r.rings[off])) }
	r.sqHead, r.sqTail, r.sqFlags, r.sqMask = at(p.sq.head), at(p.sq.tail), at(p.sq.flags), p.sqEntries-1
	r.cqHead, r.cqTail, r.cqMask = at(p.cq.head), at(p.cq.tail), p.cqEntries-1
	r.cqes = r.rings[p.cq.cqes:]
	return nil
}

// Close gives the ring back. Commands under way are cancelled, some time after.
func (r *Ring) Close() error {
	var errs []error
	for _, mem := range [][]byte{r.rings, r.sqe} {
		if mem != nil {
			errs = append(errs, unix.Munmap(mem))
		}
	}
	r.rings, r.sqe = nil, nil
	return errors.Join(append(errs, unix.Close(r.fd))...)
}

// Full reports whether nothing can be added until Enter has submitted what was.
func (r *Ring) Full() bool { return r.tail-r.sqHead.Load() > r.sqMask }

// next is the next free submission, cleared; Enter submits it. There must be one.
func (r *Ring) next() []byte {
	if r.Full() {
		panic("uring: added to a full ring")
	}
	i := int(r.tail&r.sqMask) * sqeSize
	r.tail++
	sqe := r.sqe[i : i+sqeSize]
	clear(sqe)
	return sqe
}

// Read adds a read of a file at its position into buf, which must not be Go's memory.
func (r *Ring) Read(data uint64, fd int, buf []byte) {
	sqe := r.next()
	sqe[0] = opRead
	binary.NativeEndian.PutUint32(sqe[4:], uint32(fd))
	binary.NativeEndian.PutUint64(sqe[8:], ^uint64(0))
	binary.NativeEndian.PutUint64(sqe[16:], uint64(uintptr(unsafe.Pointer(unsafe.SliceData(buf)))))
	binary.NativeEndian.PutUint32(sqe[24:], uint32(len(buf)))
	binary.NativeEndian.PutUint64(sqe[32:], data)
}

// Command adds a command of a file's own (IORING_OP_URING_CMD), with addr and length as
// it takes them, and returns where its arguments go.
func (r *Ring) Command(data uint64, fd int, op uint32, addr uintptr, length int) []byte {
	sqe := r.next()
	sqe[0] = opUringCmd
	binary.NativeEndian.PutUint32(sqe[4:], uint32(fd))
	binary.NativeEndian.PutUint32(sqe[8:], op)
	binary.NativeEndian.PutUint64(sqe[16:], uint64(addr))
	binary.NativeEndian.PutUint32(sqe[24:], uint32(length))
	binary.NativeEndian.PutUint64(sqe[32:], data)
	return sqe[48:]
}

// Pending reports whether something was added that Enter has not submitted.
func (r *Ring) Pending() bool { return r.tail != r.sqHead.Load() }

// Enter submits what was added, and waits until one command has ended if told to. It may
// return sooner: on a signal, say.
func (r *Ring) Enter(wait bool) error {
	r.sqTail.Store(r.tail)
	submit, flags, n := r.tail-r.sqHead.Load(), uintptr(0), uintptr(0)
	if wait {
		flags, n = enterGetEvents, 1
	}
	// Not RawSyscall: while we wait, Go must be able to stop the world.
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(submit), n, flags, 0, 0)
	switch errno {
	case 0, unix.EINTR, unix.EAGAIN, unix.EBUSY: // the latter two: look at what has ended first
		return nil
	}
	return fmt.Errorf("io_uring_enter: %w", errno)
}

// Ended takes out the next command that has ended.
func (r *Ring) Ended() (Completion, bool) {
	head := r.cqHead.Load()
	if head == r.cqTail.Load() {
		return Completion{}, false
	}
	c := r.completion(head)
	r.cqHead.Store(head + 1)
	return c, true
}

// More reports whether commands have ended that Ended has not returned.
func (r *Ring) More() bool {
	return r.cqHead.Load() != r.cqTail.Load() || r.sqFlags.Load()&sqTaskrun != 0
}

// Failed returns the first error among the commands that have ended and that Ended has
// not returned, and leaves them there.
func (r *Ring) Failed() error {
	for i := r.cqHead.Load(); i != r.cqTail.Load(); i++ {
		if err := r.completion(i).Err(); err != nil {
			return err
		}
	}
	return nil
}

func (r *Ring) completion(i uint32) Completion {
	cqe := r.cqes[int(i&r.cqMask)*cqeSize:]
	return Completion{Data: binary.NativeEndian.Uint64(cqe), Result: int32(binary.NativeEndian.Uint32(cqe[8:]))}
}

// FD is the ring's descriptor.
func (r *Ring) FD() int { return r.fd }
