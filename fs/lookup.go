package fs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// cacheFor is how long the kernel may trust names and attributes it was told.
// The mount owns the volume (lockVolume), so nothing changes but through it.
const cacheFor = time.Hour

// Lookup implements fuse.RawFileSystem.
func (r *Root) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	r.touch()
	parent := r.node(header.NodeId)
	if parent == nil {
		return fuse.Status(unix.ESTALE)
	}
	var st unix.Stat_t
	n, err := r.lookup(parent, name, 1, &st)
	if err == unix.ENOENT {
		if r.recovering() {
			return fuse.ENOENT // the crash check may put something back there
		}
		out.NodeId = 0 // the kernel remembers that there is nothing
		out.SetEntryTimeout(cacheFor)
		return fuse.OK
	}
	if err != nil {
		return status(err)
	}
	r.entryOut(n, &st, out)
	return fuse.OK
}

// lookup finds name in parent, verifies what must be verified before the
// kernel may know it, and counts count lookups of it.
func (r *Root) lookup(parent *node, name string, count uint64, st *unix.Stat_t) (*node, error) {
	n, recover, err := r.intern(parent, name, count, st)
	if err != nil {
		return nil, err
	}
	if recover {
		// A crash may have left st_size wrong, and the kernel keeps the first
		// size it is told. What cannot be checked now is told as it stands.
		if f, err := r.hold(n, accessRead, theMount); err == nil {
			_ = backing.Fstat(f.fd, st)
			r.letGo(f)
			n.checked.Store(true)
		}
	}
	return n, nil
}

// intern finds name in parent and makes or finds its node. The look and the
// entry are under different locks; where a name has changed between, by the
// kernel's doing or that of a walk in the background, it looks again.
func (r *Root) intern(parent *node, name string, count uint64, st *unix.Stat_t) (n *node, recover bool, err error) {
	for {
		stored, recover, seq, err := r.find(parent, name, st)
		if err != nil {
			return nil, false, err
		}
		if n := r.enter(parent, name, stored, st, count, seq); n != nil {
			return n, recover, nil
		}
	}
}

// enter is internLocked, unless names have changed since seq: then it is nil.
func (r *Root) enter(parent *node, name string, stored names.Stored, st *unix.Stat_t, count, seq uint64) *node {
	r.tree.Lock()
	defer r.tree.Unlock()
	if r.seq != seq {
		return nil
	}
	return r.internLocked(parent, name, stored, st, count)
}

// find looks up name in the ciphertext of parent. recover says that the object
// is a file that a crash may have left in the middle of a change; seq is the
// state of the tree that the answer is of.
func (r *Root) find(parent *node, name string, st *unix.Stat_t) (stored names.Stored, recover bool, seq uint64, err error) {
	r.tree.RLock()
	defer r.tree.RUnlock()
	d, err := r.acquire(parent)
	if err != nil {
		return stored, false, 0, err
	}
	defer r.release1(d)
	if stored, err = r.names.Encrypt(d.id, name); err != nil {
		return stored, false, 0, err
	}
	recover, err = r.findStored(parent, d, name, &stored, st)
	return stored, recover, r.seq, err
}

// findStored is find for a name whose ciphertext is known. Holds: tree, shared.
func (r *Root) findStored(parent *node, d *dir, name string, stored *names.Stored, st *unix.Stat_t) (recover bool, err error) {
	if err := backing.Stat(d.fd, stored.Name, st); err != nil {
		return false, err
	}
	if st.Dev != r.dev {
		return false, r.misplaced(d, stored.Name, "a mount lies inside the volume", nil)
	}
	known := r.byIno[st.Ino]
	if known != nil && known.hasNameLocked(parent, stored.Name) && (!r.recovering() || !known.isRegular() || known.checked.Load()) {
		return false, nil
	}
	ref := &nameRef{parent: parent, name: name, stored: *stored}
	// An object with several names, or one that we know elsewhere, must show
	// that it belongs here too before it becomes the same node: for a node
	// the kernel does not say by which name it was reached.
	shared := known != nil && known.kind == st.Mode&unix.S_IFMT && !known.hasNameLocked(parent, stored.Name)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if shared || st.Nlink > 1 || r.recovering() {
			return r.verifyFile(d, ref, st)
		}
	case unix.S_IFLNK:
		if shared || st.Nlink > 1 {
			_, err := r.readSymlink(d, ref)
			return false, err
		}
	case unix.S_IFDIR:
		if shared {
			return false, r.misplaced(d, stored.Name, "directory was moved here", nil)
		}
	default:
		_, err := r.specialEntry(d, ref, st)
		return false, err
	}
	return false, nil
}

// verifyFile checks a file's binding by its header alone. A file that was
// never written has no header to check; opening it will say so.
func (r *Root) verifyFile(d *dir, ref *nameRef, st *unix.Stat_t) (recover bool, err error) {
	fd, err := r.openToRead(d.fd, ref.stored.Name)
	if err != nil {
		return false, err
	}
	defer backing.Close(fd)
	var buf [format.HeaderSize]byte
	if n, err := backing.Pread(fd, buf[:], 0); err != nil || n < len(buf) {
		return false, err
	}
	h, err := r.sealer.ParseHeader(buf[:])
	if err != nil {
		return false, nil // shown with what stat says; opening it fails
	}
	if h.Parent != d.id || h.Tag != ref.stored.Tag {
		if err := r.vouched(d, ref, object{fd: fd}, h); err != nil {
			return false, r.misplaced(d, ref.stored.Name, "file belongs elsewhere", err)
		}
	}
	return r.recovering() && (r.mayBeUnsettled(h.Generation) || st.Ctim.Sec >= r.lenient.since), nil
}

// entryOut fills the answer that makes a node known to the kernel.
func (r *Root) entryOut(n *node, st *unix.Stat_t, out *fuse.EntryOut) {
	out.NodeId = n.id
	out.Generation = 1 // node ids are never reused
	out.SetEntryTimeout(cacheFor)
	out.SetAttrTimeout(cacheFor)
	r.attrOut(n, st, &out.Attr)
}

// attrOut translates a backing object's attributes to the plaintext's.
func (r *Root) attrOut(n *node, st *unix.Stat_t, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino: st.Ino, Size: uint64(st.Size), Blocks: uint64(st.Blocks),
		Atime: uint64(st.Atim.Sec), Mtime: uint64(st.Mtim.Sec), Ctime: uint64(st.Ctim.Sec),
		Atimensec: uint32(st.Atim.Nsec), Mtimensec: uint32(st.Mtim.Nsec), Ctimensec: uint32(st.Ctim.Nsec),
		Mode: st.Mode, Nlink: uint32(st.Nlink), Rdev: uint32(st.Rdev), Blksize: 4096,
	}
	out.Uid, out.Gid = st.Uid, st.Gid
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if f := n.file.Load(); f != nil {
			out.Size = uint64(f.shown.Load())
		} else if length, ok := r.geom.LengthFromSize(st.Size); ok {
			out.Size = uint64(length)
		} else if pages := st.Size / content.PageSize; pages > 0 {
			// A size no writer leaves; opening the file will correct it.
			out.Size = uint64(r.geom.Start(pages-1)) + uint64(r.geom.DataIn(pages-1))
		} else {
			out.Size = 0 // never written
		}
	case unix.S_IFLNK:
		if length, ok := format.SymlinkLength(int(st.Size)); ok {
			out.Size = uint64(length)
		}
	}
}

// Readlink implements fuse.RawFileSystem.
func (r *Root) Readlink(_ <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	r.touch()
	n := r.node(header.NodeId)
	if n == nil {
		return nil, fuse.Status(unix.ESTALE)
	}
	r.tree.RLock()
	defer r.tree.RUnlock()
	target, err := r.readTarget(n)
	return []byte(target), status(err)
}

// readTarget reads a symlink's target by any of its names. Holds: tree, shared.
func (r *Root) readTarget(n *node) (string, error) {
	if len(n.names) == 0 && n.target != "" {
		return n.target, nil
	}
	err := error(unix.ESTALE)
	for i := range n.names {
		d, e := r.acquire(n.names[i].parent)
		if e != nil {
			err = e
			continue
		}
		link, e := r.readSymlink(d, &n.names[i])
		r.release1(d)
		if e == nil {
			return link.Target, nil
		}
		err = e
	}
	return "", err
}

// readSymlink reads and verifies the symlink at ref. Holds: tree, shared.
func (r *Root) readSymlink(d *dir, ref *nameRef) (*format.Symlink, error) {
	target, err := backing.Readlink(d.fd, ref.stored.Name)
	if err != nil {
		return nil, err
	}
	link, err := r.sealer.OpenSymlink(target)
	if err != nil {
		return nil, r.misplaced(d, ref.stored.Name, "symlink does not verify", err)
	}
	if link.Parent != d.id || link.Tag != ref.stored.Tag {
		if _, err := r.nameEntry(d, &ref.stored, format.KindSymlink, link.ID); err != nil {
			return nil, r.misplaced(d, ref.stored.Name, "symlink belongs elsewhere", err)
		}
	}
	return link, nil
}

// specialEntry finds the record that makes a FIFO, socket or device node at
// ref legitimate: its type and device number are sealed there.
func (r *Root) specialEntry(d *dir, ref *nameRef, st *unix.Stat_t) (*format.NameEntry, error) {
	rec, err := r.readNameRecord(d, &ref.stored)
	if err != nil {
		return nil, r.misplaced(d, ref.stored.Name, "special file has no record", err)
	}
	for i := range rec.Entries {
		e := &rec.Entries[i]
		if e.Kind == format.KindSpecial && e.Mode == st.Mode&unix.S_IFMT && e.Rdev == st.Rdev {
			return e, nil
		}
	}
	return nil, r.misplaced(d, ref.stored.Name, "special file is not the one recorded", nil)
}

// StatFs implements fuse.RawFileSystem. Blocks are counted as plaintext fits
// them: 4064 of 4096 bytes.
func (r *Root) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	r.touch()
	r.reclaimer.drain()
	var st unix.Statfs_t
	if err := unix.Fstatfs(r.rootfd, &st); err != nil {
		return status(err)
	}
	scale := func(blocks uint64) uint64 {
		return blocks/content.PageSize*uint64(r.geom.DataIn(1)) + blocks%content.PageSize*uint64(r.geom.DataIn(1))/content.PageSize
	}
	*out = fuse.StatfsOut{
		Blocks: scale(st.Blocks), Bfree: scale(st.Bfree), Bavail: scale(st.Bavail),
		Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), Frsize: uint32(st.Frsize), NameLen: names.MaxName,
	}
	return fuse.OK
}
