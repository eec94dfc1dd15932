package fs

import (
	"sync"

	"kmsfs.dev/kmsfs/fs/internal/backing"
)

// handle is what the kernel's file handle numbers stand for.
type handle struct {
	node *node
	file *file // regular files

	mu   sync.Mutex // guards what follows: a directory's position
	list *backing.Lister
	pos  uint64         // where list stands
	held *backing.Entry // read, but did not fit the last reply
	dir  *dir           // acquired for as long as the handle is open
}

type handleTable struct {
	mu   sync.RWMutex
	next uint64
	byFh map[uint64]*handle
}

func (t *handleTable) add(h *handle) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byFh == nil {
		t.byFh = map[uint64]*handle{}
	}
	t.next++
	t.byFh[t.next] = h
	return t.next
}

func (t *handleTable) get(fh uint64) *handle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byFh[fh]
}

func (t *handleTable) remove(fh uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.byFh[fh]
	delete(t.byFh, fh)
	return h
}

func (t *handleTable) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byFh)
}
