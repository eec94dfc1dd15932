package backing

import "golang.org/x/sys/unix"

// xattrPath names an object for the l*xattr(2) calls, which have no *at form
// on older kernels: one component below a descriptor, never followed when it
// is a symlink.
func xattrPath(dirfd int, name string) string { return procFD(dirfd) + "/" + name }

// GetXattr reads the whole extended attribute attr of name below dirfd.
// ENODATA when there is none.
func GetXattr(dirfd int, name, attr string) ([]byte, error) {
	path := xattrPath(dirfd, name)
	return readXattr(func(buf []byte) (int, error) { return unix.Lgetxattr(path, attr, buf) })
}

// FgetXattr is GetXattr of an open file.
func FgetXattr(fd int, attr string) ([]byte, error) {
	return readXattr(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, attr, buf) })
}

func readXattr(get func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 1024)
	for {
		var n int
		err := noEINTR(func() (err error) { n, err = get(buf); return err })
		if err == nil {
			return buf[:n], nil
		}
		if err != unix.ERANGE || len(buf) > 1<<16 {
			return nil, err
		}
		buf = make([]byte, 1<<16+1)
	}
}

// SetXattr replaces the extended attribute attr of name below dirfd as a whole.
func SetXattr(dirfd int, name, attr string, value []byte) error {
	return noEINTR(func() error { return unix.Lsetxattr(xattrPath(dirfd, name), attr, value, 0) })
}

// HandleSetXattr is SetXattr of the object behind an O_PATH handle.
func HandleSetXattr(handle int, attr string, value []byte) error {
	return noEINTR(func() error { return unix.Setxattr(procFD(handle), attr, value, 0) })
}

// FsetXattr is SetXattr of an open file.
func FsetXattr(fd int, attr string, value []byte) error {
	return noEINTR(func() error { return unix.Fsetxattr(fd, attr, value, 0) })
}

// RemoveXattr removes the extended attribute attr of name below dirfd.
func RemoveXattr(dirfd int, name, attr string) error {
	return noEINTR(func() error { return unix.Lremovexattr(xattrPath(dirfd, name), attr) })
}

// FremoveXattr is RemoveXattr of an open file.
func FremoveXattr(fd int, attr string) error {
	return noEINTR(func() error { return unix.Fremovexattr(fd, attr) })
}
