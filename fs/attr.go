package fs

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
)

// object is where system calls find a node's backing object: by directory
// handle and stored name, or, without a name, by an open descriptor.
type object struct {
	dirfd int
	name  string
	fd    int // used where name is empty

	// handle, if not 0, is an O_PATH handle of the object: what changes it goes
	// through the handle, so that nothing can be put in its place in between.
	handle int
}

func (o object) stat(st *unix.Stat_t) error {
	if o.name == "" {
		return backing.Fstat(o.fd, st)
	}
	return backing.Stat(o.dirfd, o.name, st)
}

func (o object) chmod(mode uint32) error {
	if o.handle != 0 {
		return backing.HandleChmod(o.handle, mode)
	}
	if o.name == "" {
		return backing.Fchmod(o.fd, mode)
	}
	return backing.Chmod(o.dirfd, o.name, mode)
}

func (o object) chown(uid, gid int) error {
	if o.handle != 0 {
		return backing.HandleChown(o.handle, uid, gid)
	}
	if o.name == "" {
		return backing.Fchown(o.fd, uid, gid)
	}
	return backing.Chown(o.dirfd, o.name, uid, gid)
}

func (o object) utimens(ts *[2]unix.Timespec) error {
	if o.handle != 0 {
		return backing.HandleUtimens(o.handle, ts)
	}
	if o.name == "" {
		return backing.Futimens(o.fd, ts)
	}
	return backing.Utimens(o.dirfd, o.name, ts)
}

func (o object) getXattr(attr string) ([]byte, error) {
	if o.handle != 0 {
		return backing.HandleGetXattr(o.handle, attr)
	}
	if o.name == "" {
		return backing.FgetXattr(o.fd, attr)
	}
	return backing.GetXattr(o.dirfd, o.name, attr)
}

func (o object) setXattr(attr string, value []byte) error {
	if o.handle != 0 {
		return backing.HandleSetXattr(o.handle, attr, value)
	}
	if o.name == "" {
		return backing.FsetXattr(o.fd, attr, value)
	}
	return backing.SetXattr(o.dirfd, o.name, attr, value)
}

func (o object) removeXattr(attr string) error {
	if o.name == "" {
		return backing.FremoveXattr(o.fd, attr)
	}
	return backing.RemoveXattr(o.dirfd, o.name, attr)
}

// withObject runs do on n's backing object, held in its place by the tree
// lock, after making sure that it still is n's.
func (r *Root) withObject(n *node, st *unix.Stat_t, do func(object) error) error {
	r.tree.RLock()
	defer r.tree.RUnlock()
	if n == r.root {
		o := object{fd: r.rootfd, dirfd: r.rootfd, name: "."}
		if err := o.stat(st); err != nil {
			return err
		}
		return do(o)
	}
	err := error(unix.ESTALE)
	for i := range n.names {
		d, e := r.acquire(n.names[i].parent)
		if e != nil {
			err = e
			continue
		}
		o := object{dirfd: d.fd, name: n.names[i].stored.Name}
		if e = o.stat(st); e == nil {
			if st.Ino != n.ino || st.Dev != r.dev {
				e = unix.ESTALE
			} else {
				defer r.release1(d)
				return do(o)
			}
		}
		r.release1(d)
		err = e
	}
	if len(n.names) > 0 {
		return err
	}
	// Unlinked: an open file has its descriptor, a directory its handle;
	// otherwise only what unlink saw is left.
	if n.dir != nil {
		if d, e := r.acquire(n); e == nil {
			defer r.release1(d)
			o := object{fd: d.fd, handle: d.fd}
			if e := o.stat(st); e != nil {
				return e
			}
			return do(o)
		}
	}
	if f := n.file.Load(); f != nil {
		// A descriptor of our own: do may want the file's lock, and the last
		// close must not take this one away.
		f.mu.RLock()
		fd, e := backing.Dup(f.fd)
		f.mu.RUnlock()
		if e == nil {
			defer backing.Close(fd)
			o := object{fd: fd}
			if e := o.stat(st); e != nil {
				return e
			}
			return do(o)
		}
	}
	if n.gone != nil {
		*st = *n.gone
		return do(object{fd: -1})
	}
	return err
}

// changeObject is withObject for changes: do gets a handle of the object.
func (r *Root) changeObject(n *node, st *unix.Stat_t, do func(object) error) error {
	return r.withObject(n, st, func(o object) error {
		if o.name == "" || o.name == "." {
			return do(o)
		}
		handle, err := backing.Open(o.dirfd, o.name, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer backing.Close(handle)
		if err := backing.Fstat(handle, st); err != nil {
			return err
		}
		if st.Ino != n.ino || st.Dev != r.dev {
			return unix.ESTALE
		}
		o.handle = handle
		return do(o)
	})
}

// GetAttr implements fuse.RawFileSystem.
func (r *Root) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	r.touch()
	n := r.node(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	var st unix.Stat_t
	var h *handle
	if in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
		h = r.handles.get(in.Fh())
	}
	var err error
	if h != nil && h.file != nil {
		err = h.file.withFD(func(fd int) error { return backing.Fstat(fd, &st) })
	} else {
		err = r.withObject(n, &st, func(object) error { return nil })
	}
	if err != nil {
		return status(err)
	}
	r.attrReply(n, &st, out)
	return fuse.OK
}

func (r *Root) attrReply(n *node, st *unix.Stat_t, out *fuse.AttrOut) {
	out.SetTimeout(cacheFor)
	r.attrOut(n, st, &out.Attr)
}

// SetAttr implements fuse.RawFileSystem. The kernel has checked permissions
// (default_permissions) and leaves the clearing of setuid and setgid bits to
// us (FUSE_HANDLE_KILLPRIV_V2).
func (r *Root) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	r.touch()
	n := r.node(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	if r.opts.ReadOnly {
		return fuse.EROFS
	}
	if size, ok := in.GetSize(); ok {
		if err := r.setSize(n, in, int64(size)); err != nil {
			return status(err)
		}
	}
	mode, setMode := in.GetMode()
	uid, setUID := in.GetUID()
	gid, setGID := in.GetGID()
	if setMode {
		// First of all: an access ACL follows the mode.
		if err := r.chmodACL(n, mode); err != nil {
			return status(err)
		}
	}
	// chown(2) with neither owner nor group arrives as a request for nothing,
	// but clears setuid bits like any other.
	const attrs = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID | fuse.FATTR_SIZE | fuse.FATTR_ATIME | fuse.FATTR_MTIME
	var st unix.Stat_t
	change := func(o object) error {
		if setUID || setGID || in.Valid&attrs == 0 {
			u, g := -1, -1
			if setUID {
				u = int(uid)
			}
			if setGID {
				g = int(gid)
			}
			if err := o.chown(u, g); err != nil {
				return err
			}
		}
		if setMode {
			if err := o.chmod(mode); err != nil {
				return err
			}
		}
		if ts, ok := times(in); ok {
			if err := o.utimens(ts); err != nil {
				return err
			}
		}
		return o.stat(&st)
	}
	err := error(unix.EBADF)
	if f := n.file.Load(); f != nil {
		err = f.withFD(func(fd int) error { return change(object{fd: fd}) })
	}
	if err == unix.EBADF { // not open, or not any more
		err = r.changeObject(n, &st, change)
	}
	if err == nil && (setUID || setGID) && n.isRegular() {
		err = r.removeCapability(n)
	}
	if err != nil {
		return status(err)
	}
	r.settle.dirty.Store(true)
	r.attrReply(n, &st, out)
	return fuse.OK
}

// withFD runs do on the descriptor of the backing file, EBADF if it is closed.
func (f *file) withFD(do func(fd int) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.fd < 0 {
		return unix.EBADF
	}
	return do(f.fd)
}

// setSize truncates or extends a regular file.
func (r *Root) setSize(n *node, in *fuse.SetAttrIn, size int64) error {
	if !n.isRegular() {
		return unix.EINVAL
	}
	f, err := r.hold(n, accessWrite, r.principal(&in.Caller))
	if err != nil {
		return err
	}
	defer r.letGo(f)
	if in.Valid&fuse.FATTR_KILL_SUIDGID != 0 {
		if err := r.killPriv(f, &in.Caller); err != nil {
			return err
		}
	}
	if err := r.dropCapability(f); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.truncateLocked(size); err != nil {
		return err
	}
	// ftruncate(2) moves mtime even where the size stays.
	return backing.Futimens(f.fd, &[2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}})
}

// times collects what utimensat(2) shall set.
func times(in *fuse.SetAttrIn) (*[2]unix.Timespec, bool) {
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
		ts[0].Nsec = unix.UTIME_NOW
	} else if in.Valid&fuse.FATTR_ATIME != 0 {
		ts[0] = unix.Timespec{Sec: int64(in.Atime), Nsec: int64(in.Atimensec)}
	}
	if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
		ts[1].Nsec = unix.UTIME_NOW
	} else if in.Valid&fuse.FATTR_MTIME != 0 {
		ts[1] = unix.Timespec{Sec: int64(in.Mtime), Nsec: int64(in.Mtimensec)}
	}
	return &ts, in.Valid&(fuse.FATTR_ATIME|fuse.FATTR_MTIME|fuse.FATTR_ATIME_NOW|fuse.FATTR_MTIME_NOW) != 0
}

// killPriv clears setuid, and setgid where the group may execute or the caller
// is not in it, as a write by an unprivileged process does
// (setattr_should_drop_suidgid in the kernel's fs/attr.c).
func (r *Root) killPriv(f *file, caller *fuse.Caller) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var st unix.Stat_t
	if err := backing.Fstat(f.fd, &st); err != nil {
		return err
	}
	kill := st.Mode & unix.S_ISUID
	if st.Mode&unix.S_ISGID != 0 && (st.Mode&unix.S_IXGRP != 0 || !inGroup(caller, st.Gid)) {
		kill |= unix.S_ISGID
	}
	if kill == 0 {
		return nil
	}
	return backing.Fchmod(f.fd, st.Mode&0o7777&^kill)
}

// inGroup reports whether the caller is in a group. A request carries only the
// caller's filesystem group; the others are in /proc/PID/status (proc(5)).
func inGroup(caller *fuse.Caller, gid uint32) bool {
	if caller.Gid == gid {
		return true
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", caller.Pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if groups, ok := strings.CutPrefix(line, "Groups:"); ok {
			return slices.Contains(strings.Fields(groups), strconv.Itoa(int(gid)))
		}
	}
	return false
}
