package fusedev

import (
	"sync/atomic"
	"time"
)

// pace remembers of each kind of request how long the last one took: an fsync may
// wait for the disk for 50 us or for 50 ms, and a directory have two entries or a
// million.
type pace struct {
	isSlow [64]atomic.Bool // by opcode
}

// paceSlow is what takes so long that the next of its kind should not make others wait
// even until the watchdog looks, and that waking a thread for it does not matter. It is
// a multiple of what a disk or the key service takes on a machine that others keep busy:
// there a thread that wakes for nobody costs most.
const paceSlow = 2 * time.Millisecond

// slow reports whether the last request of a kind was slow, or none is known.
func (p *pace) slow(op uint32) bool {
	return op >= uint32(len(p.isSlow)) || p.isSlow[op].Load()
}

// note keeps how many nanoseconds a request took.
func (p *pace) note(op uint32, took int64) {
	if slow := took > int64(paceSlow); op < uint32(len(p.isSlow)) && p.isSlow[op].Load() != slow {
		p.isSlow[op].Store(slow)
	}
}
