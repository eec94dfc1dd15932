package fusedev

import (
	"sync/atomic"
	"time"
)

// watchdog sees to it that requests are read while the loop whose turn it is
// answers one that takes longer than was thought: it waits for a disk, a lock
// or the key service. The device has one, and each queue.
type watchdog struct {
	born  time.Time
	since atomic.Int64 // when the request being answered was begun, by now; 0: none is
	count atomic.Int64 // of requests begun
	until atomic.Int64 // no request is taken for quick before
	awake atomic.Bool
	wake  chan struct{}
	done  chan struct{} // closed when the mount is gone
}

const (
	watchEvery = 500 * time.Microsecond // as long as others wait for one answer at most, or twice that
	watchSlow  = 200 * time.Microsecond // an answer that was not quick, though others waited
	watchPause = 10 * time.Millisecond  // for how long none is then taken to be
)

func newWatchdog() watchdog {
	return watchdog{born: time.Now(), wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// now is the time, in nanoseconds since the watchdog was born.
func (w *watchdog) now() int64 { return int64(time.Since(w.born)) }

// begin notes that the loop whose turn it is will answer a request itself that it
// has read just now. It reports false if such answers have not been quick lately:
// the loop should pass the turn on. Holds: Conn.turn.
func (w *watchdog) begin(now int64) bool {
	if now < w.until.Load() {
		return false
	}
	w.count.Add(1)
	w.since.Store(now) // from here on the turn may be passed on
	w.rouse()
	return true
}

// rouse wakes the watchdog if it sleeps.
func (w *watchdog) rouse() {
	if !w.awake.Load() && w.awake.CompareAndSwap(false, true) {
		w.wake <- struct{}{}
	}
}

// end notes that the request begun then has been answered, and reports whether it
// still is the loop's turn.
func (w *watchdog) end(begun int64) bool { return w.since.CompareAndSwap(begun, 0) }

// pause notes that an answer was not quick though others waited.
func (w *watchdog) pause() { w.until.Store(w.now() + int64(watchPause)) }

// guard is the watchdog's loop: expired passes on the turn of a loop whose answer takes
// too long, and quiet is called when no request was begun since it looked last. It sleeps
// while there are no requests.
func (w *watchdog) guard(expired, quiet func()) {
	for {
		select {
		case <-w.done:
			return
		case <-w.wake:
		}
		for idle, seen := 0, int64(-1); idle < 20; idle++ {
			time.Sleep(watchEvery)
			if n := w.count.Load(); n != seen {
				idle, seen = 0, n
			} else {
				quiet()
			}
			since := w.since.Load()
			if since == 0 {
				continue
			}
			idle = 0
			if w.now()-since > int64(watchEvery) && w.since.CompareAndSwap(since, 0) {
				expired()
			}
		}
		w.awake.Store(false)
		if w.since.Load() != 0 {
			w.rouse() // begun just when we looked away
		}
	}
}
