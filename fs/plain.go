package fs

import (
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
)

// Every ls -l asks whether each file has an ACL, and only the file's header
// can tell: a page to be read from the disk for each. Most directories have no
// file with attributes, and their records say so: such a directory is plain.
// It stays plain while each regular file in it has no attributes and one name
// only, by which the directory is found when the file gets its first. Once it
// is not, it never is again. One that has attributes itself is not, since a
// default ACL is handed on to new files.
//
// The record changes before the file does. Both are metadata, which a journal
// persists in order, and the flag in a file's header waits for a barrier: no
// crash leaves a plain directory with such a file in it.

// inPlainDir reports whether n is a regular file that has no attributes since
// none in its directory has. An open file has a header at hand, which knows better.
func (r *Root) inPlainDir(n *node) bool {
	if !n.isRegular() || n.file.Load() != nil {
		return false
	}
	r.tree.RLock()
	defer r.tree.RUnlock()
	if len(n.names) == 0 {
		return false
	}
	d, err := r.acquire(n.names[0].parent)
	if err != nil {
		return false
	}
	defer r.release1(d)
	return d.plain.Load()
}

// endPlainLocked has the record of the directory parent say that it may have
// files with attributes or further names. Holds: tree.
func (r *Root) endPlainLocked(parent *node) error {
	d, err := r.acquire(parent)
	if err != nil {
		return err
	}
	defer r.release1(d)
	if !d.plain.Load() || parent.gone != nil {
		return nil
	}
	if err := r.promiseInDirRecord(parent, d, d.xattrs.Load(), false); err != nil {
		return err
	}
	r.settle.dirty.Store(true)
	return nil
}

// endPlainFor is endPlainLocked for the directories of all of n's names, and
// for those that get one. Holds: n.mu.
func (r *Root) endPlainFor(n *node, parents ...*node) error {
	r.tree.Lock()
	defer r.tree.Unlock()
	for i := range n.names {
		parents = append(parents, n.names[i].parent)
	}
	for _, parent := range parents {
		if err := r.endPlainLocked(parent); err != nil {
			return err
		}
	}
	return nil
}

// endPlainForMove is endPlainLocked for the directory that m's file comes to, if
// the file is one that a plain directory does not have. Holds: n.mu, tree.
func (r *Root) endPlainForMove(m *move) error {
	if m.file == nil || m.from.parent == m.to.parent {
		return nil
	}
	var st unix.Stat_t
	if err := backing.Fstat(m.file.fd, &st); err != nil {
		return err
	}
	if !m.file.hdr.HasXattrs && st.Nlink == 1 {
		return nil
	}
	return r.endPlainLocked(m.to.parent)
}

// checkPlain refuses a file with attributes in a directory that has none such:
// an older record has been put in the place of the directory's.
func (r *Root) checkPlain(d *dir, ref *nameRef, h *format.Header) error {
	if h.HasXattrs && d.plain.Load() {
		return r.misplaced(d, ref.stored.Name, "file has attributes, its directory's record says that none in it has", nil)
	}
	return nil
}
