package fs

import (
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// verifyBinding checks that the file belongs at ref, which may be its only
// name, and finds out how its key is wrapped. Holds: tree, shared.
func (f *file) verifyBinding(d *dir, ref *nameRef, only bool) error {
	r, h := f.r, f.hdr
	if err := r.checkPlain(d, ref, h); err != nil {
		return err
	}
	f.wrapped, f.path = h.WrappedKey, h.Path
	f.linked, f.moved = false, 0
	if boundTo(h, d.id, ref.stored.Tag) {
		// A rename that a crash cut off before it happened has left a move
		// record; the fold raises the binding above it. With further names the
		// record may be about another of them, and is left alone.
		if only && r.recovering() && !r.opts.ReadOnly {
			if m, err := r.moveRecord(object{fd: f.fd}, h.FileID); err == nil && m.Counter > h.Counter {
				f.moved = m.Counter
				r.foldFileLater(f.n, f.moved)
			}
		}
	} else if counter, last := r.movedTo(object{fd: f.fd}, h, ref.stored.Tag); counter == 0 {
		f.linked = true
	} else if _, err := r.nameEntry(d, &ref.stored, format.KindFile, h.FileID); err == nil && !last {
		f.linked = true // where it came from has become a further link since
	} else {
		f.moved = counter
		if (last || only) && !r.opts.ReadOnly {
			r.foldFileLater(f.n, counter) // a rename whose header had not followed yet
		}
	}
	if !f.linked && !h.KeyInRecord {
		return nil
	}
	e, err := r.nameEntry(d, &ref.stored, format.KindFile, h.FileID)
	if err != nil {
		return r.misplaced(d, ref.stored.Name, "file belongs elsewhere", err)
	}
	if r.conf.Keys == format.KeysPath {
		f.wrapped, f.path = e.Wrapped, e.Path
	}
	return nil
}

func boundTo(h *format.Header, dir names.ID, tag names.Tag) bool {
	return h.Parent == dir && h.Tag == tag
}

// movedTo returns the counter of a move record, newer than the header's
// binding, that lets the file be at tag, and whether that is the place it was
// moved to last; 0 if there is none.
func (r *Root) movedTo(o object, h *format.Header, tag names.Tag) (counter uint64, last bool) {
	m, err := r.moveRecord(o, h.FileID)
	if err != nil || m.Counter <= h.Counter || !m.Allows(tag) {
		return 0, false
	}
	return m.Counter, m.Tags[len(m.Tags)-1] == tag
}

// livesAt reports whether the name is the one that the file's own binding is
// about, not a further link, and the counter of that binding. While a move
// record is newer than the header it is the record's last place: the one
// before may have become a further link since.
func (f *file) livesAt(dir names.ID, tag names.Tag) (bool, uint64) {
	m, err := f.r.moveRecord(object{fd: f.fd}, f.hdr.FileID)
	if err == nil && m.Counter > f.hdr.Counter {
		return m.Tags[len(m.Tags)-1] == tag, m.Counter
	}
	return boundTo(f.hdr, dir, tag), f.hdr.Counter
}

// vouched reports, as nil, that a file whose header names another place may be
// at ref all the same. Holds: tree, shared.
func (r *Root) vouched(d *dir, ref *nameRef, o object, h *format.Header) error {
	if counter, _ := r.movedTo(o, h, ref.stored.Tag); counter != 0 {
		return nil
	}
	_, err := r.nameEntry(d, &ref.stored, format.KindFile, h.FileID)
	return err
}

// nameEntry is the name record's entry of a further hard link, or of a file
// whose path does not fit its header.
func (f *file) nameEntry() *format.NameEntry {
	e := &format.NameEntry{ID: f.hdr.FileID, Kind: format.KindFile}
	if f.r.conf.Keys == format.KeysPath {
		e.Wrapped, e.Path = f.wrapped, f.path
	}
	return e
}

// storeWrapped records a re-wrapped key: in the header, or in the record of
// the name if the file lives by it or the path is too long. Holds: n.mu.
func (f *file) storeWrapped(wrapped []byte, path string) error {
	r := f.r
	r.tree.RLock()
	defer r.tree.RUnlock()
	d, err := f.acquireWritable()
	if err != nil {
		return err
	}
	defer r.release1(d)
	f.wrapped, f.path, f.unstored = wrapped, path, true
	if !f.linked && !f.hdr.KeyInRecord && format.PathFits(len(wrapped), path) {
		f.keyToHeader()
		f.unstored = false
		return nil
	}
	// While the header has an older wrapping it is that one which counts; the
	// record waits for the header to say so, see foldFile.
	err = r.keepTimes(d.fd, func() error { _, err := r.putNameEntry(d, &f.at.stored, f.nameEntry()); return err })
	f.unstored = err != nil
	if err == nil && !f.linked && !f.hdr.KeyInRecord {
		r.foldFileLater(f.n, max(f.moved, f.hdr.Counter))
	}
	return err
}

// acquireWritable returns the directory that f.at is in, to be released, with f
// open for writing. Holds: n.mu, tree.
func (f *file) acquireWritable() (*dir, error) {
	d, err := f.r.acquire(f.at.parent)
	if err == nil && f.readonly {
		if err = f.makeWritableAt(d); err != nil {
			f.r.release1(d)
		}
	}
	return d, err
}

// keyToHeader puts the key's wrapping, which fits, into the header, to be
// written when the file is closed at the latest: until then the older wrapping
// there does, for the older path. It says nothing of the file's place and so may
// reach the disk before or after a rename. A header that has once left the key
// to a record does so for good: with no telling which header a power cut leaves,
// the record is always needed.
func (f *file) keyToHeader() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.r.conf.Keys == format.KeysPath {
		f.hdr.WrappedKey, f.hdr.Path = f.wrapped, f.path
		f.capHoles()
	}
	f.hdrDirty = true
	f.r.settle.dirty.Store(true)
}

// fold is a file whose header is to be brought up to date once what it will
// say of names is durable: data pages, the header among them, may reach the
// disk before the rename they speak of.
type fold struct {
	n       *node
	counter uint64 // of the binding at the time; another means it has moved on

	// Or, with filled: holes that have been filled, and the node's holeChanges
	// at the time.
	filled      []format.Extent
	holeChanges int64
}

// closeHolesLater has the holes that were filled in f taken out of its header
// after the next barrier, which makes the pages durable. Holds: n.mu.
func (r *Root) closeHolesLater(f *file) {
	f.n.refs.Add(1) // the node is in use, and so alive
	r.settle.mu.Lock()
	r.settle.folds = append(r.settle.folds, fold{n: f.n, filled: f.filled, holeChanges: f.n.holeChanges.Load()})
	r.settle.mu.Unlock()
	f.filled = nil
	r.settle.dirty.Store(true)
}

// foldFileLater has the header of n's file follow after the next barrier.
// Holds: tree, shared suffices.
func (r *Root) foldFileLater(n *node, counter uint64) {
	n.refs.Add(1)
	r.settle.mu.Lock()
	r.settle.folds = append(r.settle.folds, fold{n: n, counter: counter})
	r.settle.mu.Unlock()
	r.settle.dirty.Store(true)
}

// foldFiles rewrites headers whose renames are durable now.
func (r *Root) foldFiles(folds []fold) {
	for _, x := range folds {
		x.n.mu.Lock()
		if err := r.foldFile(x); err != nil {
			r.log.Info("a moved file's header stays as it is; its move record vouches for it", "ino", x.n.ino, "err", err)
		}
		x.n.mu.Unlock()
		r.unref(x.n)
	}
}

// foldFile is foldFiles for one. Holds: n.mu.
func (r *Root) foldFile(x fold) error {
	r.tree.RLock()
	gone := len(x.n.names) == 0
	r.tree.RUnlock()
	if gone {
		return nil
	}
	f, err := r.holdLocked(x.n, accessHeader, theMount)
	if err != nil {
		return err
	}
	defer r.letGoLocked(x.n, f)
	if x.filled != nil {
		return f.foldHoles(x)
	}
	if f.linked || f.moved == 0 && !f.keyMustMove() || x.counter != max(f.moved, f.hdr.Counter) {
		return nil
	}
	r.tree.RLock()
	defer r.tree.RUnlock()
	d, err := f.acquireWritable()
	if err != nil {
		return err
	}
	defer r.release1(d)
	var st unix.Stat_t
	if err := backing.Fstat(f.fd, &st); err != nil {
		return err
	}
	if lives, _ := f.livesAt(d.id, f.at.stored.Tag); !lives && st.Nlink > 1 {
		return nil // it was opened by another of its names
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.hdr
	h.Parent, h.Tag, h.Counter = d.id, f.at.stored.Tag, x.counter
	if f.keyMustMove() {
		h.WrappedKey, h.Path, h.KeyInRecord = nil, "", true
	}
	f.moved = 0
	return f.writeHeaderQuietly()
}

// keyMustMove reports whether the header still has an older wrapping of the key
// because today's, which is in the name's record, does not fit it.
func (f *file) keyMustMove() bool {
	return f.r.conf.Keys == format.KeysPath && !f.unstored && !f.hdr.KeyInRecord && !format.PathFits(len(f.wrapped), f.path)
}

// foldHoles takes filled holes out of the header, unless some may be holes
// again.
func (f *file) foldHoles(x fold) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readonly || x.holeChanges != f.n.holeChanges.Load() {
		return nil
	}
	f.closeHoles(x.filled)
	return f.flushLocked()
}
