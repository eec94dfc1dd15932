package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// checkTree checks the directory n and all below it.
func (c *checker) checkTree(n *node) {
	r := c.r
	err := c.searchable(n)
	var d *dir
	if err == nil {
		d, err = r.acquire(n)
	}
	if err != nil {
		c.failDir(n, err)
		return
	}
	c.dirs.Add(1)
	if n.dir.moved {
		f := c.at(&n.names[0])
		f.Category, f.Reason, f.Advice = Unsettled, "the directory's rename is not finished", "the next mount finishes it, or --repair"
		if c.o.Repair {
			c.repaired(f, r.foldMove(n), "finished the rename")
		} else {
			c.report(f)
		}
	}
	if c.seen(d.id, n.ino) != fresh {
		f := c.place(n)
		f.Category, f.Advice = Damage, "one of the two is a copy: remove that"
		f.Reason = fmt.Sprintf("the directory has the same ID as another (inode number %d)", c.ids[d.id])
		c.report(f)
	}
	if _, err := r.moveRecord(object{dirfd: d.fd, name: "."}, d.id); errors.Is(err, format.ErrCorrupt) {
		f := c.place(n)
		f.Category, f.Reason, f.Advice = classify(err)
		c.report(f)
	}
	c.checkXattrs(n, func() *Finding { return c.place(n) }, object{dirfd: d.fd, name: "."}, d.xattrs.Load())
	dirs, err := c.checkDir(n, d)
	r.release1(d)
	if err != nil {
		c.failDir(n, err)
	}
	for _, stored := range dirs {
		if c.err() != nil {
			return
		}
		if child := c.child(n, stored); child != nil {
			c.checkTree(child)
			r.fds.drop(child.dir)
		}
	}
}

// place begins a finding about the directory n itself.
func (c *checker) place(n *node) *Finding {
	return &Finding{Path: n.pathLocked(), StoredPath: n.storedPathLocked()}
}

// failDir reports a directory that cannot be entered.
func (c *checker) failDir(n *node, err error) {
	f := c.place(n)
	f.Category, f.Reason, f.Advice = classify(err)
	if f.Category == Damage {
		f.Advice = "nothing below it could be checked; restore the directory's " + dirName + " from a backup of the ciphertext, or all of it"
	} else {
		c.open.Store(true)
		f.Reason += "; nothing below it was checked"
	}
	c.report(f)
}

// searchable tells missing permissions from a missing record.
func (c *checker) searchable(n *node) error {
	if os.Geteuid() == 0 || len(n.names) == 0 {
		return nil
	}
	ref := &n.names[0]
	parent, err := c.r.acquire(ref.parent)
	if err != nil {
		return err
	}
	defer c.r.release1(parent)
	return unix.Faccessat(parent.fd, ref.stored.Name, unix.R_OK|unix.X_OK, unix.AT_EACCESS|unix.AT_SYMLINK_NOFOLLOW)
}

// child makes the node of a subdirectory found before; nil if it is gone.
func (c *checker) child(parent *node, entry string) *node {
	d, err := c.r.acquire(parent)
	if err != nil {
		c.failDir(parent, err)
		return nil
	}
	defer c.r.release1(d)
	name, stored, ok := c.r.plainName(d, entry)
	var st unix.Stat_t
	if !ok || backing.Stat(d.fd, entry, &st) != nil {
		return nil
	}
	n := c.newNode(&st)
	n.names = []nameRef{{parent: parent, name: name, stored: *stored}}
	return n
}

// newNode makes a node that is in no map.
func (c *checker) newNode(st *unix.Stat_t) *node {
	n := &node{ino: st.Ino, kind: st.Mode & unix.S_IFMT}
	if n.isDir() {
		n.dir = newDir()
	}
	return n
}

// checkDir checks what is in the directory n and returns its subdirectories.
// The format's own entries come first, so that an interrupted rename is told
// as such before the object it concerns is looked at.
func (c *checker) checkDir(n *node, d *dir) (dirs []string, err error) {
	list, err := backing.NewLister(d.fd)
	if err != nil {
		return nil, err
	}
	defer list.Close()
	for _, own := range []bool{true, false} {
		if err := list.SeekTo(0); err != nil {
			return nil, err
		}
		for c.err() == nil {
			e, more, err := list.Next()
			if err != nil {
				return nil, err
			}
			if !more {
				break
			}
			switch {
			case e.Name == "." || e.Name == ".." || names.IsReserved(e.Name) != own:
			case own:
				c.checkOwn(n, d, e.Name)
			case c.checkEntry(n, d, e.Name):
				dirs = append(dirs, e.Name)
			}
		}
	}
	return dirs, nil
}

// checkEntry checks the object with a stored name; a subdirectory is left to
// the caller.
func (c *checker) checkEntry(n *node, d *dir, entry string) (isDir bool) {
	r := c.r
	name, stored, ok := r.plainName(d, entry)
	if !ok {
		c.strange(n, d, entry)
		return false
	}
	ref := &nameRef{parent: n, name: name, stored: *stored}
	var st unix.Stat_t
	if err := backing.Stat(d.fd, entry, &st); err != nil {
		c.fail(ref, err)
		return false
	}
	if st.Dev != r.dev {
		c.fail(ref, unix.EXDEV)
		return false
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return true
	case unix.S_IFREG:
		c.checkRegular(d, ref, &st)
		return false
	case unix.S_IFLNK:
		c.links.Add(1)
		_, err = r.readSymlink(d, ref)
	default:
		c.specials.Add(1)
		_, err = r.specialEntry(d, ref, &st)
	}
	if err != nil {
		c.fail(ref, err)
		return false
	}
	o := c.newNode(&st)
	o.names = []nameRef{*ref}
	c.checkXattrs(o, func() *Finding { return c.at(ref) }, object{dirfd: d.fd, name: entry}, true)
	return false
}

// checkXattrs checks n's extended attributes; about begins a finding on it.
func (c *checker) checkXattrs(n *node, about func() *Finding, o object, promised bool) {
	if promised {
		if _, err := c.r.loadXattrs(n); err != nil {
			f := about()
			f.Category, f.Reason, f.Advice = Damage, "its extended attributes are missing or do not verify", "restore it from a backup"
			c.report(f)
		}
		return
	}
	if _, err := o.getXattr(userXattr); err == nil {
		c.leftover(about(), "extended attributes that nothing promises: setting the first was cut short", func() error {
			return backing.RemoveXattr(o.dirfd, o.name, userXattr)
		})
	}
}

// strange reports an entry whose name does not decrypt.
func (c *checker) strange(n *node, d *dir, entry string) {
	f := c.in(n, entry)
	f.Category, f.Reason = Damage, "the stored name does not belong in this directory: moved here, or none of kmsfs"
	f.Advice = "move it back to where it was, or remove it"
	if names.IsLong(entry) {
		sidecar := names.SidecarOf(entry)
		var st unix.Stat_t
		if err := backing.Stat(d.fd, sidecar, &st); err == unix.ENOENT {
			f.Reason = "the record of its long name, " + sidecar + ", is missing, so that it is not listed"
			if c.restoreSidecar(n, d, entry, f) {
				return
			}
		} else {
			f.Reason = "the record of its long name, " + sidecar + ", is not its own"
		}
		f.Advice = "restore " + sidecar + " from a backup of the ciphertext; opening the file by its name still works"
	}
	c.report(f)
}

// restoreSidecar makes the sidecar of a long name anew, when it is a file's
// whose header tells the path.
func (c *checker) restoreSidecar(n *node, d *dir, entry string, f *Finding) bool {
	h, err := c.r.peekHeader(object{dirfd: d.fd, name: entry})
	if err != nil {
		return false
	}
	path := h.Path
	if h.KeyInRecord {
		if e, err := c.r.nameEntry(d, &names.Stored{Name: entry, Tag: h.Tag}, format.KindFile, h.FileID); err == nil {
			path = e.Path
		}
	}
	name := filepath.Base(path)
	stored, err := c.r.names.Encrypt(d.id, name)
	if err != nil || stored.Name != entry || stored.Tag != h.Tag {
		return false
	}
	ref := &nameRef{parent: n, name: name, stored: stored}
	f.Path = ref.pathLocked()
	if !c.o.Repair {
		f.Advice = "--repair makes it anew; the file tells its name"
		c.report(f)
		return true
	}
	c.repaired(f, c.r.putSidecar(d, &stored), "made it anew")
	var st unix.Stat_t
	if backing.Stat(d.fd, entry, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		c.checkRegular(d, ref, &st)
	}
	return true
}

// sighting tells whether an ID was seen before.
type sighting int

const (
	fresh   sighting = iota
	again            // at another name of the same object
	another          // at another object
)

// seen notes that the object with an inode number has an ID. Each has its own:
// a second is a copy, made behind the filesystem's back.
func (c *checker) seen(id [16]byte, ino uint64) sighting {
	old, ok := c.ids[id]
	switch {
	case !ok:
		c.ids[id] = ino
		return fresh
	case old == ino:
		return again
	}
	return another
}

// isEmpty tells whether nothing but zeros lies in the first page of a file, and
// in all of it.
func (c *checker) isEmpty(d *dir, entry string) (first, all bool, err error) {
	fd, err := backing.Open(d.fd, entry, unix.O_RDONLY, 0)
	if err != nil {
		return false, false, err
	}
	defer backing.Close(fd)
	buf := getPages(checkChunk)
	defer putPages(buf)
	for pos := int64(0); ; {
		n, err := backing.Pread(fd, buf, pos)
		if err != nil {
			return false, false, err
		}
		if pos == 0 {
			first = allZero(buf[:min(n, content.PageSize)])
		}
		if !allZero(buf[:n]) {
			return first, false, nil
		}
		if n < len(buf) {
			return first, true, nil
		}
		if pos, err = backing.Seek(fd, pos+int64(n), unix.SEEK_DATA); err == unix.ENXIO {
			return first, true, nil
		} else if err != nil {
			return first, false, err
		}
	}
}
