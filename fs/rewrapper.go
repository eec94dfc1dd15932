package fs

import (
	"bytes"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// rewrapBatch is how many keys go to the key service at a time: few enough that
// an open that comes between waits a millisecond or two.
const rewrapBatch = 64

// rewrapper walks trees and has wrapped keys re-wrapped where they are due. While
// the key service works on one batch the next is collected.
//
// No lock is held while the key service is asked. A key that was re-wrapped
// meanwhile, by an open or a rename, is left as that has made it.
type rewrapper struct {
	r *Root
	// due decides on a key that is wrapped under one path and belongs under another,
	// or the same.
	due  func(wrapped []byte, from, to string) bool
	over func() bool // whether to stop
	hooks

	err     error         // why it was broken off
	batch   []*wrapping   // to be sent
	pending *pendingBatch // at the key service
}

// hooks are called for what a rewrapper does. All have to be there.
type hooks struct {
	seen      func(file bool)          // an entry of a directory has been looked at
	rewrapped func()                   // a key has
	failed    func(n *node, err error) // a directory cannot be looked through, or a key of a file not be re-wrapped
}

// wrapping is a key that is due.
type wrapping struct {
	n        *node // in use
	at       keyPlace
	link     nameRef // of inLink
	from, to string
	wrapped  []byte
}

// keyPlace is where a wrapped key is stored. Each further hard link has one of
// its own.
type keyPlace int

const (
	inUse    keyPlace = iota // where the file's open state has it from
	inHeader                 // in the header, when the file is held by a further link
	inLink                   // in the record of a further link, when it is held by another name
)

// pendingBatch waits for the key service.
type pendingBatch struct {
	keys []*wrapping
	wait func() ([]kmsapi.BatchResult, error)
}

// dir sees to all that is below the directory n.
func (w *rewrapper) dir(n *node) {
	r := w.r
	d, list, err := r.listDir(n)
	if err != nil {
		w.failed(n, err)
		return
	}
	defer r.release1(d)
	defer list.Close()
	for !w.stopped() {
		e, more, err := list.Next()
		if err != nil {
			w.failed(n, err)
		}
		if err != nil || !more {
			return
		}
		if e.Type == unix.S_IFLNK {
			continue
		}
		if name, stored, ok := r.plainName(d, e.Name); ok && stored != nil {
			w.entry(n, name, stored)
		}
	}
}

func (w *rewrapper) stopped() bool { return w.err != nil || w.over() }

func (w *rewrapper) entry(parent *node, name string, stored *names.Stored) {
	var st unix.Stat_t
	n, err := w.r.lookup(parent, name, 1, &st)
	if err != nil {
		if err != unix.ENOENT {
			w.failed(parent, err)
		}
		return
	}
	defer w.r.Forget(n.id, 1)
	switch {
	case n.isDir():
		w.dir(n)
	case n.isRegular():
		w.file(n, &nameRef{parent: parent, name: name, stored: *stored}, st.Nlink > 1)
	}
	w.seen(n.isRegular())
}

// file sees to the file n at one of its names.
func (w *rewrapper) file(n *node, ref *nameRef, linked bool) {
	err := w.collect(n, ref, linked)
	if err != nil && !noKey(err) {
		w.failed(n, err)
	}
	if len(w.batch) >= rewrapBatch {
		w.send()
	}
}

// noKey reports whether there is nothing to re-wrap: the file was never written, or
// is gone.
func noKey(err error) bool {
	return errors.Is(err, format.ErrNeverWritten) || errors.Is(err, unix.ENOENT)
}

// collect puts those keys of the file n into the batch that are due.
func (w *rewrapper) collect(n *node, ref *nameRef, linked bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	f, err := w.r.holdLocked(n, accessHeader, theMount)
	if err != nil {
		return err
	}
	defer w.r.letGoLocked(n, f)
	to := f.wrappingNow()
	w.add(&wrapping{n: n, from: f.path, to: to, wrapped: f.wrapped})
	if f.unstored && f.path == to {
		if err := f.storeWrapped(f.wrapped, f.path); err != nil {
			return err
		}
	}
	if h := f.hdr; f.linked {
		w.add(&wrapping{n: n, at: inHeader, from: h.Path, to: h.Path, wrapped: h.WrappedKey})
	}
	if !linked || f.at.parent == ref.parent && f.at.stored.Name == ref.stored.Name {
		return nil
	}
	e, err := w.linkEntry(f, ref)
	if err != nil || e == nil {
		return err
	}
	w.add(&wrapping{n: n, at: inLink, link: *ref, from: e.Path, to: e.Path, wrapped: e.Wrapped})
	return nil
}

// linkEntry is what the record of another name of f says, or nil if it has none.
// Holds: n.mu.
func (w *rewrapper) linkEntry(f *file, ref *nameRef) (*format.NameEntry, error) {
	r := w.r
	r.tree.RLock()
	defer r.tree.RUnlock()
	d, err := r.acquire(ref.parent)
	if err != nil {
		return nil, err
	}
	defer r.release1(d)
	e, err := r.nameEntry(d, &ref.stored, format.KindFile, f.hdr.FileID)
	if err == errNoEntry {
		return nil, nil
	}
	return e, err
}

// add puts a key into the batch if it is due.
func (w *rewrapper) add(k *wrapping) {
	if len(k.wrapped) > 0 && w.due(k.wrapped, k.from, k.to) {
		k.n.refs.Add(1)
		w.batch = append(w.batch, k)
	}
}

// send gives what has been collected to the key service, and stores what it has
// answered to the batch before.
func (w *rewrapper) send() {
	before := w.pending
	w.pending = nil
	if len(w.batch) > 0 {
		items := make([]kmsapi.BatchItem, len(w.batch))
		for i, k := range w.batch {
			items[i] = w.r.keys.reEncrypt(k.wrapped, k.from, k.to, theMount)
		}
		w.pending = &pendingBatch{w.batch, w.r.keys.svc.Begin(time.Now().Add(keyTimeout), items)}
		w.batch = nil
	}
	if before != nil {
		w.finish(before)
	}
}

// flush is send until nothing is left.
func (w *rewrapper) flush() {
	w.send()
	w.send()
}

// finish stores the keys of a batch.
func (w *rewrapper) finish(b *pendingBatch) {
	defer func() {
		for _, k := range b.keys {
			w.r.unref(k.n)
		}
	}()
	results, err := answers(len(b.keys), b.wait)
	if err != nil {
		w.err = err
		return
	}
	for i, k := range b.keys {
		stored, err := false, error(nil)
		if refusal := results[i].Err; refusal != nil {
			err = refusal
		} else {
			stored, err = w.r.storeKey(k, results[i].CiphertextBlob)
		}
		switch {
		case stored:
			w.rewrapped()
		case err != nil && !noKey(err):
			w.failed(k.n, err)
		}
	}
}

// storeKey puts a re-wrapped key where the old one is, unless the file has been
// moved or its key re-wrapped meanwhile.
func (r *Root) storeKey(k *wrapping, wrapped []byte) (stored bool, err error) {
	n := k.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if k.at == inLink {
		return r.storeInLink(k, wrapped)
	}
	f, err := r.holdLocked(n, accessHeader, theMount)
	if err != nil {
		return false, err
	}
	defer r.letGoLocked(n, f)
	switch {
	case k.at == inHeader:
		return f.storeInHeader(k, wrapped)
	case f.wrappingNow() != k.to: // who has moved it sees to its key
	case bytes.Equal(f.wrapped, k.wrapped):
		err = f.storeWrapped(wrapped, k.to)
		return err == nil, err
	case f.unstored && f.path == k.to:
		return false, f.storeWrapped(f.wrapped, f.path)
	}
	return false, nil
}

// storeInHeader is storeKey for the header of a file that is held by a further
// link. Holds: n.mu.
func (f *file) storeInHeader(k *wrapping, wrapped []byte) (stored bool, err error) {
	if !bytes.Equal(f.hdr.WrappedKey, k.wrapped) || !format.PathFits(len(wrapped), k.to) {
		return false, nil
	}
	f.r.tree.RLock()
	defer f.r.tree.RUnlock()
	d, err := f.acquireWritable()
	if err != nil {
		return false, err
	}
	defer f.r.release1(d)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hdr.WrappedKey = wrapped
	f.capHoles()
	f.hdrDirty = true
	f.r.settle.dirty.Store(true)
	return true, nil
}

// storeInLink is storeKey for the record of a further link. Records are written
// under the tree lock, held alone, by whoever replaces what is at their name, and
// else under the node's: two cannot meet here. Holds: n.mu.
func (r *Root) storeInLink(k *wrapping, wrapped []byte) (stored bool, err error) {
	r.tree.RLock()
	defer r.tree.RUnlock()
	if !k.n.hasNameLocked(k.link.parent, k.link.stored.Name) {
		return false, nil
	}
	d, err := r.acquire(k.link.parent)
	if err != nil {
		return false, err
	}
	defer r.release1(d)
	rec, err := r.readNameRecord(d, &k.link.stored)
	if err != nil {
		return false, err
	}
	changed := false
	for i := range rec.Entries {
		if e := &rec.Entries[i]; bytes.Equal(e.Wrapped, k.wrapped) {
			e.Wrapped, changed = wrapped, true
		}
	}
	if !changed {
		return false, nil
	}
	target, err := r.sealer.SealName(d.id, k.link.stored.Tag, rec)
	if err != nil {
		return false, err
	}
	r.settle.dirty.Store(true)
	err = r.replaceRecord(d.fd, names.LinkRecord(k.link.stored.Name), target)
	return err == nil, err
}
