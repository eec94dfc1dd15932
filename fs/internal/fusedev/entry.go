package fusedev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The layout of struct fuse_uring_req_header, and what is behind it in an entry's memory.
const (
	headOpIn     = 128 // at 0 is the header of the request, and then of its answer
	headInOut    = 256 // struct fuse_uring_ent_in_out: flags, commit_id, payload_sz
	headCommitID = headInOut + 8
	headPayload  = headInOut + 16
	headSize     = 288
	headVec      = headSize // struct iovec[2] for registering
	headRoom     = 512

	maxOpIn = headInOut - headOpIn
)

// Commands (enum fuse_uring_cmd), and where in their arguments, struct fuse_uring_cmd_req,
// there is what.
const (
	cmdRegister  = 1
	cmdCommit    = 2 // and fetch the next request
	argsCommitID = 8
	argsQueueID  = 16
)

// entry has room for one request and its answer.
type entry struct {
	index         int
	head, payload []byte // shared with the kernel
	aside         []byte
	in            [3][]byte
	out           [2][]byte
}

// allocate gets memory outside of Go's, which keeps its place and is taken from the system
// page by page as it is used. Holds: q.turn.
func (q *queue) allocate(size int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("memory for requests: %w", err)
	}
	q.memory = append(q.memory, mem)
	// Requests hold plaintext. What else there is to be done for that, the process does for
	// all its memory (secret.HardenProcess). Most of them are small.
	return mem, errors.Join(unix.Madvise(mem, unix.MADV_DONTDUMP), ignoreInval(unix.Madvise(mem, unix.MADV_NOHUGEPAGE)))
}

// makeEntries makes a chunk of entries. Holds: q.turn.
func (q *queue) makeEntries() error {
	heads, err := q.allocate(chunk * headRoom)
	if err != nil {
		return err
	}
	payloads, err := q.allocate(chunk * q.size)
	if err != nil {
		return err
	}
	for i := range chunk {
		q.fresh = append(q.fresh, &entry{head: heads[i*headRoom:][:headRoom], payload: payloads[i*q.size:][:q.size]})
	}
	return nil
}

// ignoreInval drops the error of a kernel that does not know what it was asked for.
func ignoreInval(err error) error {
	if err == unix.EINVAL {
		return nil
	}
	return err
}

// register makes the fresh entries known to the kernel, and returns why it does not want
// them. Holds: q.turn.
func (q *queue) register() error {
	for _, e := range q.fresh {
		if !q.room() {
			break
		}
		e.index = len(q.entries)
		q.entries = append(q.entries, e)
		vec := (*[2]unix.Iovec)(unsafe.Pointer(&e.head[headVec]))
		vec[0].Base, vec[1].Base = &e.head[0], &e.payload[0]
		vec[0].SetLen(headSize)
		vec[1].SetLen(len(e.payload))
		args := q.ring.Command(uint64(e.index), q.c.fd, cmdRegister, uintptr(unsafe.Pointer(vec)), len(vec))
		binary.NativeEndian.PutUint16(args[argsQueueID:], uint16(q.id))
		q.live++
	}
	q.fresh = nil
	for q.ring.Pending() && !q.over {
		q.enter(false)
	}
	if q.over {
		return errors.New("the ring does not work")
	}
	return q.ring.Failed()
}

// grow makes more entries. Holds: q.turn.
func (q *queue) grow() {
	if err := q.makeEntries(); err != nil {
		q.full = true
		q.c.o.Log.Warn("no more requests at a time", "queue", q.id, "entries", len(q.entries), "err", err)
		return
	}
	_ = q.register() // what the kernel does not want ends like any entry, in lead
}

// take takes the request out of an entry; false if it is not one. The reply will go where the
// rest of the request is.
func (q *queue) take(e *entry) (op uint32, ok bool) {
	size := int(binary.NativeEndian.Uint32(e.head[headPayload:]))
	args := int(binary.NativeEndian.Uint32(e.head)) - headerIn - size
	if size < 0 || size > len(e.payload) || args < 0 || args > maxOpIn {
		e.in = [3][]byte{}
		return 0, false
	}
	e.in = [3][]byte{e.head[:headerIn], e.head[headOpIn:][:args], e.payload[:size]}
	op = opcode(e.head)
	if size > 0 && payload(op, e.in[1]) > 0 {
		// The handler writes where it still reads: a name, say.
		e.aside = append(e.aside[:0], e.in[2]...)
		e.in[2] = e.aside
	}
	e.out = [2][]byte{e.head[:headerOut], e.payload}
	return op, true
}

// answer has a request answered.
func (q *queue) answer(e *entry) {
	unique := binary.NativeEndian.Uint64(e.head[headCommitID:])
	n, errno := 0, unix.EIO // what is no request is answered too, or its caller would wait
	if e.in[0] != nil {
		n, errno = q.c.o.Handle(e.in[:], e.out[:])
	}
	if errno == 0 && n < headerOut {
		errno = unix.EIO // nothing comes this way that wants no answer
	}
	if errno != 0 {
		n = headerOut
		putHeader(e.head, n, -int32(errno), unique)
	}
	binary.NativeEndian.PutUint32(e.head[headPayload:], uint32(n-headerOut))
}

// commit hands in the answer in an entry, and has it wait for the next request.
// Holds: q.turn.
func (q *queue) commit(e *entry) {
	if !q.room() {
		return
	}
	args := q.ring.Command(uint64(e.index), q.c.fd, cmdCommit, 0, 0)
	copy(args[argsCommitID:], e.head[headCommitID:][:8])
	binary.NativeEndian.PutUint16(args[argsQueueID:], uint16(q.id))
	q.busy--
}
