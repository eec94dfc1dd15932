package fs

import (
	"crypto/rand"
	"errors"
	"os"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// owner is what a new object gets besides its name.
type owner struct {
	uid, gid int // -1: whatever the backing filesystem gives it
	mode     uint32
	acls     format.XattrSet // inherited ACLs
}

// inherit works out owner, mode and ACLs of a new object in the directory
// behind d: setgid directories pass on their group, default ACLs replace the
// umask.
func (r *Root) inherit(parent *node, d *dir, caller *fuse.Caller, mode, umask uint32) (owner, error) {
	o := owner{uid: -1, gid: -1, mode: mode}
	isDir := mode&unix.S_IFMT == unix.S_IFDIR
	var st unix.Stat_t
	if err := backing.Fstat(d.fd, &st); err != nil {
		return o, err
	}
	if os.Geteuid() == 0 {
		o.uid, o.gid = int(caller.Uid), int(caller.Gid)
	}
	if st.Mode&unix.S_ISGID != 0 {
		if o.uid >= 0 {
			o.gid = int(st.Gid)
		}
		if isDir {
			o.mode |= unix.S_ISGID
		}
	}
	var err error
	o.mode, o.acls, err = r.inheritACL(parent, o.mode, umask)
	return o, err
}

// place is a directory and a name in it, as a create needs it.
type place struct {
	parent *node
	name   string
	stored names.Stored
	dirID  names.ID
	path   string
}

func (r *Root) placeOf(parent *node, name string) (p place, err error) {
	r.tree.RLock()
	defer r.tree.RUnlock()
	d, err := r.acquire(parent)
	if err != nil {
		return p, err
	}
	defer r.release1(d)
	stored, err := r.names.Encrypt(d.id, name)
	return place{parent, name, stored, d.id, parent.childPathLocked(name)}, err
}

// newFile makes the in-memory state of a new regular file, without its key.
func (r *Root) newFile(dirID names.ID, tag names.Tag) *file {
	return &file{r: r, fd: -1, refs: 1, hdr: r.newHeader(dirID, tag)}
}

// createFile creates a regular file at p and leaves it open. Its node is there
// before its first page: until then a walk in the background finds a file that
// was never written, and from then on it finds this one's open state.
func (r *Root) createFile(p *place, caller *fuse.Caller, mode, umask uint32, st *unix.Stat_t) (*node, *file, error) {
	f := r.newFile(p.dirID, p.stored.Tag)
	err := r.makeWithKey(f, p, r.principal(caller), func() error { return r.makeFile(f, p, caller, mode, umask) })
	if err == nil {
		if err = backing.Fstat(f.fd, st); err != nil {
			r.unmakeFile(f, p)
		}
	}
	if err != nil {
		f.closeLocked()
		return nil, nil, err
	}
	r.tree.Lock()
	n := r.bornLocked(p.parent, p.name, p.stored, st)
	r.adoptFile(n, f, &nameRef{p.parent, p.name, p.stored})
	r.tree.Unlock()
	if err := f.writeFresh(st); err != nil {
		r.unmakeFile(f, p)
		r.tree.Lock()
		r.nameGoneLocked(p.parent, p.stored.Name, st)
		r.tree.Unlock()
		r.letGo(f)
		r.Forget(n.id, 1)
		return nil, nil, err
	}
	return n, f, nil
}

// makeWithKey gets a new file its key and its backing file. The key service is
// asked first and answers while the file is made; without its consent that goes
// again. Nobody sees it meanwhile: the kernel keeps lookups of the name waiting.
//
// A key that does not fit the header goes to a name record, which must be there
// before the file: the header, a data page, could reach the disk without it.
func (r *Root) makeWithKey(f *file, p *place, who principal, make func() error) error {
	path := contextOf(p.path)
	pending := r.keys.create(f.hdr.FileID, path, who)
	if !r.keys.likelyFits(path) {
		if err := f.takeKey(pending, path, who); err != nil {
			return err
		}
		return make()
	}
	made := make()
	err := f.takeKey(pending, path, who)
	if made != nil {
		return made
	}
	if err != nil || f.hdr.KeyInRecord {
		r.unmakeFile(f, p)
		backing.Close(f.fd)
		f.fd = -1
		if err == nil {
			err = make()
		}
	}
	return err
}

// makeFile makes the backing file, with owner, mode and ACLs but no content,
// and before it the record that its header will rely on.
func (r *Root) makeFile(f *file, p *place, caller *fuse.Caller, mode, umask uint32) error {
	r.tree.RLock()
	defer r.tree.RUnlock()
	d, err := r.acquire(p.parent)
	if err != nil {
		return err
	}
	defer r.release1(d)
	own, err := r.inherit(p.parent, d, caller, mode, umask)
	if err != nil {
		return err
	}
	if err := r.putSidecar(d, &p.stored); err != nil {
		return err
	}
	undo := func() error { return nil }
	if f.hdr.KeyInRecord {
		undo, err = r.putNameEntry(d, &p.stored, f.nameEntry())
	}
	if err == nil {
		// Nobody but the worker may open it before it has its owner.
		f.fd, err = backing.Open(d.fd, p.stored.Name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
	}
	if err == nil {
		if err = r.dress(f, own); err == nil {
			return nil
		}
		_ = backing.Unlink(d.fd, p.stored.Name)
	}
	if undo != nil {
		_ = undo() // a leftover record says nothing
	}
	var st unix.Stat_t
	if backing.Stat(d.fd, p.stored.Name, &st) == unix.ENOENT {
		r.dropSidecar(d, &p.stored) // else it is another's
	}
	return err
}

// unmakeFile takes back what makeFile has made.
func (r *Root) unmakeFile(f *file, p *place) {
	r.tree.RLock()
	defer r.tree.RUnlock()
	d, err := r.acquire(p.parent)
	if err == nil {
		defer r.release1(d)
		err = backing.Unlink(d.fd, p.stored.Name)
	}
	if err != nil {
		r.log.Warn("could not remove a file that got no key", "ciphertext", p.stored.Name, "err", err)
		return
	}
	if f.hdr.KeyInRecord {
		r.removeNameRecord(d, &p.stored)
	}
	r.dropSidecar(d, &p.stored)
}

// takeKey waits for the key of a new file and makes its cipher. No lock is
// held: the key service may take its time.
func (f *file) takeKey(pending pendingKey, path string, who principal) error {
	r := f.r
	key, wrapped, err := pending()
	if err != nil {
		return err
	}
	defer key.Free()
	if f.cipher, err = content.NewCipher(r.alg, r.geom, f.hdr.FileID, key.Bytes()); err != nil {
		return err
	}
	f.wrapped = wrapped
	f.noteConsent(who, time.Now())
	if r.keys.bindsPath() {
		f.path = path
	}
	if r.conf.Keys == format.KeysPath && !format.PathFits(len(wrapped), f.path) {
		f.hdr.KeyInRecord = true
	} else {
		f.hdr.WrappedKey, f.hdr.Path = wrapped, f.path
	}
	r.keys.wrappedLen.Store(int64(len(wrapped)))
	return nil
}

// dress gives a new file its owner, mode and inherited ACLs.
func (r *Root) dress(f *file, own owner) error {
	if own.uid >= 0 && (own.uid != os.Geteuid() || own.gid != os.Getegid()) {
		if err := backing.Fchown(f.fd, own.uid, own.gid); err != nil {
			return err
		}
	}
	if own.mode&0o7777 != 0o600 {
		if err := backing.Fchmod(f.fd, own.mode&0o7777); err != nil {
			return err
		}
	}
	if len(own.acls) == 0 {
		return nil
	}
	f.hdr.HasXattrs = true
	return r.storeXattrs(object{fd: f.fd}, userXattr, f.hdr.FileID, own.acls)
}

// bornLocked makes the node of an object that was just created. Holds: tree.
func (r *Root) bornLocked(parent *node, name string, stored names.Stored, st *unix.Stat_t) *node {
	r.seq++
	old := r.byIno[st.Ino]
	if old != nil && name != "" && len(old.names) == 1 && old.hasNameLocked(parent, stored.Name) {
		old.lookups++ // a walk in the background has seen it before us
		return old
	}
	if old != nil {
		r.detachLocked(old) // its inode number was reused
	}
	n := r.newNode(st)
	n.lookups = 1
	if name != "" {
		n.addNameLocked(parent, name, stored)
	}
	return n
}

func (r *Root) adoptFile(n *node, f *file, ref *nameRef) {
	f.n, f.at = n, *ref
	n.file.Store(f)
	n.cached.Store(true) // as it is written
	r.settle.dirty.Store(true)
}

// Create implements fuse.RawFileSystem.
func (r *Root) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	parent, code := r.nodeToChange(in.NodeId)
	if !code.Ok() {
		return code
	}
	p, err := r.placeOf(parent, name)
	if err != nil {
		return status(err)
	}
	var st unix.Stat_t
	n, f, err := r.createFile(&p, &in.Caller, in.Mode&0o7777|unix.S_IFREG, in.Umask, &st)
	if err == unix.EEXIST && in.Flags&unix.O_EXCL == 0 {
		return r.openExisting(parent, name, in, out)
	}
	if err != nil {
		return status(err)
	}
	out.Fh = r.handles.add(&handle{node: n, file: f})
	out.OpenFlags = openFlags
	r.entryOut(n, &st, &out.EntryOut)
	return fuse.OK
}

// openExisting answers a CREATE whose name turned out to exist.
func (r *Root) openExisting(parent *node, name string, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	var st unix.Stat_t
	n, err := r.lookup(parent, name, 1, &st)
	if err != nil {
		return status(err)
	}
	fh, err := r.openHandle(n, in.Flags, r.principal(&in.Caller))
	if err == nil && in.Flags&unix.O_TRUNC != 0 {
		f := r.handles.get(fh).file
		f.mu.Lock()
		err = f.truncateLocked(0)
		f.mu.Unlock()
		st.Size = r.geom.BackingSize(0)
	}
	if err != nil {
		r.Forget(n.id, 1)
		return status(err)
	}
	out.Fh = fh
	r.entryOut(n, &st, &out.EntryOut)
	return fuse.OK
}

// Tmpfile implements fuse.RawFileSystem (O_TMPFILE).
func (r *Root) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	parent, code := r.nodeToChange(in.NodeId)
	if !code.Ok() {
		return code
	}
	var st unix.Stat_t
	n, f, err := r.tmpfile(parent, in, &st)
	if err != nil {
		return status(err)
	}
	out.Fh = r.handles.add(&handle{node: n, file: f})
	out.OpenFlags = openFlags
	r.entryOut(n, &st, &out.EntryOut)
	return fuse.OK
}

func (r *Root) tmpfile(parent *node, in *fuse.CreateIn, st *unix.Stat_t) (*node, *file, error) {
	r.tree.RLock()
	d, err := r.acquire(parent)
	if err != nil {
		r.tree.RUnlock()
		return nil, nil, err
	}
	// It is bound to its directory and to no name; the path the key service
	// sees is the directory's and a number. rand.Text is not the file ID, so
	// that the audit log says nothing of the ciphertext.
	f := r.newFile(d.id, names.Tag{})
	path := contextOf(parent.childPathLocked("#" + rand.Text()))
	r.release1(d)
	r.tree.RUnlock()

	who := r.principal(&in.Caller)
	pending := r.keys.create(f.hdr.FileID, path, who)
	err = r.makeNameless(f, parent, in)
	// A key that does not fit the header needs no record yet: without a name
	// the file does not outlive the worker.
	if e := f.takeKey(pending, path, who); err == nil {
		err = e
	}
	if err == nil {
		err = f.writeFresh(st)
	}
	if err != nil {
		f.closeLocked()
		return nil, nil, err
	}
	r.tree.Lock()
	defer r.tree.Unlock()
	n := r.bornLocked(nil, "", names.Stored{}, st)
	r.adoptFile(n, f, &nameRef{parent: parent})
	return n, f, nil
}

// makeNameless is makeFile for a file without a name.
func (r *Root) makeNameless(f *file, parent *node, in *fuse.CreateIn) error {
	r.tree.RLock()
	defer r.tree.RUnlock()
	d, err := r.acquire(parent)
	if err != nil {
		return err
	}
	defer r.release1(d)
	own, err := r.inherit(parent, d, &in.Caller, in.Mode&0o7777|unix.S_IFREG, in.Umask)
	if err != nil {
		return err
	}
	if f.fd, err = backing.Open(d.fd, ".", unix.O_TMPFILE|unix.O_RDWR, 0o600); err != nil {
		return err
	}
	return r.dress(f, own)
}

// Mknod implements fuse.RawFileSystem.
func (r *Root) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	parent, code := r.nodeToChange(in.NodeId)
	if !code.Ok() {
		return code
	}
	p, err := r.placeOf(parent, name)
	if err != nil {
		return status(err)
	}
	var st unix.Stat_t
	var n *node
	if kind := in.Mode & unix.S_IFMT; kind == unix.S_IFREG || kind == 0 {
		var f *file
		if n, f, err = r.createFile(&p, &in.Caller, in.Mode&0o7777|unix.S_IFREG, in.Umask, &st); err == nil {
			r.letGo(f)
		}
	} else {
		n, err = r.createSpecial(&p, in, &st)
	}
	if err != nil {
		return status(err)
	}
	r.entryOut(n, &st, out)
	return fuse.OK
}

// createSpecial makes a FIFO, socket or device node. Its type and number are
// sealed in the name's record, which is there first.
func (r *Root) createSpecial(p *place, in *fuse.MknodIn, st *unix.Stat_t) (*node, error) {
	e := &format.NameEntry{Kind: format.KindSpecial, Mode: in.Mode & unix.S_IFMT}
	if e.Mode == unix.S_IFCHR || e.Mode == unix.S_IFBLK {
		e.Rdev = uint64(in.Rdev)
	}
	rand.Read(e.ID[:])
	return r.createAt(p, &in.Caller, in.Mode, in.Umask, st, func(d *dir, own owner) error {
		undo, err := r.putNameEntry(d, &p.stored, e)
		if err != nil {
			return err
		}
		if err := backing.Mknod(d.fd, p.stored.Name, e.Mode, e.Rdev); err != nil {
			return errors.Join(err, undo())
		}
		o := object{dirfd: d.fd, name: p.stored.Name}
		if own.uid >= 0 {
			if err := o.chown(own.uid, own.gid); err != nil {
				return err
			}
		}
		if len(own.acls) > 0 {
			// Without CAP_SYS_ADMIN there is nowhere to keep them; the mode has
			// been worked out from them all the same.
			err := r.storeXattrs(o, trustedXattr, e.ID, own.acls)
			if err != nil && err != unix.EPERM && err != unix.EOPNOTSUPP {
				return err
			}
		}
		return o.chmod(own.mode & 0o7777)
	})
}

// Symlink implements fuse.RawFileSystem.
func (r *Root) Symlink(_ <-chan struct{}, header *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	parent, code := r.nodeToChange(header.NodeId)
	if !code.Ok() {
		return code
	}
	p, err := r.placeOf(parent, name)
	if err != nil {
		return status(err)
	}
	if len(target) > format.MaxSymlink {
		return fuse.Status(unix.ENAMETOOLONG)
	}
	link := &format.Symlink{Parent: p.dirID, Tag: p.stored.Tag, Target: target}
	rand.Read(link.ID[:])
	sealed, err := r.sealer.SealSymlink(link)
	if err != nil {
		return status(err)
	}
	var st unix.Stat_t
	n, err := r.createAt(&p, &header.Caller, unix.S_IFLNK|0o777, 0, &st, func(d *dir, own owner) error {
		if err := backing.Symlink(d.fd, p.stored.Name, sealed); err != nil {
			return err
		}
		if own.uid >= 0 && (own.uid != os.Geteuid() || own.gid != os.Getegid()) {
			return backing.Chown(d.fd, p.stored.Name, own.uid, own.gid)
		}
		return nil
	})
	if err != nil {
		return status(err)
	}
	r.entryOut(n, &st, out)
	return fuse.OK
}

// createAt makes an object other than a regular file or a directory by make,
// and its node.
func (r *Root) createAt(p *place, caller *fuse.Caller, mode, umask uint32, st *unix.Stat_t, make func(*dir, owner) error) (*node, error) {
	r.tree.RLock()
	d, err := r.acquire(p.parent)
	if err == nil {
		var own owner
		if own, err = r.inherit(p.parent, d, caller, mode, umask); err == nil {
			err = r.putSidecar(d, &p.stored)
		}
		if err == nil {
			err = make(d, own)
		}
		if err == nil {
			err = backing.Stat(d.fd, p.stored.Name, st)
		}
		r.release1(d)
	}
	r.tree.RUnlock()
	if err != nil {
		return nil, err
	}
	r.settle.dirty.Store(true)
	r.tree.Lock()
	defer r.tree.Unlock()
	return r.bornLocked(p.parent, p.name, p.stored, st), nil
}

// Mkdir implements fuse.RawFileSystem.
func (r *Root) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	parent, code := r.nodeToChange(in.NodeId)
	if !code.Ok() {
		return code
	}
	p, err := r.placeOf(parent, name)
	if err != nil {
		return status(err)
	}
	rec := format.DirRecord{ID: names.NewDirID(), Tag: p.stored.Tag}
	var st unix.Stat_t
	n, err := r.createAt(&p, &in.Caller, in.Mode&0o7777|unix.S_IFDIR, in.Umask, &st, func(d *dir, own owner) error {
		return r.makeDir(d, &p, own, &rec)
	})
	if err != nil {
		return status(err)
	}
	r.entryOut(n, &st, out)
	return fuse.OK
}

// makeDir makes a directory with its record under a temporary name and moves
// it into place whole: a directory without a record would be damage.
func (r *Root) makeDir(d *dir, p *place, own owner, rec *format.DirRecord) error {
	rec.HasXattrs = len(own.acls) > 0
	rec.Plain = !rec.HasXattrs
	target := r.sealer.SealDir(rec)
	tmp := r.tempName(tmpPrefix)
	if err := backing.Mkdir(d.fd, tmp, 0o700); err != nil {
		return err
	}
	fd, err := backing.OpenDir(d.fd, tmp)
	if err == nil {
		defer backing.Close(fd)
		err = backing.Symlink(fd, dirName, target)
	}
	if err == nil && own.uid >= 0 {
		err = backing.Chown(d.fd, tmp, own.uid, own.gid)
	}
	if err == nil && len(own.acls) > 0 {
		err = r.storeXattrs(object{dirfd: fd, name: "."}, userXattr, rec.ID, own.acls)
	}
	if err == nil {
		err = backing.Chmod(d.fd, tmp, own.mode&0o7777)
	}
	if err == nil {
		err = backing.Rename(d.fd, tmp, d.fd, p.stored.Name, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		if fd >= 0 {
			_ = backing.Unlink(fd, dirName)
		}
		_ = backing.Rmdir(d.fd, tmp)
	}
	return err
}
