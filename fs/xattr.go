package fs

import (
	"bytes"
	"errors"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/posixacl"
)

// All extended attributes of an object lie sealed in one backing attribute, so
// that none can be swapped, dropped or added by itself. A flag in the header
// or directory record says that the attribute must be there.
const (
	userXattr    = "user.kmsfs"    // of files and directories
	trustedXattr = "trusted.kmsfs" // of the rest, which may not have user attributes

	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
	capability = "security.capability"
)

// xattrSpaces are the namespaces a local filesystem serves; the kernel has
// checked who may use them.
var xattrSpaces = []string{"user.", "trusted.", "security."}

// checkXattr tells, as EOPNOTSUPP or EINVAL, that there can be no attribute of
// that name.
func checkXattr(name string) error {
	if name == accessACL || name == defaultACL {
		return nil
	}
	for _, space := range xattrSpaces {
		if rest, ok := strings.CutPrefix(name, space); ok {
			if rest == "" {
				return unix.EINVAL
			}
			return nil
		}
	}
	return unix.EOPNOTSUPP
}

// loadXattrs returns n's attributes. Holds: n.xattrMu.
func (r *Root) loadXattrs(n *node) (format.XattrSet, error) {
	if n.xattrs != nil {
		return *n.xattrs, nil
	}
	var set format.XattrSet
	if r.inPlainDir(n) {
		return set, nil
	}
	if f := n.file.Load(); f != nil && !f.promisesXattrs() {
		return set, nil // not cached: it changes under xattrMu, too
	}
	var st unix.Stat_t
	err := r.withObject(n, &st, func(o object) error {
		id, promised, err := r.xattrOwner(n, o)
		if err != nil || !promised {
			return err
		}
		sealed, err := o.getXattr(xattrName(n))
		if xattrName(n) == trustedXattr && (err == unix.ENODATA || err == unix.EOPNOTSUPP) {
			return nil // nothing promises them to symlinks and special files
		}
		if err == nil {
			set, err = r.sealer.OpenXattrs(id, sealed)
		}
		if err != nil {
			r.log.Warn("refused extended attributes that are missing or do not verify", "ino", n.ino, "err", err)
			return unix.EIO
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	n.xattrs = &set
	return set, nil
}

func xattrName(n *node) string {
	if n.isDir() || n.isRegular() {
		return userXattr
	}
	return trustedXattr
}

// xattrOwner finds the ID that n's attributes are sealed for, and whether
// there are any. Holds: n.xattrMu, tree.
func (r *Root) xattrOwner(n *node, o object) (id [16]byte, promised bool, err error) {
	switch {
	case n.isDir():
		d, err := r.acquire(n)
		if err != nil {
			return id, false, err
		}
		defer r.release1(d)
		return d.id, d.xattrs.Load(), nil
	case n.isRegular():
		f := n.file.Load()
		if f == nil {
			h, err := r.peekHeader(o)
			if err == nil {
				return h.FileID, h.HasXattrs, nil
			}
			if f = n.file.Load(); f == nil { // else it was opened, and is perhaps being written
				if errors.Is(err, format.ErrNeverWritten) {
					err = nil // there is nothing to be promised
				}
				return id, false, err
			}
		}
		f.mu.RLock()
		defer f.mu.RUnlock()
		return f.hdr.FileID, f.hdr.HasXattrs, nil
	}
	if len(n.names) == 0 {
		return id, false, unix.ESTALE
	}
	e, err := r.entryAt(&n.names[0])
	if err != nil {
		return id, false, err
	}
	return e.ID, true, nil
}

// errUnchanged ends a change of attributes that turned out not to be one.
var errUnchanged = errors.New("unchanged")

// changeXattrs replaces n's attributes by what change makes of them. It asks
// change twice: mostly there is nothing to be done, and n.mu not needed.
func (r *Root) changeXattrs(n *node, change func(format.XattrSet) (format.XattrSet, error)) error {
	set, err := r.xattrsOf(n)
	if err == nil {
		_, err = change(set)
	}
	if err == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.xattrMu.Lock()
		defer n.xattrMu.Unlock()
		set, err = r.loadXattrs(n)
	}
	if err == nil {
		set, err = change(set)
	}
	if err == nil {
		err = r.replaceXattrs(n, set)
	}
	if err == errUnchanged {
		return nil
	}
	return err
}

// xattrsOf is loadXattrs for those who only read.
func (r *Root) xattrsOf(n *node) (format.XattrSet, error) {
	n.xattrMu.Lock()
	defer n.xattrMu.Unlock()
	return r.loadXattrs(n)
}

// replaceXattrs stores a set: the attribute first, then, if it is the first
// one, the flag that promises it. Holds: n.mu, n.xattrMu.
func (r *Root) replaceXattrs(n *node, set format.XattrSet) error {
	var f *file
	if n.isRegular() {
		var err error
		if f, err = r.holdLocked(n, accessHeader, theMount); err != nil {
			return err
		}
		defer r.letGoLocked(n, f)
		if f.readonly {
			if err := f.makeWritable(); err != nil {
				return err
			}
		}
		if !f.hdr.HasXattrs {
			if err := r.endPlainFor(n); err != nil {
				return err
			}
		}
	}
	var st unix.Stat_t
	err := r.changeObject(n, &st, func(o object) error {
		if f != nil {
			o = object{fd: f.fd} // open for writing, whatever its mode
		}
		id, promised, err := r.xattrOwner(n, o)
		if err != nil {
			return err
		}
		if err := r.storeXattrs(o, xattrName(n), id, set); err != nil {
			return err
		}
		if promised || !n.isDir() {
			return nil
		}
		d, err := r.acquire(n)
		if err != nil {
			return err
		}
		defer r.release1(d)
		if n.gone != nil {
			d.xattrs.Store(true)
			return nil // removed, and its record with it
		}
		return r.promiseInDirRecord(n, d, true, false) // its files may get ACLs from it from now on
	})
	if err == nil && f != nil && !f.hdr.HasXattrs {
		// The first attribute of a file must be durable before the header, a
		// data page, says that it must be there.
		err = backing.Sync(f.fd)
	}
	if err == nil && f != nil {
		f.mu.Lock()
		if !f.hdr.HasXattrs {
			f.hdr.HasXattrs = true
			err = f.writeHeaderQuietly()
		}
		f.mu.Unlock()
	}
	if err != nil {
		return err
	}
	n.xattrs = &set
	r.settle.dirty.Store(true)
	return nil
}

// storeXattrs seals a set and writes it as o's backing attribute.
func (r *Root) storeXattrs(o object, attr string, id [16]byte, set format.XattrSet) error {
	sealed, err := r.sealer.SealXattrs(id, set)
	if err != nil {
		return unix.ENOSPC // larger than any backing attribute can be
	}
	err = o.setXattr(attr, sealed)
	if err == unix.ERANGE || err == unix.E2BIG {
		return unix.ENOSPC
	}
	return err
}

// GetXAttr implements fuse.RawFileSystem.
func (r *Root) GetXAttr(_ <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	r.touch()
	n := r.node(header.NodeId)
	if n == nil {
		return 0, fuse.Status(unix.ESTALE)
	}
	value, err := r.xattr(n, attr)
	if err != nil {
		return 0, status(err)
	}
	if len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

func (r *Root) xattr(n *node, attr string) ([]byte, error) {
	if attr == InfoXattr {
		n.mu.Lock()
		defer n.mu.Unlock()
		return r.info(n)
	}
	if err := checkXattr(attr); err != nil {
		return nil, err
	}
	set, err := r.xattrsOf(n)
	if err != nil {
		return nil, err
	}
	value, ok := set.Get(attr)
	if !ok {
		return nil, unix.ENODATA
	}
	return value, nil
}

// ListXAttr implements fuse.RawFileSystem.
func (r *Root) ListXAttr(_ <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	r.touch()
	n := r.node(header.NodeId)
	if n == nil {
		return 0, fuse.Status(unix.ESTALE)
	}
	set, err := r.xattrsOf(n)
	if err != nil {
		return 0, status(err)
	}
	var list bytes.Buffer
	for _, x := range set {
		// As on local filesystems, only the privileged see these.
		if strings.HasPrefix(x.Name, "trusted.") && header.Uid != 0 {
			continue
		}
		list.WriteString(x.Name)
		list.WriteByte(0)
	}
	if len(dest) < list.Len() {
		return uint32(list.Len()), fuse.ERANGE
	}
	return uint32(copy(dest, list.Bytes())), fuse.OK
}

// SetXAttr implements fuse.RawFileSystem.
func (r *Root) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	r.touch()
	n := r.node(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	if r.opts.ReadOnly {
		return fuse.EROFS
	}
	if err := checkXattr(attr); err != nil {
		return status(err)
	}
	switch {
	case (attr == accessACL || attr == defaultACL) && len(data) == 0:
		return status(r.removeXattr(n, attr)) // as setxattr(2) does on local filesystems
	case attr == accessACL:
		killSGID := in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0
		return status(r.setAccessACL(n, data, killSGID))
	case attr == defaultACL:
		if !n.isDir() {
			return fuse.Status(unix.EACCES)
		}
		if _, err := posixacl.Parse(data); err != nil {
			return fuse.EINVAL
		}
	}
	value := bytes.Clone(data)
	return status(r.changeXattrs(n, func(set format.XattrSet) (format.XattrSet, error) {
		_, exists := set.Get(attr)
		switch {
		case exists && in.Flags&unix.XATTR_CREATE != 0:
			return nil, unix.EEXIST
		case !exists && in.Flags&unix.XATTR_REPLACE != 0:
			return nil, unix.ENODATA
		}
		return set.With(attr, value), nil
	}))
}

// RemoveXAttr implements fuse.RawFileSystem.
func (r *Root) RemoveXAttr(_ <-chan struct{}, header *fuse.InHeader, attr string) fuse.Status {
	r.touch()
	n := r.node(header.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	if r.opts.ReadOnly {
		return fuse.EROFS
	}
	if err := checkXattr(attr); err != nil {
		return status(err)
	}
	return status(r.removeXattr(n, attr))
}

// removeXattr removes an attribute. An ACL that is not there is removed already.
func (r *Root) removeXattr(n *node, attr string) error {
	return r.changeXattrs(n, func(set format.XattrSet) (format.XattrSet, error) {
		if _, ok := set.Get(attr); ok {
			return set.Without(attr), nil
		}
		if attr == accessACL || attr == defaultACL {
			return nil, errUnchanged
		}
		return nil, unix.ENODATA
	})
}

// dropCapability removes a file's capabilities before its content changes, as
// the kernel does on local filesystems (FUSE_HANDLE_KILLPRIV_V2 leaves it to
// us). Most files have no attributes at all, which the header says.
func (r *Root) dropCapability(f *file) error {
	if !f.promisesXattrs() {
		return nil
	}
	return r.removeCapability(f.n)
}

// promisesXattrs reports whether the file's header says that it has attributes.
func (f *file) promisesXattrs() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.hdr.HasXattrs
}

func (r *Root) removeCapability(n *node) error {
	if err := r.removeXattr(n, capability); err != unix.ENODATA {
		return err
	}
	return nil
}

// peekHeader reads a regular file's header without opening it for use.
func (r *Root) peekHeader(o object) (*format.Header, error) {
	fd := o.fd
	if o.name != "" {
		var err error
		if fd, err = r.openToRead(o.dirfd, o.name); err != nil {
			return nil, err
		}
		defer backing.Close(fd)
	}
	var buf [format.HeaderSize]byte
	n, err := backing.Pread(fd, buf[:], 0)
	if err != nil {
		return nil, err
	}
	if n < len(buf) {
		return nil, format.ErrNeverWritten
	}
	return r.sealer.ParseHeader(buf[:])
}
