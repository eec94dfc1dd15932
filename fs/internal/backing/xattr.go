package backing

import "golang.org/x/sys/unix"

// xattrPath names an object for the l*xattr(2) calls, which have no *at form
// on older kernels: one component below a descriptor, never followed when it
// is a symlink. An empty name is the descriptor's own object.
func xattrPath(dirfd int, name string) string {
	if name == "" {
		return procFD(dirfd)
	}
	return procFD(dirfd) + "/" + name
}

// GetXattr reads the whole extended attribute attr of name below dirfd (of
// dirfd itself when name is empty). ENODATA when there is none.
func GetXattr(dirfd int, name, attr string) ([]byte, error) {
	path, get := xattrPath(dirfd, name), unix.Lgetxattr
	if name == "" {
		get = unix.Getxattr // the descriptor's magic link itself must be followed
	}
	buf := make([]byte, 1024)
	for {
		var n int
		err := noEINTR(func() (err error) { n, err = get(path, attr, buf); return err })
		if err == nil {
			return buf[:n], nil
		}
		if err != unix.ERANGE || len(buf) > 1<<16 {
			return nil, err
		}
		buf = make([]byte, 1<<16+1)
	}
}

// SetXattr replaces the extended attribute attr as a whole.
func SetXattr(dirfd int, name, attr string, value []byte) error {
	path, set := xattrPath(dirfd, name), unix.Lsetxattr
	if name == "" {
		set = unix.Setxattr
	}
	return noEINTR(func() error { return set(path, attr, value, 0) })
}
