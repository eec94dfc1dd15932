package secret

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"golang.org/x/sys/unix"
)

// arenaSize is what one mmap takes: 1024 of the smallest slots, so that 100,000
// keys cost 98 mappings and 6.2 MiB of RLIMIT_MEMLOCK (8 MiB by default).
const arenaSize = 64 << 10

// slotSizes are the size classes. Data keys are 32 bytes, volume keys and
// AES-SIV keys 64: both take one cache line.
var slotSizes = [...]int{64, 256, 1024, MaxLen}

// shared is the process's pool. Locked memory is limited per process, so the
// pool that accounts for it is too.
var shared pool

type pool struct {
	mu      sync.Mutex // guards what follows and every arena's used, live and queued
	classes [len(slotSizes)]class
}

// class holds the arenas of one slot size that have a free slot, the emptiest
// decision being none: the last one is filled first.
type class struct {
	partial []*arena
}

type arena struct {
	mem    []byte
	class  int
	slot   int      // bytes in a slot
	used   []uint64 // one bit for each slot
	live   int      // slots in use
	queued bool     // is in class.partial
}

func (a *arena) slots() int { return arenaSize / a.slot }

func (a *arena) bytes(i int) []byte {
	return a.mem[i*a.slot : (i+1)*a.slot : (i+1)*a.slot]
}

func classFor(n int) int {
	for i, size := range slotSizes {
		if n <= size {
			return i
		}
	}
	panic("secret: no slot size fits") // New refused it
}

func (p *pool) take(n int) (*arena, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.classes[classFor(n)]
	if len(c.partial) == 0 {
		a, err := newArena(classFor(n))
		if err != nil {
			return nil, 0, err
		}
		c.partial = append(c.partial, a)
		a.queued = true
	}
	a := c.partial[len(c.partial)-1]
	slot := a.takeSlotLocked()
	if a.live == a.slots() {
		c.partial = c.partial[:len(c.partial)-1]
		a.queued = false
	}
	return a, slot, nil
}

func (a *arena) takeSlotLocked() int {
	for i, w := range a.used {
		// The last word of an arena with fewer than 64 slots has no bits beyond
		// them: the lowest clear bit is a slot as long as live < slots.
		if w == ^uint64(0) {
			continue
		}
		bit := bits.TrailingZeros64(^w)
		a.used[i] |= 1 << bit
		a.live++
		return i*64 + bit
	}
	panic("secret: arena without a free slot among the partial ones")
}

func (p *pool) give(a *arena, slot int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.used[slot/64] &^= 1 << (slot % 64)
	a.live--
	c := &p.classes[a.class]
	if !a.queued {
		c.partial = append(c.partial, a)
		a.queued = true
	}
	// An empty arena goes back to the kernel unless it is the only one with
	// room, or a file opened and closed in a loop would map and unmap each time.
	// A reader of freed memory then faults, which is better than a page sealed
	// under a wiped key.
	if a.live == 0 && len(c.partial) > 1 {
		for i, other := range c.partial {
			if other == a {
				c.partial = append(c.partial[:i], c.partial[i+1:]...)
				break
			}
		}
		a.queued = false
		a.unmap()
	}
}

func newArena(class int) (*arena, error) {
	mem, err := unix.Mmap(-1, 0, arenaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("secret: map %d bytes: %w", arenaSize, limitError(err))
	}
	a := &arena{mem: mem, class: class, slot: slotSizes[class]}
	a.used = make([]uint64, (a.slots()+63)/64)
	if err := a.protect(); err != nil {
		a.unmap()
		return nil, err
	}
	return a, nil
}

func (a *arena) protect() error {
	if err := unix.Mlock(a.mem); err != nil {
		return fmt.Errorf("secret: lock %d bytes: %w", arenaSize, limitError(err))
	}
	if err := unix.Madvise(a.mem, unix.MADV_DONTDUMP); err != nil {
		return fmt.Errorf("secret: keep keys out of core dumps: %w", err)
	}
	if err := unix.Madvise(a.mem, unix.MADV_WIPEONFORK); err != nil {
		return fmt.Errorf("secret: keep keys out of forked processes: %w", err)
	}
	return nil
}

func (a *arena) unmap() {
	if err := unix.Munmap(a.mem); err != nil {
		panic("secret: unmap an arena: " + err.Error()) // our own mapping: a bug
	}
	a.mem = nil
}

// limitError names the limit that refused locked memory, and how to raise it.
func limitError(err error) error {
	if !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EPERM) {
		return err
	}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim) != nil || lim.Cur == unix.RLIM_INFINITY {
		return err
	}
	return fmt.Errorf("%w: RLIMIT_MEMLOCK is %d KiB: raise it (ulimit -l, or LimitMEMLOCK= in the unit)", err, lim.Cur>>10)
}
