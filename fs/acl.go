package fs

import (
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/posixacl"
)

// POSIX ACLs are extended attributes that the kernel evaluates and the
// filesystem keeps in step with the mode bits.

// setAccessACL stores an access ACL and makes the mode agree with it. An ACL
// that says no more than the mode is not stored.
func (r *Root) setAccessACL(n *node, data []byte, killSGID bool) error {
	if n.kind == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	acl, err := posixacl.Parse(data)
	if err != nil {
		return unix.EINVAL
	}
	if acl == nil {
		return r.removeXattr(n, accessACL) // no entries: as if it were removed
	}
	perm, minimal := acl.EquivMode()
	setMode := func() error {
		var st unix.Stat_t
		return r.changeObject(n, &st, func(o object) error {
			mode := st.Mode&0o7777&^0o777 | perm
			if killSGID {
				mode &^= unix.S_ISGID
			}
			if mode == st.Mode&0o7777 {
				return nil
			}
			return o.chmod(mode)
		})
	}
	// The group bits of the mode are the ACL's mask: without the ACL they would
	// grant what it limits. So the ACL comes first and goes last.
	if minimal {
		if err := setMode(); err != nil {
			return err
		}
		return r.removeXattr(n, accessACL)
	}
	err = r.changeXattrs(n, func(set format.XattrSet) (format.XattrSet, error) {
		return set.With(accessACL, acl.Marshal()), nil
	})
	if err != nil {
		return err
	}
	return setMode()
}

// chmodACL makes an access ACL, if there is one, follow a new mode.
func (r *Root) chmodACL(n *node, mode uint32) error {
	if n.kind == unix.S_IFLNK {
		return nil
	}
	return r.changeXattrs(n, func(set format.XattrSet) (format.XattrSet, error) {
		data, ok := set.Get(accessACL)
		if !ok {
			return nil, errUnchanged
		}
		acl, err := posixacl.Parse(data)
		if err != nil {
			return nil, unix.EIO
		}
		return set.With(accessACL, posixacl.Chmod(acl, mode).Marshal()), nil
	})
}

// inheritACL applies the parent's default ACL, or else the umask, to the mode
// of a new object. Holds: tree, shared.
func (r *Root) inheritACL(parent *node, mode, umask uint32) (uint32, format.XattrSet, error) {
	if mode&unix.S_IFMT == unix.S_IFLNK {
		return mode, nil, nil
	}
	set, err := r.dirXattrs(parent)
	if err != nil {
		return 0, nil, err
	}
	data, ok := set.Get(defaultACL)
	if !ok {
		return mode &^ (umask & 0o777), nil, nil
	}
	def, err := posixacl.Parse(data)
	if err != nil {
		return 0, nil, unix.EIO
	}
	var inherited format.XattrSet
	acl, newMode := posixacl.Create(def, mode)
	if acl != nil {
		inherited = inherited.With(accessACL, acl.Marshal())
	}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		inherited = inherited.With(defaultACL, data)
	}
	return newMode, inherited, nil
}

// dirXattrs returns the attributes of a directory that is being used. Most
// directories have none, as their record says. Holds: tree, shared.
func (r *Root) dirXattrs(n *node) (format.XattrSet, error) {
	d, err := r.acquire(n)
	if err != nil {
		return nil, err
	}
	defer r.release1(d)
	if !d.xattrs.Load() {
		return nil, nil
	}
	sealed, err := (object{dirfd: d.fd, name: "."}).getXattr(userXattr)
	if err != nil {
		if err == unix.ENODATA {
			return nil, unix.EIO // the record promises it
		}
		return nil, err
	}
	return r.sealer.OpenXattrs(d.id, sealed)
}
