package backing

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// GetXattr reads the whole extended attribute attr of name below dirfd.
// ENODATA when there is none.
func GetXattr(dirfd int, name, attr string) ([]byte, error) {
	return readXattr(func(buf []byte) (int, error) {
		if n, err := xattrAt(unix.SYS_GETXATTRAT, dirfd, name, attr, buf); known(err) {
			return n, err
		}
		return unix.Lgetxattr(xattrPath(dirfd, name), attr, buf)
	})
}

// FgetXattr is GetXattr of an open file.
func FgetXattr(fd int, attr string) ([]byte, error) {
	return readXattr(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, attr, buf) })
}

// HandleGetXattr is GetXattr of the object behind an O_PATH handle.
func HandleGetXattr(handle int, attr string) ([]byte, error) {
	return readXattr(func(buf []byte) (int, error) { return unix.Getxattr(procFD(handle), attr, buf) })
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
	return noEINTR(func() error {
		if _, err := xattrAt(unix.SYS_SETXATTRAT, dirfd, name, attr, value); known(err) {
			return err
		}
		return unix.Lsetxattr(xattrPath(dirfd, name), attr, value, 0)
	})
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

// xattrPath names an object for the l*xattr(2) calls, which have no *at form
// before Linux 6.13: one component below a descriptor, never followed when it
// is a symlink.
func xattrPath(dirfd int, name string) string { return procFD(dirfd) + "/" + name }

// known reports whether an error is that of a system call that exists. Filters
// (seccomp) answer those they do not know with EPERM.
func known(err error) bool { return err != unix.ENOSYS && err != unix.EPERM }

// noXattrAt is set once the kernel has turned out not to know these calls.
var noXattrAt atomic.Bool

// xattrAt is getxattrat(2) or setxattrat(2) on name below dirfd. It returns
// ENOSYS where the kernel has neither.
func xattrAt(call uintptr, dirfd int, name, attr string, value []byte) (int, error) {
	if noXattrAt.Load() {
		return 0, unix.ENOSYS
	}
	nameZ, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	attrZ, err := unix.BytePtrFromString(attr)
	if err != nil {
		return 0, err
	}
	args := struct { // struct xattr_args of linux/xattr.h
		value unsafe.Pointer
		size  uint32
		flags uint32
	}{unsafe.Pointer(unsafe.SliceData(value)), uint32(len(value)), 0}
	n, _, errno := unix.Syscall6(call, uintptr(dirfd), uintptr(unsafe.Pointer(nameZ)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(attrZ)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
	if errno == unix.ENOSYS {
		noXattrAt.Store(true)
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
