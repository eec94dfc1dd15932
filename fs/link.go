package fs

import (
	"bytes"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
)

// Link implements fuse.RawFileSystem. The further name gets a record that
// vouches for the object there, with the key wrapped under that name's path;
// the record is there before the name.
func (r *Root) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	r.touch()
	parent, n := r.node(in.NodeId), r.node(in.Oldnodeid)
	if parent == nil || n == nil {
		return fuse.Status(unix.ESTALE)
	}
	if r.opts.ReadOnly {
		return fuse.EROFS
	}
	p, err := r.placeOf(parent, name)
	if err != nil {
		return status(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var st unix.Stat_t
	if n.isRegular() {
		err = r.linkFile(n, &p, r.principal(&in.Caller), &st)
	} else {
		err = r.linkOther(n, &p, &st)
	}
	if err != nil {
		return status(err)
	}
	r.settle.dirty.Store(true)
	r.entryOut(n, &st, out)
	return fuse.OK
}

// linkFile gives a regular file a further name. A nameless file (O_TMPFILE)
// is bound to its first. Holds: n.mu.
func (r *Root) linkFile(n *node, p *place, who principal, st *unix.Stat_t) error {
	f, err := r.holdLocked(n, accessHeader, theMount)
	if err != nil {
		return err
	}
	defer r.letGoLocked(n, f)
	if err := f.flush(); err != nil {
		return err
	}
	path := f.path
	if r.keys.bindsPath() {
		path = contextOf(p.path)
	}
	wrapped, err := r.keys.rewrap(f.wrapped, f.path, path, who)
	if err != nil {
		return err
	}
	if bytes.Equal(wrapped, f.wrapped) {
		defer r.noteUnwalked()
	}
	e := f.nameEntry()
	if r.conf.Keys == format.KeysPath {
		e.Wrapped, e.Path = wrapped, path
	}
	r.tree.RLock()
	nameless := len(n.names) == 0
	r.tree.RUnlock()
	if nameless && f.readonly {
		return unix.EBADF
	}
	if !nameless || f.hdr.HasXattrs {
		if err := r.endPlainFor(n, p.parent); err != nil {
			return err
		}
	}
	if nameless {
		return r.linkNameless(n, f, p, e, st)
	}
	return r.linkAt(n, p, e, st, func(d *dir) error {
		return r.linkFrom(n, d, p.stored.Name)
	})
}

// linkNameless names an O_TMPFILE file. Until its header tells the new place
// the move record vouches for it.
func (r *Root) linkNameless(n *node, f *file, p *place, e *format.NameEntry, st *unix.Stat_t) error {
	m := &move{n: n, file: f, to: nameRef{p.parent, p.name, p.stored}, wrapped: f.wrapped, path: f.path, counter: f.hdr.Counter + 1}
	if r.keys.perFile() {
		m.wrapped, m.path = e.Wrapped, e.Path
	}
	m.asIs = bytes.Equal(m.wrapped, f.wrapped)
	m.bound = r.putMove(object{fd: f.fd}, f.hdr.FileID, m.counter, p.stored.Tag) == nil
	if m.bound && format.PathFits(len(m.wrapped), m.path) && !f.hdr.KeyInRecord {
		e = nil
	}
	err := r.linkAt(n, p, e, st, func(d *dir) error {
		f.mu.RLock()
		defer f.mu.RUnlock()
		return backing.LinkFD(f.fd, d.fd, p.stored.Name)
	})
	if err == nil {
		f.follow(m)
	}
	return err
}

// linkOther gives a symlink or special file a further name. Holds: n.mu.
func (r *Root) linkOther(n *node, p *place, st *unix.Stat_t) error {
	r.tree.RLock()
	e, err := r.entryOf(n)
	r.tree.RUnlock()
	if err != nil {
		return err
	}
	return r.linkAt(n, p, e, st, func(d *dir) error {
		return r.linkFrom(n, d, p.stored.Name)
	})
}

// entryOf makes the permanent entry for a symlink or special file from what
// vouches for it at its first name. Holds: tree, shared.
func (r *Root) entryOf(n *node) (*format.NameEntry, error) {
	if len(n.names) == 0 {
		return nil, unix.ESTALE
	}
	return r.entryAt(&n.names[0])
}

func (r *Root) entryAt(ref *nameRef) (*format.NameEntry, error) {
	d, err := r.acquire(ref.parent)
	if err != nil {
		return nil, err
	}
	defer r.release1(d)
	var st unix.Stat_t
	if err := backing.Stat(d.fd, ref.stored.Name, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		link, err := r.readSymlink(d, ref)
		if err != nil {
			return nil, err
		}
		return &format.NameEntry{ID: link.ID, Kind: format.KindSymlink}, nil
	}
	return r.specialEntry(d, ref, &st)
}

// linkFrom makes the backing link from n's first name. Holds: tree, shared.
func (r *Root) linkFrom(n *node, to *dir, stored string) error {
	if len(n.names) == 0 {
		return unix.ENOENT
	}
	from, err := r.acquire(n.names[0].parent)
	if err != nil {
		return err
	}
	defer r.release1(from)
	return backing.Link(from.fd, n.names[0].stored.Name, to.fd, stored)
}

// linkAt puts entry e, if any, and sidecar at p, has make create the name, and
// tells the tree.
func (r *Root) linkAt(n *node, p *place, e *format.NameEntry, st *unix.Stat_t, make func(*dir) error) error {
	r.tree.RLock()
	d, err := r.acquire(p.parent)
	if err == nil {
		undo := func() error { return nil }
		if err = r.putSidecar(d, &p.stored); err == nil && e != nil {
			undo, err = r.putNameEntry(d, &p.stored, e)
		}
		if err == nil {
			if err = make(d); err != nil {
				_ = undo()
			}
		}
		if err == nil {
			err = backing.Stat(d.fd, p.stored.Name, st)
		}
		r.release1(d)
	}
	r.tree.RUnlock()
	if err != nil {
		return err
	}
	r.tree.Lock()
	defer r.tree.Unlock()
	n.addNameLocked(p.parent, p.name, p.stored)
	n.lookups++
	r.byIno[n.ino] = n
	return nil
}
