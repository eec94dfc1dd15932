package fusedev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/uring"
)

// queue is where the requests of one CPU come over io_uring. The kernel puts each into
// the buffers of a free entry; an entry's command ends then, and the next command hands
// in the answer and makes the entry free again, in one system call.
//
// A queue has two threads, which take turns to lead. The leader waits for requests, hands in
// answers, and answers by itself what will be quick, as long as the other thread is there
// to take over: a watchdog passes the turn on when an answer takes too long. All else is
// answered by goroutines, which pass the entry back to the leader. So what waits for the key
// service, a lock or the disk keeps nobody else waiting, while there are free entries; there
// are made more before they run out.
//
// An INTERRUPT, which comes by the device, may overtake its request, and then finds nothing to
// interrupt: for requests read from the device the kernel would send it again. Callers who
// were interrupted wait for their answer, in either case.
//
// Both threads live until the connection ends. The kernel copies a request in the name of
// the thread that made the entry free, and with the thread the entry would be gone.
type queue struct {
	c      *Conn
	id     int // the CPU
	ring   *uring.Ring
	event  int // eventfd that wakes a leader who waits
	size   int // of an entry's payload
	watch  watchdog
	yields yielder
	spare  atomic.Int32 // threads that wait for their turn
	asleep atomic.Bool  // the leader waits, or is about to

	started    bool
	registered chan error  // what registering the first entries came to
	quit       atomic.Bool // end though the connection has not
	threads    sync.WaitGroup
	others     sync.WaitGroup // goroutines that answer

	turn    sync.Mutex // held by the thread that leads
	entries []*entry   // guarded by turn
	fresh   []*entry   // not registered; guarded by turn
	live    int        // entries that the kernel has not given up; guarded by turn
	busy    int        // of these, the ones we have; guarded by turn
	over    bool       // guarded by turn
	full    bool       // no more entries can be made; guarded by turn
	handsIn bool       // the leader is about to hand in an answer of its own; guarded by turn
	armed   [2]bool    // whether the thread's read of event is under way; guarded by turn
	memory  [][]byte   // of the entries; guarded by turn
	events  []byte     // what is read from event, 8 bytes for each thread

	mu   sync.Mutex
	done []*entry // answered, to be handed in by the leader; guarded by mu
}

const (
	// chunk is how many entries are made at a time. Their buffers take no memory until they
	// are used, and the kernel prefers the entry used last.
	chunk = 64
	// lowWater is how few free entries have more made. It is as many as that because new
	// entries do not help requests that already wait in the kernel for a free one: it looks
	// for those only when an answer is handed in.
	lowWater = 40
	// maxEntries bounds the requests of a queue that are under way. More of them wait.
	maxEntries = 1024
	// wakeData tells the read of event from entries.
	wakeData = 1 << 32
)

func newQueue(c *Conn, id, size int) (*queue, error) {
	q := &queue{c: c, id: id, event: -1, size: (size + os.Getpagesize() - 1) &^ (os.Getpagesize() - 1),
		watch: newWatchdog(), registered: make(chan error, 1)}
	var err error
	if q.ring, err = uring.New(chunk); err != nil {
		return nil, err
	}
	if q.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err == nil {
		err = q.makeEntries()
	}
	if err == nil {
		q.events, err = q.allocate(len(q.armed) * 8)
	}
	if err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

// close gives back what the queue has; its threads have ended.
func (q *queue) close() {
	q.others.Wait()
	_ = q.ring.Close()
	if q.event >= 0 {
		unix.Close(q.event)
	}
	if q.live == 0 { // or else the kernel may not have noticed yet that we left
		for _, mem := range q.memory {
			_ = unix.Munmap(mem)
		}
	}
}

// start starts the threads.
func (q *queue) start() {
	q.started = true
	go q.watch.guard(q.turn.Unlock, func() { q.yields.rescue(q.watch.now(), q.ring.More) })
	for me := range q.armed {
		q.threads.Add(1)
		q.c.loops.Add(1)
		go q.thread(me)
	}
}

// end has the threads end, whatever the kernel says.
func (q *queue) end() {
	if q.started {
		q.quit.Store(true)
		q.wake()
		q.threads.Wait()
		close(q.watch.done)
	}
}

// thread is one of the queue's threads.
func (q *queue) thread(me int) {
	defer q.c.loops.Done()
	defer q.threads.Done()
	runtime.LockOSThread() // for ever: the thread ends with us
	// Next to those whose requests come here, so that they need not wake another CPU.
	// Where it is forbidden it works as well.
	var cpu unix.CPUSet
	cpu.Set(q.id)
	_ = unix.SchedSetaffinity(0, &cpu)
	defer q.yields.end()
	tid := int32(unix.Gettid())
	for {
		q.spare.Add(1)
		q.turn.Lock()
		q.spare.Add(-1)
		late := q.lead(me, tid)
		if late == nil {
			return
		}
		q.handOver(late)
	}
}

// lead answers requests until the queue is over, or until an answer took so long that the
// turn is another's: then it returns the entry, for that one to hand in.
// Holds: q.turn, which it lets go of.
func (q *queue) lead(me int, tid int32) (late *entry) {
	if !q.over && q.entries == nil {
		err := q.register()
		q.registered <- err
		q.over = err != nil
	}
	for {
		if q.over || q.live == 0 || q.quit.Load() {
			q.over = true
			q.turn.Unlock()
			return nil
		}
		q.handIn()
		c, ok := q.ring.Ended()
		if !ok {
			q.await(me, tid)
			continue
		}
		if q.ring.Pending() { // somebody waits for these answers
			q.enter(false)
		}
		if c.Data >= wakeData {
			q.armed[c.Data-wakeData] = false
			continue
		}
		e := q.entries[c.Data]
		if err := c.Err(); err != nil {
			q.dropped(err)
			continue
		}
		q.busy++
		if len(q.entries)-q.busy < lowWater && len(q.entries) < maxEntries && !q.full {
			q.grow()
		}
		start := q.watch.now()
		op, ok := q.take(e)
		if !ok || !q.begin(e, op, start) {
			q.others.Go(func() {
				start := q.watch.now() // not what it takes to be run at all
				q.answer(e)
				q.c.pace.note(op, q.watch.now()-start)
				q.handOver(e)
			})
			continue
		}
		q.answer(e)
		took := q.watch.now() - start
		q.c.pace.note(op, took)
		if !q.watch.end(start) {
			return e
		}
		// It harms nobody to have been slow if nobody waits.
		if took > int64(watchSlow) && q.ring.More() {
			q.watch.pause()
		}
		q.commit(e)
		q.handsIn = true
	}
}

// await hands in what there is and waits until there is something to do. Holds: q.turn.
func (q *queue) await(me int, tid int32) {
	if !q.armed[me] && q.room() {
		q.ring.Read(wakeData+uint64(me), q.event, q.events[me*8:][:8])
		q.armed[me] = true
	}
	q.asleep.Store(true)
	// Who hands an entry over after this look sees that we are asleep.
	switch {
	case q.quit.Load() || q.waiting():
	case q.handsIn:
		q.yields.around(tid, q.watch.now(), func() { q.enter(true) })
	default:
		q.enter(true)
	}
	q.handsIn = false
	q.asleep.Store(false)
}

func (q *queue) waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.done) > 0
}

// enter submits what is to be submitted. Holds: q.turn.
func (q *queue) enter(wait bool) {
	if err := q.ring.Enter(wait); err != nil {
		q.over = true
		q.c.fail(err)
	}
}

// room sees to it that something can be added to the ring; false if the queue is over.
// Holds: q.turn.
func (q *queue) room() bool {
	for q.ring.Full() && !q.over {
		q.enter(false)
	}
	return !q.over
}

// dropped notes that the kernel has given an entry up, which it does at the connection's
// end. Holds: q.turn.
func (q *queue) dropped(err error) {
	q.live--
	if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		q.c.fail(fmt.Errorf("an entry of queue %d: %w", q.id, err))
	}
}

// begin reports whether the leader is to answer a request itself. That goes for much data
// too, unless others wait, now or lately: it is in this CPU's cache then when the kernel
// takes it over. Holds: q.turn.
func (q *queue) begin(e *entry, op uint32, now int64) bool {
	if q.spare.Load() == 0 || q.c.pace.slow(op) {
		return false
	}
	quick := max(len(e.in[2]), payload(op, e.in[1])) <= q.c.o.QuickSize
	return (quick || !q.ring.More()) && q.watch.begin(now)
}

// handOver passes an answered entry to the leader.
func (q *queue) handOver(e *entry) {
	q.mu.Lock()
	q.done = append(q.done, e)
	q.mu.Unlock()
	if q.asleep.Swap(false) {
		q.wake()
	}
}

func (q *queue) wake() {
	one := [8]byte{}
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(q.event, one[:])
}

// handIn commits what others have answered. Holds: q.turn.
func (q *queue) handIn() {
	q.mu.Lock()
	done := q.done
	q.done = nil
	q.mu.Unlock()
	for _, e := range done {
		q.commit(e)
	}
}
