package fusedev

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// yielder has a thread that hands in an answer, and will then wait, be no reason for the
// scheduler to let the program that gets the answer go on elsewhere. A program that
// wakes while its CPU is busy is put on another one that is idle, if they share a
// cache: there it finds nothing that it needs, its next request comes to that
// CPU's queue, and so it goes to and fro, which takes twice as long as staying. A CPU
// that runs nothing but SCHED_IDLE threads counts as idle (sched_idle_cpu in
// kernel/sched/fair.c), and such a thread gives way at once. So the thread is one from the
// moment it hands in the answer until it has the next request.
//
// The price is that it does not get on while others keep the CPU busy. The queue's
// watchdog looks after that: a thread that has waited for one of its ticks becomes a
// normal one again, and if a request was there all the while, all stay so for some time.
type yielder struct {
	waits atomic.Int32 // thread id of who waits as SCHED_IDLE, or 0
	until atomic.Int64 // none does before, by the watchdog's clock

	mu   sync.Mutex // held while a thread is rescued
	over bool       // guarded by mu
}

// yieldPause is how long nobody yields after a thread was kept from a request. It makes
// the one or two ticks that the request had to wait a thousandth of the time.
const yieldPause = time.Second

// mayYield reports whether this process may make its threads SCHED_IDLE, and normal
// again, which takes CAP_SYS_NICE or an RLIMIT_NICE that allows it (sched(7)). A
// process that is run under another policy keeps it.
var mayYield = sync.OnceValue(func() bool {
	able := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlocks it: whatever the thread is then, it ends here
		policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
		able <- errno == 0 && policy == unix.SCHED_NORMAL &&
			setPolicy(0, unix.SCHED_IDLE) == 0 && setPolicy(0, unix.SCHED_NORMAL) == 0
	}()
	return <-able
})

// setPolicy sets the scheduling policy of a thread, or for 0 of this one. Its nice value
// stays as it is.
func setPolicy(tid int32, policy uintptr) unix.Errno {
	var priority int32 // struct sched_param; 0 is the only one of both policies
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(tid), policy, uintptr(unsafe.Pointer(&priority)))
	return errno
}

// around calls wait, in which the thread tid hands in an answer and waits.
func (y *yielder) around(tid int32, now int64, wait func()) {
	if now < y.until.Load() || !mayYield() {
		wait()
		return
	}
	y.waits.Store(tid) // first: whoever is SCHED_IDLE can be rescued
	setPolicy(0, unix.SCHED_IDLE)
	wait()
	setPolicy(0, unix.SCHED_NORMAL)
	y.waits.Store(0)
}

// rescue makes the thread that waits a normal one. now is the watchdog's; requested tells
// whether there is a request for the thread, and is not called after end.
func (y *yielder) rescue(now int64, requested func() bool) {
	tid := y.waits.Load()
	if tid == 0 {
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.over {
		return
	}
	setPolicy(tid, unix.SCHED_NORMAL)
	if requested() {
		y.until.Store(now + int64(yieldPause))
	}
}

// end is called before the threads end: their ids may be others' then.
func (y *yielder) end() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.over = true
}
