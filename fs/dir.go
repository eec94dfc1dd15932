package fs

import (
	"container/list"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// dir is what a directory's node has more: its verified identity and a cached
// handle for *at calls.
type dir struct {
	mu sync.Mutex // serializes opening

	// Guarded by fdCache.mu.
	fd   int
	uses int           // callers between acquire and release
	elem *list.Element // place in the cache; nil while closed, or the root
	kept bool          // removed: it could not be opened again

	// Set before fd is first valid, then changed only under the tree lock.
	known   bool
	id      names.ID
	counter uint32
	moved   bool // its record still tells an older place; a move record vouches

	// Set as those, changed with the node's mu or the tree lock held.
	xattrs atomic.Bool // its record promises an attribute set
	plain  atomic.Bool // its record promises that no regular file in it has one, see plain.go
}

func newDir() *dir { return &dir{fd: -1} }

func (d *dir) adopt(rec *format.DirRecord) {
	d.known, d.id, d.counter = true, rec.ID, rec.Counter
	d.xattrs.Store(rec.HasXattrs)
	d.plain.Store(rec.Plain)
}

// maxCachedDirs bounds the directory handles held open at a time.
const maxCachedDirs = 2048

// fdCache keeps the handles of recently used directories.
type fdCache struct {
	mu  sync.Mutex
	lru *list.List // of *dir, most recent first; unused ones may be closed
}

func (c *fdCache) init() { c.lru = list.New() }

// take returns true, and counts a use, when d has an open handle.
func (c *fdCache) take(d *dir) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.fd < 0 {
		return false
	}
	d.uses++
	if d.elem != nil {
		c.lru.MoveToFront(d.elem)
	}
	return true
}

// put enters a fresh handle, in use once, and closes the stalest idle ones.
func (c *fdCache) put(d *dir, fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.fd, d.uses, d.elem = fd, 1, c.lru.PushFront(d)
	for e := c.lru.Back(); e != nil && c.lru.Len() > maxCachedDirs; {
		old, prev := e.Value.(*dir), e.Prev()
		if old.uses == 0 && !old.kept {
			c.closeLocked(old)
		}
		e = prev
	}
}

func (c *fdCache) closeLocked(d *dir) {
	backing.Close(d.fd)
	d.fd = -1
	if d.elem != nil {
		c.lru.Remove(d.elem)
		d.elem = nil
	}
}

// keep leaves the handle of a removed directory open until the kernel forgets
// it: whoever has it open may go on reading and changing its attributes.
func (c *fdCache) keep(d *dir) {
	c.mu.Lock()
	d.kept = true
	c.mu.Unlock()
}

// drop closes the handle of a directory that is being forgotten.
func (c *fdCache) drop(d *dir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.kept = false
	if d.fd >= 0 && d.uses == 0 {
		c.closeLocked(d)
	}
}

func (c *fdCache) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lru == nil {
		return
	}
	for c.lru.Len() > 0 {
		c.closeLocked(c.lru.Front().Value.(*dir))
	}
}

// acquire returns n's directory with an open handle and verified identity.
// Release it. Holds: tree (shared suffices).
func (r *Root) acquire(n *node) (*dir, error) {
	d := n.dir
	if d == nil {
		return nil, unix.ENOTDIR
	}
	if r.fds.take(d) {
		return d, nil
	}
	if len(n.names) == 0 {
		return nil, unix.ENOENT // removed, and not even a handle left
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.fds.take(d) {
		return d, nil
	}
	ref := &n.names[0]
	parent, err := r.acquire(ref.parent)
	if err != nil {
		return nil, err
	}
	defer r.release1(parent)
	fd, err := backing.OpenDir(parent.fd, ref.stored.Name)
	if err != nil {
		return nil, err
	}
	if err := r.identify(n, parent, ref, fd); err != nil {
		backing.Close(fd)
		return nil, err
	}
	r.fds.put(d, fd)
	return d, nil
}

// release1 ends one use of a directory's handle.
func (r *Root) release1(d *dir) {
	r.fds.mu.Lock()
	d.uses--
	r.fds.mu.Unlock()
}

// identify verifies that the directory behind fd is the one that belongs at
// ref: its record's binding says so, or a name record vouches for a rename
// that was cut short, which is then completed.
func (r *Root) identify(n *node, parent *dir, ref *nameRef, fd int) error {
	var st unix.Stat_t
	if err := backing.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Ino != n.ino || st.Dev != r.dev {
		return unix.ESTALE
	}
	target, err := backing.Readlink(fd, dirName)
	if err != nil {
		return r.misplaced(parent, ref.stored.Name, "directory has no record", err)
	}
	rec, err := r.sealer.OpenDir(target)
	if err != nil {
		return r.misplaced(parent, ref.stored.Name, "directory record does not verify", err)
	}
	if n.dir.known && rec.ID != n.dir.id {
		return r.misplaced(parent, ref.stored.Name, "another directory was put here", nil)
	}
	if !rec.At(ref.stored.Tag) {
		o := object{dirfd: fd, name: "."}
		if m, err := r.moveRecord(o, rec.ID); err == nil && m.Counter > uint64(rec.Counter) && m.Allows(ref.stored.Tag) {
			rec.Counter = uint32(m.Counter)
			n.dir.moved = true
			if !r.opts.ReadOnly {
				r.foldLater(n)
			}
		} else if _, err := r.nameEntry(parent, &ref.stored, format.KindDir, rec.ID); err != nil {
			return r.misplaced(parent, ref.stored.Name, "directory belongs elsewhere", err)
		}
	}
	if rec.At(ref.stored.Tag) && r.recovering() && !r.opts.ReadOnly {
		// A rename that a crash cut off before it happened: raise the counter
		// above what it announced.
		if m, err := r.moveRecord(object{dirfd: fd, name: "."}, rec.ID); err == nil && m.Counter > uint64(rec.Counter) {
			rec.Counter = uint32(m.Counter)
			n.dir.moved = true
			r.foldLater(n)
		}
	}
	n.dir.adopt(rec)
	return nil
}

// writeDirRecord replaces the record of n, whose handle d has, by one that
// tells its place as it is now. Holds: tree.
func (r *Root) writeDirRecord(n *node, d *dir) error {
	return r.promiseInDirRecord(n, d, d.xattrs.Load(), d.plain.Load())
}

// promiseInDirRecord is writeDirRecord with other promises. They hold from then
// on: before, a file could be made that a record which was not written forbids.
// Holds: tree.
func (r *Root) promiseInDirRecord(n *node, d *dir, xattrs, plain bool) error {
	rec := &format.DirRecord{ID: d.id, Counter: d.counter, HasXattrs: xattrs, Plain: plain}
	if len(n.names) > 0 {
		rec.Tag = n.names[0].stored.Tag
	}
	if err := r.replaceRecord(d.fd, dirName, r.sealer.SealDir(rec)); err != nil {
		return err
	}
	d.xattrs.Store(xattrs)
	d.plain.Store(plain)
	return nil
}

// misplaced is the error, and the log line, for an object whose binding does
// not fit the place it is found at. Only ciphertext names are logged.
func (r *Root) misplaced(parent *dir, stored, what string, cause error) error {
	r.log.Warn("refused: "+what, "directory", fmt.Sprintf("%x", parent.id), "ciphertext", stored, "cause", cause)
	if cause == nil {
		return fmt.Errorf("%s: %w", what, errMisplaced)
	}
	return fmt.Errorf("%s: %w: %v", what, errMisplaced, cause)
}
