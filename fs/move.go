package fs

import (
	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// A move record is an extended attribute of an object on its way from one name
// to another: it says that the object, whose own binding is older, may be found
// at either. It is written before renameat2 and lies in the inode, so that a
// journal persists the two in order, and it costs next to nothing. Once the
// object's own binding is written anew, with the counter that the move record
// announced, the record says nothing any more.

// putMove announces that the object may come to be at tags, bound by counter.
func (r *Root) putMove(o object, id [16]byte, counter uint64, tags ...names.Tag) error {
	return o.setXattr(format.MoveXattr, r.sealer.SealMove(id, &format.MoveRecord{Counter: counter, Tags: tags}))
}

// moveRecord reads an object's move record.
func (r *Root) moveRecord(o object, id [16]byte) (*format.MoveRecord, error) {
	sealed, err := o.getXattr(format.MoveXattr)
	if err != nil {
		return nil, err
	}
	return r.sealer.OpenMove(id, sealed)
}

// foldLater has the next barrier write a moved directory's record anew.
// Holds: tree, shared suffices.
func (r *Root) foldLater(n *node) {
	n.refs.Add(1)
	r.settle.mu.Lock()
	r.settle.moved = append(r.settle.moved, n)
	r.settle.mu.Unlock()
	r.settle.dirty.Store(true)
}

// foldMoves writes the records of directories moved since the last barrier:
// a copy of the ciphertext made without extended attributes is whole then.
func (r *Root) foldMoves() {
	r.settle.mu.Lock()
	moved := r.settle.moved
	r.settle.moved = nil
	r.settle.mu.Unlock()
	for _, n := range moved {
		r.tree.Lock()
		if n.dir.moved && len(n.names) > 0 {
			if err := r.foldMove(n); err != nil {
				r.log.Warn("could not rewrite a moved directory's record; its move record stays", "ino", n.ino, "err", err)
			}
		}
		n.refs.Add(-1)
		r.reapLocked(n)
		r.tree.Unlock()
	}
}

// foldMove is foldMoves for one directory. Holds: tree.
func (r *Root) foldMove(n *node) error {
	d, err := r.acquire(n)
	if err != nil {
		return err
	}
	defer r.release1(d)
	if err := r.writeDirRecord(n, d); err != nil {
		return err
	}
	d.moved = false
	return backing.RemoveXattr(d.fd, ".", format.MoveXattr)
}

// unref ends a reference that keeps a node alive.
func (r *Root) unref(n *node) {
	r.tree.Lock()
	n.refs.Add(-1)
	r.reapLocked(n)
	r.tree.Unlock()
}
