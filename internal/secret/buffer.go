// Package secret keeps key material out of swap, core dumps and forked
// children, and erases it when it is no longer needed.
//
// A [Buffer] is a small piece of locked memory outside the Go heap, where the
// garbage collector never copies or keeps it. [WipeObject] erases what the
// standard library's ciphers expand from a key on the heap. [HardenProcess]
// closes what no allocation can: core dumps and other processes' ptrace.
//
// Nothing here stops a process that may read this one's memory.
package secret

import (
	"fmt"
	"sync/atomic"
)

// MaxLen is the length of the longest Buffer.
const MaxLen = 4096

// Buffer is locked memory. It must be freed by its owner, exactly when the last
// reader is done: nothing collects it.
type Buffer struct {
	data  []byte // never reassigned, so that Bytes needs no lock
	arena *arena
	slot  int
	freed atomic.Bool
}

// New returns a zeroed buffer of n bytes, 1 to MaxLen.
func New(n int) (*Buffer, error) {
	if n < 1 || n > MaxLen {
		return nil, fmt.Errorf("secret: no buffer of %d bytes: 1 to %d", n, MaxLen)
	}
	a, slot, err := shared.take(n)
	if err != nil {
		return nil, err
	}
	s := a.bytes(slot)
	return &Buffer{data: s[:n:n], arena: a, slot: slot}, nil
}

// From moves src into a new buffer: it wipes src, also when it fails, so that
// no caller is left holding a key by mistake.
func From(src []byte) (*Buffer, error) {
	defer Wipe(src)
	b, err := New(len(src))
	if err != nil {
		return nil, err
	}
	copy(b.data, src)
	return b, nil
}

// Clone returns another buffer with the same content, which has an owner of its own.
func Clone(b *Buffer) (*Buffer, error) {
	c, err := New(b.Len())
	if err != nil {
		return nil, err
	}
	copy(c.data, b.Bytes())
	return c, nil
}

// Bytes returns the memory, valid until Free; nil after it. The capacity equals
// the length, so that an append copies instead of reaching the next secret.
func (b *Buffer) Bytes() []byte {
	if b == nil || b.freed.Load() {
		return nil
	}
	return b.data
}

// Len returns the length the buffer was made with.
func (b *Buffer) Len() int {
	if b == nil {
		return 0
	}
	return len(b.data)
}

// Free wipes the memory and gives it back. It may be called again, and on nil.
func (b *Buffer) Free() {
	if b == nil || b.freed.Swap(true) {
		return
	}
	Wipe(b.arena.bytes(b.slot))
	shared.give(b.arena, b.slot)
}
