package fs

import (
	"bytes"
	"slices"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
)

// A rename moves an object, and then its binding must follow. Between the two
// a move record vouches for the object at both places, so that a crash leaves
// either the old state or the new one:
//
//	authorize     the key service re-wraps the file's key to the new path
//	move record   an attribute of the object: counter+1, old and new place
//	renameat2     the move itself, atomic
//	key           a file's header gets the new wrapped key, not yet the place
//	fold          the header or directory record tells the new place: after a
//	              barrier, since a header may reach the disk before the rename
//
// Symlinks, special files and further hard links have no binding that could
// follow; for them a name record at the new name is made first, and stays. So
// it is where the backing filesystem has no extended attributes.

// Rename implements fuse.RawFileSystem.
func (r *Root) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	r.touch()
	from, to := r.node(in.NodeId), r.node(in.Newdir)
	if from == nil || to == nil {
		return fuse.Status(unix.ESTALE)
	}
	if r.opts.ReadOnly {
		return fuse.EROFS
	}
	if in.Flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return fuse.EINVAL
	}
	return status(r.rename(from, oldName, to, newName, uint(in.Flags), r.principal(&in.Caller)))
}

// move is one object's part in a rename: from one place to another.
type move struct {
	n        *node
	from, to nameRef
	st       unix.Stat_t
	file     *file             // regular files, held
	replaced *file             // open state of what it replaced
	dir      *dir              // directories, acquired
	bound    bool              // its own binding will follow
	entry    *format.NameEntry // vouches for it at the new name, where needed
	counter  uint64            // of its binding at the new name
	undos    []func() error    // take back what was announced
	wrapped  []byte            // a file's key as wrapped for the new path
	path     string
	asIs     bool // the wrapping stays as it was, on disk at least
}

func (r *Root) rename(fromDir *node, oldName string, toDir *node, newName string, flags uint, who principal) error {
	a := &move{from: nameRef{parent: fromDir, name: oldName}, to: nameRef{parent: toDir, name: newName}}
	moves := []*move{a}
	if flags&unix.RENAME_EXCHANGE != 0 {
		moves = append(moves, &move{from: nameRef{parent: toDir, name: newName}, to: nameRef{parent: fromDir, name: oldName}})
	}
	for _, m := range moves {
		if err := r.findMove(m); err != nil {
			r.endMoves(moves)
			return err
		}
	}
	defer r.endMoves(moves)
	defer func() {
		if a.replaced != nil {
			a.replaced.abandon()
		}
	}()
	lockNodes(moves)
	defer unlockNodes(moves)
	defer func() {
		for _, m := range moves {
			if m.file != nil {
				r.letGoLocked(m.n, m.file)
			}
			if m.dir != nil {
				r.release1(m.dir)
			}
		}
	}()
	for _, m := range moves {
		if err := r.prepareMove(m, who); err != nil {
			return err
		}
	}
	if err := r.moveNames(moves, flags); err != nil {
		return err
	}
	for _, m := range moves {
		if m.file != nil {
			m.file.follow(m)
		}
	}
	return nil
}

// findMove finds the node that moves and keeps it alive.
func (r *Root) findMove(m *move) error {
	n, err := r.lookup(m.from.parent, m.from.name, 1, &m.st)
	if err != nil {
		return err
	}
	m.n = n
	r.tree.RLock()
	defer r.tree.RUnlock()
	for _, ref := range []*nameRef{&m.from, &m.to} {
		d, err := r.acquire(ref.parent)
		if err != nil {
			return err
		}
		ref.stored, err = r.names.Encrypt(d.id, ref.name)
		r.release1(d)
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Root) endMoves(moves []*move) {
	for _, m := range moves {
		if m.n != nil {
			r.Forget(m.n.id, 1)
		}
	}
}

// lockNodes locks what moves, in the order of node ids.
func lockNodes(moves []*move) {
	if len(moves) == 2 && moves[1].n.id < moves[0].n.id {
		moves[1].n.mu.Lock()
		moves[0].n.mu.Lock()
		return
	}
	for i, m := range moves {
		if i == 0 || m.n != moves[0].n {
			m.n.mu.Lock()
		}
	}
}

func unlockNodes(moves []*move) {
	for i, m := range moves {
		if i == 0 || m.n != moves[0].n {
			m.n.mu.Unlock()
		}
	}
}

// prepareMove works out the entry that vouches for m at its new name. For a
// file the key service is asked here. Holds: n.mu.
func (r *Root) prepareMove(m *move, who principal) error {
	switch m.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return r.prepareFile(m, who)
	case unix.S_IFDIR:
		if who != theMount && r.keys.bindsPath() {
			return unix.EXDEV
		}
		r.tree.RLock()
		defer r.tree.RUnlock()
		var err error
		m.dir, err = r.acquire(m.n) // verifies it before it moves
		m.bound = true
		if err == nil && m.dir.counter >= format.MaxDirCounter {
			err = unix.EMLINK // it has been renamed 2^30 times; copy it
		}
		return err
	}
	r.tree.RLock()
	defer r.tree.RUnlock()
	var err error
	m.entry, err = r.entryAt(&m.from)
	return err
}

func (r *Root) prepareFile(m *move, who principal) error {
	f, err := r.holdLocked(m.n, accessHeader, theMount)
	if err != nil {
		return err
	}
	m.file = f
	if err := f.flush(); err != nil {
		return err
	}
	r.tree.RLock()
	path := contextOf(m.to.pathLocked())
	d, err := r.acquire(m.from.parent)
	if err == nil {
		m.bound, m.counter = f.livesAt(d.id, m.from.stored.Tag)
		m.counter++
		r.release1(d)
	}
	r.tree.RUnlock()
	if err != nil {
		return err
	}
	m.path = f.path
	if r.keys.bindsPath() {
		m.path = path
	}
	if m.wrapped, err = r.keys.rewrap(f.wrapped, f.path, m.path, who); err != nil {
		return err
	}
	m.asIs = bytes.Equal(m.wrapped, f.wrapped) || f.readonly
	// A header that relies on a record, or is going to, needs it at the new name.
	if !m.bound || f.hdr.KeyInRecord || !format.PathFits(len(m.wrapped), m.path) {
		m.putEntry()
	}
	return nil
}

// putEntry has a name record vouch for a file at its new name.
func (m *move) putEntry() {
	m.entry = m.file.nameEntry()
	if m.file.r.conf.Keys == format.KeysPath {
		m.entry.Wrapped, m.entry.Path = m.wrapped, m.path
	}
}

// announce has a move record, or a name record, say that m's object may come to
// be at its new name, in d. undo takes it back.
func (r *Root) announce(m *move, d *dir) error {
	if err := r.putSidecar(d, &m.to.stored); err != nil {
		return err
	}
	r.announceMove(m)
	if m.entry == nil {
		return nil
	}
	undo, err := r.putNameEntry(d, &m.to.stored, m.entry)
	if err == nil {
		m.undos = append(m.undos, undo)
	}
	return err
}

// announceMove writes m's move record. Where that cannot be, a name record will
// vouch for the object at its new name for good.
func (r *Root) announceMove(m *move) {
	var o object
	var id [16]byte
	var standing uint64 // counter of the move record that accepts it where it is
	switch {
	case !m.bound:
		return
	case m.dir != nil:
		o, id, m.counter = object{dirfd: m.dir.fd, name: "."}, m.dir.id, uint64(m.dir.counter)+1
		if m.dir.moved {
			standing = uint64(m.dir.counter)
		}
	default:
		o, id, standing = object{fd: m.file.fd}, m.file.hdr.FileID, m.file.moved
	}
	m.undos = append(m.undos, func() error {
		if standing == 0 {
			return o.removeXattr(format.MoveXattr)
		}
		return r.putMove(o, id, standing, m.from.stored.Tag)
	})
	if err := r.putMove(o, id, m.counter, m.from.stored.Tag, m.to.stored.Tag); err == nil {
		return
	}
	m.bound = false
	if m.dir != nil {
		m.entry = &format.NameEntry{ID: m.dir.id, Kind: format.KindDir}
	} else {
		m.putEntry()
	}
}

// moveNames is the rename proper, under the tree lock: records, renameat2,
// and the tree's own picture of it.
func (r *Root) moveNames(moves []*move, flags uint) error {
	a := moves[0]
	r.tree.Lock()
	defer r.tree.Unlock()
	from, err := r.acquire(a.from.parent)
	if err != nil {
		return err
	}
	defer r.release1(from)
	to, err := r.acquire(a.to.parent)
	if err != nil {
		return err
	}
	defer r.release1(to)

	var old unix.Stat_t // what the rename replaces
	replaces := backing.Stat(to.fd, a.to.stored.Name, &old) == nil
	switch {
	case replaces && flags&unix.RENAME_NOREPLACE != 0:
		return unix.EEXIST
	case replaces && flags == 0 && old.Ino == a.st.Ino:
		return nil // two names of one object: rename(2) does nothing
	case flags&unix.RENAME_EXCHANGE != 0 && !replaces:
		return unix.ENOENT
	case replaces && flags == 0 && old.Mode&unix.S_IFMT == unix.S_IFDIR && a.dir == nil:
		return unix.EISDIR
	}
	if replaces {
		defer r.keepKnown(&old)()
	}
	for _, m := range moves {
		d := to
		if m != a {
			d = from
		}
		if err = r.endPlainForMove(m); err == nil {
			err = r.announce(m, d)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		if replaces && flags == 0 {
			err = r.renameOver(from, to, a, &old)
		} else {
			err = backing.Rename(from.fd, a.from.stored.Name, to.fd, a.to.stored.Name, flags)
		}
	}
	if err != nil {
		undo(moves)
		if !replaces {
			r.dropSidecar(to, &a.to.stored)
		}
		return err
	}
	r.settle.dirty.Store(true)

	if flags&unix.RENAME_EXCHANGE == 0 {
		if a.entry != nil {
			r.removeNameRecord(from, &a.from.stored)
		}
		r.dropSidecar(from, &a.from.stored)
		if replaces {
			if a.entry == nil {
				r.removeNameRecord(to, &a.to.stored)
			}
			a.replaced = r.nameGoneLocked(a.to.parent, a.to.stored.Name, &old)
		}
	}
	r.seq++
	for _, m := range moves {
		r.dropNameLocked(m.n, m.from.parent, m.from.stored.Name)
	}
	for _, m := range moves {
		m.n.addNameLocked(m.to.parent, m.to.name, m.to.stored)
	}
	for _, m := range moves {
		if m.dir != nil && m.bound {
			// The record follows at the next barrier, however often the
			// directory moves until then.
			m.dir.counter++
			if !m.dir.moved {
				m.dir.moved = true
				r.foldLater(m.n)
			}
			r.sweepLater(m.n)
		}
		if m.dir != nil || m.asIs {
			r.noteUnwalked()
		}
	}
	return nil
}

// undo takes back what was announced for a rename that failed, the last first:
// a record that stayed would vouch for a move nobody made.
func undo(moves []*move) {
	for _, m := range slices.Backward(moves) {
		for _, undo := range slices.Backward(m.undos) {
			_ = undo() // a leftover is swept by the crash check, or by fsck
		}
	}
}

// renameOver is renameat2 of a's names where the new one is old's. A directory that is
// replaced holds its record and so is never empty for the backing filesystem: it is moved
// aside first, under a name from which a crash check puts it back.
func (r *Root) renameOver(from, to *dir, a *move, old *unix.Stat_t) error {
	if old.Mode&unix.S_IFMT != unix.S_IFDIR {
		return r.replaceFile(to, a.to.stored.Name, old, func() error {
			return backing.Rename(from.fd, a.from.stored.Name, to.fd, a.to.stored.Name, 0)
		})
	}
	if err := r.checkEmpty(to, a.to.stored.Name); err != nil {
		return err
	}
	aside := asidePrefix + a.to.stored.Name
	if err := backing.Rename(to.fd, a.to.stored.Name, to.fd, aside, 0); err != nil {
		return err
	}
	if err := backing.Rename(from.fd, a.from.stored.Name, to.fd, a.to.stored.Name, unix.RENAME_NOREPLACE); err != nil {
		if back := backing.Rename(to.fd, aside, to.fd, a.to.stored.Name, unix.RENAME_NOREPLACE); back != nil {
			r.log.Error("could not put a directory back after a failed rename", "ciphertext", aside, "err", back)
		}
		return err
	}
	if err := r.removeDir(to, aside); err != nil {
		r.log.Warn("could not take apart a replaced directory", "ciphertext", aside, "err", err)
	}
	return nil
}

// follow notes where a file has gone, and keeps its re-wrapped key. The name
// has moved: a failure here is not the rename's, and whoever opens the file
// re-wraps its key again. Holds: n.mu.
func (f *file) follow(m *move) {
	f.at, f.wrapped, f.path, f.unstored = m.to, m.wrapped, m.path, false
	f.linked, f.moved = !m.bound, 0
	if !m.bound {
		return // its name record has everything
	}
	f.moved = m.counter
	f.r.tree.RLock()
	f.r.foldFileLater(f.n, m.counter)
	f.r.tree.RUnlock()
	if !m.asIs && !f.hdr.KeyInRecord && format.PathFits(len(f.wrapped), f.path) {
		f.keyToHeader()
	}
}
