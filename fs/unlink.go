package fs

import (
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// Unlink implements fuse.RawFileSystem. It asks nothing of the content: what
// is damaged or was never written can still be removed.
func (r *Root) Unlink(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	parent, code := r.nodeToChange(header.NodeId)
	if !code.Ok() {
		return code
	}
	return status(r.removeName(parent, name, r.unlinkFile))
}

// removeName has remove take away the object at a name, then all that the
// format and the tree kept for the name.
func (r *Root) removeName(parent *node, name string, remove func(d *dir, stored string, st *unix.Stat_t) error) error {
	var gone *file
	defer func() {
		if gone != nil {
			gone.abandon()
		}
	}()
	r.tree.Lock()
	defer r.tree.Unlock()
	d, err := r.acquire(parent)
	if err != nil {
		return err
	}
	defer r.release1(d)
	stored, err := r.names.Encrypt(d.id, name)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := backing.Stat(d.fd, stored.Name, &st); err != nil {
		return err
	}
	defer r.keepKnown(&st)()
	if err := remove(d, stored.Name, &st); err != nil {
		return err
	}
	r.removeNameRecord(d, &stored)
	r.dropSidecar(d, &stored)
	gone = r.nameGoneLocked(parent, stored.Name, &st)
	r.settle.dirty.Store(true)
	return nil
}

// keepKnown keeps what of an object cannot be had any more once its last name
// is removed, where the kernel knows the object and so may ask for it: a
// directory's handle, a symlink's target. Call done when the name is gone.
// Holds: tree.
func (r *Root) keepKnown(st *unix.Stat_t) (done func()) {
	n := r.byIno[st.Ino]
	if n != nil && n.isDir() {
		if d, err := r.acquire(n); err == nil {
			return func() { r.release1(d) }
		}
	}
	if n != nil && n.kind == unix.S_IFLNK && st.Nlink <= 1 && len(n.names) > 0 {
		if target, err := r.readTarget(n); err == nil {
			n.target = target
		}
	}
	return func() {}
}

// nameGoneLocked updates the tree after an object lost a name. st is what it
// was before. It returns the open state of a file that was its last, which may
// have been opened ahead. Holds: tree.
func (r *Root) nameGoneLocked(parent *node, stored string, st *unix.Stat_t) (last *file) {
	r.seq++
	n := r.byIno[st.Ino]
	if n == nil || !n.hasNameLocked(parent, stored) {
		return nil
	}
	if st.Nlink <= 1 || n.isDir() {
		// The inode number may be reused from now on.
		delete(r.byIno, n.ino)
		st.Nlink = 0
		n.gone = st
		if n.isDir() {
			r.fds.keep(n.dir)
		}
		last = n.file.Load()
	}
	r.dropNameLocked(n, parent, stored)
	return last
}

// Rmdir implements fuse.RawFileSystem.
func (r *Root) Rmdir(_ <-chan struct{}, header *fuse.InHeader, name string) fuse.Status {
	parent, code := r.nodeToChange(header.NodeId)
	if !code.Ok() {
		return code
	}
	return status(r.removeName(parent, name, func(d *dir, stored string, st *unix.Stat_t) error {
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return unix.ENOTDIR
		}
		return r.removeDir(d, stored)
	}))
}

// removeDir removes the empty directory stored: moved aside first, so that it
// is there whole or not at all, then taken apart.
func (r *Root) removeDir(d *dir, stored string) error {
	fd, err := backing.OpenDir(d.fd, stored)
	if err != nil {
		return err
	}
	defer backing.Close(fd)
	var st unix.Stat_t
	if err := backing.Fstat(fd, &st); err != nil {
		return err
	}
	// To remove a directory needs no permission on it, to take out its record
	// does: a worker that is not root may have to give itself some.
	locked := os.Geteuid() != 0 && st.Mode&0o700 != 0o700
	if locked {
		if err := backing.HandleChmod(fd, 0o700); err != nil {
			return err
		}
	}
	own, err := r.ownEntries(fd)
	if err != nil {
		if locked {
			_ = backing.HandleChmod(fd, st.Mode&0o7777)
		}
		return err
	}
	tmp := r.tempName(delPrefix)
	if err := backing.Rename(d.fd, stored, d.fd, tmp, 0); err != nil {
		return err
	}
	// Whoever has it open sees none of this.
	_ = r.keepTimes(fd, func() error {
		for _, entry := range own {
			_ = backing.Unlink(fd, entry)
		}
		return nil
	})
	if locked {
		_ = backing.HandleChmod(fd, st.Mode&0o7777)
	}
	if err := backing.Rmdir(d.fd, tmp); err != nil {
		r.log.Warn("could not take apart a removed directory", "ciphertext", tmp, "err", err)
	}
	return nil
}

// checkEmpty answers ENOTEMPTY where the directory stored holds anything of the
// user's.
func (r *Root) checkEmpty(d *dir, stored string) error {
	fd, err := backing.OpenDir(d.fd, stored)
	if err != nil {
		return err
	}
	defer backing.Close(fd)
	_, err = r.ownEntries(fd)
	return err
}

// ownEntries lists what the format itself keeps in a directory; ENOTEMPTY if
// there is anything else.
func (r *Root) ownEntries(fd int) ([]string, error) {
	list, err := backing.NewLister(fd)
	if err != nil {
		return nil, err
	}
	defer list.Close()
	var own []string
	for {
		e, ok, err := list.Next()
		if err != nil || !ok {
			return own, err
		}
		switch {
		case e.Name == "." || e.Name == "..":
		case names.IsReserved(e.Name):
			own = append(own, e.Name)
		default:
			return nil, unix.ENOTEMPTY
		}
	}
}
