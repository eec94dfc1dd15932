// Package fusedev mounts the kernel's FUSE device and serves requests from it.
//
// What a request means is go-fuse's affair (fuse.ProtocolServer); here is only
// how it gets from the kernel to a handler and back, which decides what a round
// trip costs. There are two transports: see [queue] for io_uring, and the rest here is
// of the device, which both use for what the kernel sends no other way (FORGET,
// INTERRUPT) and for notifications.
//
// One goroutine at a time reads the device. A request that will be
// answered at once, as the last of its kind was, it answers itself, and then looks
// for the next for a moment before it sleeps: a program that works through a tree
// sends its next request within microseconds, and waking a thread for each would
// cost more than answering it. Before a request that takes longer, and where others are
// seen to wait, it passes the reading on first; and where an answer takes longer than
// was thought, a watchdog does.
package fusedev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Handler answers the request in, filling out, and returns how many bytes of
// it are the reply; 0 if there is none. With an errno there is no other reply.
type Handler func(in, out [][]byte) (n int, errno unix.Errno)

// Options of a mount.
type Options struct {
	Mountpoint string
	Source     string  // what mount(8) lists
	Subtype    string  // the type listed is fuse.<Subtype>
	Flags      uintptr // of mount(2); not root: only those that fusermount3 knows
	AllowOther bool    // others than the mounting user may look
	MaxRequest int     // most bytes of a read or write

	Transport Transport

	Handle Handler
	// QuickSize is how many bytes a request or its reply may have to be answered
	// in microseconds: none is read meanwhile.
	QuickSize int
	Log       *slog.Logger

	shortPayloads bool // tests only: queues that the kernel refuses
}

// Conn is a mounted device.
type Conn struct {
	o  Options
	fd int

	turn  sync.Mutex // held by the loop that reads
	spin  spinner    // guarded by turn
	crowd crowd      // guarded by turn
	watch watchdog
	pace  pace

	requests atomic.Int64 // how many were read

	mu      sync.Mutex
	waiting int // loops that wait for their turn; guarded by mu

	// Where requests come over io_uring:
	queues []*queue
	dev    uint64 // the mount's device number
	failed sync.Once

	spare sync.Pool // of *buffers
	loops sync.WaitGroup

	// Notifications come from outside of the loops and perhaps after their end,
	// when fd is closed and its number may be another file's.
	notifying sync.RWMutex
	closed    bool // guarded by notifying
}

// maxWaiting bounds the loops kept ready; each has buffers of its own.
const maxWaiting = 2

// Mount mounts, answers the kernel's first request (INIT), and serves the others
// in the background until the mount is gone.
func Mount(o Options) (*Conn, error) {
	// mount(2) follows symlinks, and umount2(2) shall not: it must be told the
	// same place.
	mountpoint, err := filepath.EvalSymlinks(o.Mountpoint)
	if err != nil {
		return nil, err
	}
	o.Mountpoint = mountpoint
	c, err := mount(o)
	if o.Transport == Auto && errors.Is(err, errQueues) {
		o.Log.Warn("io_uring failed; requests come by reads of the device", "err", err)
		o.Transport = Dev
		c, err = mount(o)
	}
	return c, err
}

func mount(o Options) (*Conn, error) {
	fd, err := open(&o)
	if err != nil {
		return nil, err
	}
	c := &Conn{o: o, fd: fd, spin: newSpinner(), watch: newWatchdog()}
	if err := c.init(); err != nil {
		c.closeQueues()
		return nil, errors.Join(err, unix.Close(fd), unmountDead(o.Mountpoint))
	}
	c.loops.Add(1)
	go c.loop()
	go c.watch.guard(func() {
		c.crowd.met() // the turn is ours; others may have come, each as slow
		c.passTurn()
	}, func() {})
	go func() {
		c.loops.Wait()
		close(c.watch.done)
		c.closeQueues()
		c.notifying.Lock()
		defer c.notifying.Unlock()
		c.closed = true
		unix.Close(fd)
	}()
	return c, nil
}

// init answers INIT. Where requests are to come over io_uring, they do when it returns.
func (c *Conn) init() error {
	b := c.getBuffers()
	defer c.spare.Put(b)
	n, err := c.read(b.in, 0)
	for err == unix.EINTR {
		n, err = c.read(b.in, 0)
	}
	if err == nil && (n < headerIn || opcode(b.in) != opInit) {
		err = errors.New("the kernel's first request is not INIT")
	}
	if err != nil {
		return err
	}
	reply := c.answer(b, n)
	if len(reply) < headerOut {
		return errors.New("no answer to the kernel's first request")
	}
	status := int32(binary.NativeEndian.Uint32(reply[4:]))
	if status == 0 && c.o.Transport != Dev {
		// What the kernel is told here cannot be taken back: the queues come first.
		if err := c.newQueues(b.in[:n], reply); err != nil && c.o.Transport == Uring {
			return err
		} else if err != nil {
			c.o.Log.Info("requests come by reads of the device", "because", err)
		}
	}
	if err := c.send(reply); err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("the kernel speaks another version of FUSE: %w", unix.Errno(-status))
	}
	return c.startQueues()
}

// Wait returns when the mount is gone, by whatever hand, and every request has
// been answered.
func (c *Conn) Wait() { c.loops.Wait() }

func (c *Conn) loop() {
	defer c.loops.Done()
	b := c.getBuffers()
	defer c.spare.Put(b)
	reading := false
	var last uint32 // opcode of the request that was answered just now, if any
	for {
		if !reading {
			if !c.takeTurn() {
				return
			}
			last = 0
		}
		reading = true
		n, err := c.read(b.in, last)
		switch err {
		case nil:
		case unix.EINTR, unix.EAGAIN, unix.ENOENT: // a signal, or the request was taken back
			continue
		default:
			if err != unix.ENODEV { // which means that the mount is gone
				c.o.Log.Error("reading from the FUSE device failed", "err", err)
			}
			c.turn.Unlock()
			return
		}
		nth := c.requests.Add(1)
		op, start := opcode(b.in), c.watch.now()
		last = op
		reading = c.quick(b, n) && c.watch.begin(start)
		if !reading {
			c.passTurn()
		}
		if err := c.send(c.answer(b, n)); err != nil {
			c.o.Log.Error("a reply to the kernel failed", "opcode", op, "err", err)
		}
		took := c.watch.now() - start
		c.pace.note(op, took)
		if reading {
			reading = c.watch.end(start)
			// It harms nobody to have been slow if nobody waits.
			if took > int64(watchSlow) && (c.requests.Load() != nth || reading && c.readable()) {
				c.watch.pause()
			}
		}
	}
}

// quick reports whether the request is to be answered before the next is read.
// Others that wait need another loop, unless nobody waits for this one's answer.
// Holds: c.turn.
func (c *Conn) quick(b *buffers, n int) bool {
	op := opcode(b.in)
	if c.pace.slow(op) || max(n, payload(op, b.in[min(headerIn, n):n])) > c.o.QuickSize {
		return false
	}
	if unawaited(op) || !c.crowd.near() || !c.readable() {
		return true
	}
	c.crowd.met()
	return false
}

// unawaited reports whether a caller goes on without an answer, perhaps with its next
// request.
func unawaited(op uint32) bool {
	switch op {
	case opRelease, opReleaseDir, opForget, opBatchForget:
		return true
	}
	return false
}

// takeTurn waits until it is the caller's turn to read; false if there are
// enough who wait.
func (c *Conn) takeTurn() bool {
	c.mu.Lock()
	if c.waiting >= maxWaiting {
		c.mu.Unlock()
		return false
	}
	c.waiting++
	c.mu.Unlock()
	c.turn.Lock()
	c.mu.Lock()
	c.waiting--
	c.mu.Unlock()
	return true
}

// passTurn lets another loop read, a new one if none is waiting.
func (c *Conn) passTurn() {
	c.mu.Lock()
	if c.waiting == 0 {
		c.loops.Add(1)
		go c.loop()
	}
	c.mu.Unlock()
	c.turn.Unlock()
}

// buffers of one loop.
type buffers struct {
	in, out, large []byte
	inv, outv      [1][]byte
}

// Sizes of struct fuse_in_header and fuse_out_header, and room for the largest
// fixed part of a request or reply (linux/fuse.h).
const (
	headerIn    = 40
	writeHeader = headerIn + 40 // with struct fuse_write_in
	headerOut   = 16
	fixedPart   = 4096

	smallReply = headerOut + fixedPart + 4096
)

// getBuffers returns the buffers of a loop that has ended, or new ones.
func (c *Conn) getBuffers() *buffers {
	if b, ok := c.spare.Get().(*buffers); ok {
		return b
	}
	// The kernel refuses to fill a buffer that its largest write would not fit.
	return &buffers{in: aligned(writeHeader, fixedPart+c.o.MaxRequest), out: make([]byte, smallReply)}
}

// aligned makes a buffer of at least size bytes in which what follows the first
// header bytes begins on a page. The kernel copies data page by page: beside
// the pages' bounds each would take two goes.
func aligned(header, size int) []byte {
	page := os.Getpagesize()
	b := make([]byte, size+page)
	at := int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) + header
	return b[(page-at%page)%page:]
}

// reply returns a buffer for the reply to the request in b.in.
func (b *buffers) reply(n int) []byte {
	size := headerOut + fixedPart + payload(opcode(b.in), b.in[min(headerIn, n):n])
	if size <= len(b.out) {
		return b.out
	}
	if size > len(b.large) {
		b.large = aligned(headerOut, size)
	}
	return b.large
}

// The opcodes of linux/fuse.h that matter here.
const (
	opForget      = 2
	opRead        = 15
	opRelease     = 18
	opGetXattr    = 22
	opListXattr   = 23
	opInit        = 26
	opReadDir     = 28
	opReleaseDir  = 29
	opInterrupt   = 36
	opIoctl       = 39
	opNotifyReply = 41
	opBatchForget = 42
	opReadDirPlus = 44
)

func opcode(in []byte) uint32 { return binary.NativeEndian.Uint32(in[4:]) }

// payload is how many bytes of variable length the reply to a request may have, given
// what follows its header.
func payload(op uint32, args []byte) int {
	at := 0
	switch op {
	case opRead, opReadDir, opReadDirPlus:
		at = 16 // struct fuse_read_in: fh, offset, size
	case opGetXattr, opListXattr:
		at = 0 // struct fuse_getxattr_in: size
	case opIoctl:
		at = 28 // struct fuse_ioctl_in: fh, flags, cmd, arg, in_size, out_size
	default:
		return 0
	}
	if len(args) < at+4 {
		return 0
	}
	return int(min(binary.NativeEndian.Uint32(args[at:]), maxPayload))
}

// maxPayload is more than the kernel asks for at a time, in bytes.
const maxPayload = 64 << 20

// answer has a request of n bytes answered and returns the reply; it is empty if nobody
// waits for one.
func (c *Conn) answer(b *buffers, n int) []byte {
	b.inv[0], b.outv[0] = b.in[:n], b.reply(n)
	size, errno := c.o.Handle(b.inv[:], b.outv[:])
	out := b.outv[0]
	if errno != 0 {
		switch opcode(b.in) {
		case opForget, opBatchForget, opInterrupt, opNotifyReply:
			return nil
		}
		// The caller must not wait for ever.
		size = headerOut
		putHeader(out, size, -int32(errno), binary.NativeEndian.Uint64(b.in[8:]))
	}
	return out[:size]
}

// send sends a reply, if there is one.
func (c *Conn) send(reply []byte) error {
	if len(reply) == 0 {
		return nil
	}
	for {
		_, err := unix.Write(c.fd, reply)
		switch err {
		case unix.EINTR:
			continue
		case unix.ENOENT, unix.ENODEV: // nobody waits for it any more
			return nil
		}
		return err
	}
}

// putHeader fills in a struct fuse_out_header.
func putHeader(out []byte, size int, status int32, unique uint64) {
	binary.NativeEndian.PutUint32(out, uint32(size))
	binary.NativeEndian.PutUint32(out[4:], uint32(status))
	binary.NativeEndian.PutUint64(out[8:], unique)
}
