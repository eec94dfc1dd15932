// Package backing is the only door to the ciphertext directory. Every call is
// relative to an open directory descriptor and names exactly one component, so
// no path string is ever walked: a symlink, a magic link, a mount or a FIFO
// that somebody places behind the filesystem's back cannot lead anywhere.
//
// Functions return unix.Errno values unchanged, so that callers can branch on
// them with errors.Is.
package backing

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resolve refuses whatever could leave the directory: "..", absolute links,
// links at all, /proc magic links and mounts inside the tree (openat2(2)).
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// noEINTR repeats call until a signal no longer interrupts it.
func noEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// OpenRoot opens the ciphertext directory itself. Only here a path is used;
// the operator names it, not the attacker.
func OpenRoot(path string) (int, error) {
	return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// Open opens name below dirfd without following anything. O_NONBLOCK keeps a
// planted FIFO from hanging the caller; O_NOATIME is dropped where the caller
// does not own the file.
func Open(dirfd int, name string, flags int, mode uint32) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK),
		Mode:    uint64(mode),
		Resolve: resolve,
	}
	if flags&unix.O_PATH != 0 {
		how.Flags &^= unix.O_NONBLOCK
	} else if flags&(unix.O_CREAT|unix.O_TMPFILE) == 0 {
		how.Flags |= unix.O_NOATIME
	}
	err = noEINTR(func() error { fd, err = unix.Openat2(dirfd, name, &how); return err })
	if err == unix.EPERM && how.Flags&unix.O_NOATIME != 0 {
		how.Flags &^= unix.O_NOATIME
		err = noEINTR(func() error { fd, err = unix.Openat2(dirfd, name, &how); return err })
	}
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// OpenDir opens the subdirectory name as a handle for further *at calls.
func OpenDir(dirfd int, name string) (int, error) {
	return Open(dirfd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// OpenList opens the directory behind dirfd for reading its entries.
func OpenList(dirfd int) (int, error) {
	return Open(dirfd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// Close closes fd. Errors of close carry no promise here: whoever needs
// durability has called Datasync before.
func Close(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// Dup duplicates a descriptor.
func Dup(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
}

// Stat is lstat(2) of name below dirfd.
func Stat(dirfd int, name string, st *unix.Stat_t) error {
	return noEINTR(func() error { return unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW) })
}

// Fstat is fstat(2).
func Fstat(fd int, st *unix.Stat_t) error {
	return noEINTR(func() error { return unix.Fstat(fd, st) })
}

// maxSymlink is the longest symlink target Linux stores (PATH_MAX less its NUL).
const maxSymlink = 4095

// Readlink reads the whole target of the symlink name.
func Readlink(dirfd int, name string) (string, error) {
	var small [512]byte
	n, err := readlink(dirfd, name, small[:])
	if err != nil {
		return "", err
	}
	if n < len(small) {
		return string(small[:n]), nil
	}
	large := make([]byte, maxSymlink+1)
	n, err = readlink(dirfd, name, large)
	return string(large[:n]), err
}

func readlink(dirfd int, name string, buf []byte) (n int, err error) {
	err = noEINTR(func() error { n, err = unix.Readlinkat(dirfd, name, buf); return err })
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Symlink creates name as a symlink with the given target.
func Symlink(dirfd int, name, target string) error {
	return noEINTR(func() error { return unix.Symlinkat(target, dirfd, name) })
}

// ReplaceSymlink makes name a symlink with the given target, atomically
// whether or not it exists: created under tmp, then renamed over name.
// Symlinks are journaled with renames in order, so no fsync is needed between.
func ReplaceSymlink(dirfd int, name, tmp, target string) error {
	if err := Symlink(dirfd, tmp, target); err != nil {
		return err
	}
	if err := Rename(dirfd, tmp, dirfd, name, 0); err != nil {
		_ = Unlink(dirfd, tmp)
		return err
	}
	return nil
}

// Mkdir creates the directory name.
func Mkdir(dirfd int, name string, mode uint32) error {
	return noEINTR(func() error { return unix.Mkdirat(dirfd, name, mode) })
}

// Mknod creates a FIFO, socket or device node.
func Mknod(dirfd int, name string, mode uint32, dev uint64) error {
	return noEINTR(func() error { return unix.Mknodat(dirfd, name, mode, int(dev)) })
}

// Unlink removes the non-directory name.
func Unlink(dirfd int, name string) error {
	return noEINTR(func() error { return unix.Unlinkat(dirfd, name, 0) })
}

// Rmdir removes the empty directory name.
func Rmdir(dirfd int, name string) error {
	return noEINTR(func() error { return unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR) })
}

// Rename is renameat2(2). Backing filesystems without flags answer EINVAL.
func Rename(fromfd int, from string, tofd int, to string, flags uint) error {
	return noEINTR(func() error { return unix.Renameat2(fromfd, from, tofd, to, flags) })
}

// Link gives the object at fromfd/from the further name tofd/to.
func Link(fromfd int, from string, tofd int, to string) error {
	return noEINTR(func() error { return unix.Linkat(fromfd, from, tofd, to, 0) })
}

// LinkFD gives the nameless open file fd (O_TMPFILE) the name tofd/to.
func LinkFD(fd, tofd int, to string) error {
	return noEINTR(func() error {
		return unix.Linkat(unix.AT_FDCWD, procFD(fd), tofd, to, unix.AT_SYMLINK_FOLLOW)
	})
}

// Chmod changes the mode of name without ever following a symlink.
func Chmod(dirfd int, name string, mode uint32) error {
	err := noEINTR(func() error { return unix.Fchmodat(dirfd, name, mode, unix.AT_SYMLINK_NOFOLLOW) })
	if err != unix.ENOSYS && err != unix.EOPNOTSUPP {
		return err
	}
	// Before fchmodat2 (Linux 6.6) the only race-free way is through a handle.
	fd, err := Open(dirfd, name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer Close(fd)
	var st unix.Stat_t
	if err := Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.EOPNOTSUPP
	}
	return noEINTR(func() error { return unix.Chmod(procFD(fd), mode) })
}

// HandleChmod is chmod(2) of the object behind an O_PATH handle.
func HandleChmod(handle int, mode uint32) error {
	return noEINTR(func() error { return unix.Chmod(procFD(handle), mode) })
}

// HandleChown is chown(2) of the object behind an O_PATH handle.
func HandleChown(handle, uid, gid int) error {
	return noEINTR(func() error { return unix.Fchownat(handle, "", uid, gid, unix.AT_EMPTY_PATH) })
}

// Reopen opens the object behind an O_PATH handle.
func Reopen(handle, flags int) (fd int, err error) {
	err = noEINTR(func() (err error) {
		fd, err = unix.Open(procFD(handle), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// Fchmod changes the mode of an open file.
func Fchmod(fd int, mode uint32) error {
	return noEINTR(func() error { return unix.Fchmod(fd, mode) })
}

// Chown changes owner and group of name; -1 leaves one alone.
func Chown(dirfd int, name string, uid, gid int) error {
	return noEINTR(func() error { return unix.Fchownat(dirfd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW) })
}

// Fchown is Chown of an open file.
func Fchown(fd, uid, gid int) error {
	return noEINTR(func() error { return unix.Fchown(fd, uid, gid) })
}

// Utimens sets access and modification time of name.
func Utimens(dirfd int, name string, ts *[2]unix.Timespec) error {
	return noEINTR(func() error { return unix.UtimesNanoAt(dirfd, name, ts[:], unix.AT_SYMLINK_NOFOLLOW) })
}

// Futimens is Utimens of an open file.
func Futimens(fd int, ts *[2]unix.Timespec) error {
	return noEINTR(func() error {
		// Without a path it is the descriptor that is meant (utimensat(2)).
		_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// HandleUtimens is Utimens of the object behind an O_PATH handle.
func HandleUtimens(handle int, ts *[2]unix.Timespec) error {
	return noEINTR(func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, procFD(handle), ts[:], 0) })
}

// WillNeed has the kernel begin to read n bytes at off into its cache.
func WillNeed(fd int, off, n int64) {
	_ = unix.Fadvise(fd, off, n, unix.FADV_WILLNEED) // advice: reading works without
}

// Pread reads into buf at off until buf is full or the file ends.
func Pread(fd int, buf []byte, off int64) (int, error) {
	done := 0
	for done < len(buf) {
		n, err := unix.Pread(fd, buf[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, nil
}

// Pwrite writes all of buf at off.
func Pwrite(fd int, buf []byte, off int64) error {
	for len(buf) > 0 {
		n, err := unix.Pwrite(fd, buf, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return unix.EIO
		}
		buf, off = buf[n:], off+int64(n)
	}
	return nil
}

// BeginWriteOut has the kernel begin to write n bytes at off to the disk. It waits for
// nothing and makes nothing durable (sync_file_range(2)).
func BeginWriteOut(fd int, off, n int64) {
	_ = unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE) // what fails, a sync will tell
}

// BeingWritten is how much of the n bytes at off is on its way to the disk, in bytes
// (cachestat(2), since Linux 6.5); 0 where the kernel does not tell.
func BeingWritten(fd int, off, n int64) int64 {
	var stat unix.Cachestat_t
	if unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(off), Len: uint64(n)}, &stat, 0) != nil {
		return 0
	}
	return int64(stat.Writeback) * int64(unix.Getpagesize())
}

// Truncate sets the size of an open file.
func Truncate(fd int, size int64) error {
	return noEINTR(func() error { return unix.Ftruncate(fd, size) })
}

// Allocate is fallocate(2).
func Allocate(fd int, mode uint32, off, length int64) error {
	return noEINTR(func() error { return unix.Fallocate(fd, mode, off, length) })
}

// Seek is lseek(2), for SEEK_DATA and SEEK_HOLE.
func Seek(fd int, off int64, whence int) (pos int64, err error) {
	err = noEINTR(func() error { pos, err = unix.Seek(fd, off, whence); return err })
	return pos, err
}

// Datasync makes the file's data and size durable (fdatasync(2)).
func Datasync(fd int) error {
	return noEINTR(func() error { return unix.Fdatasync(fd) })
}

// Sync makes data and all metadata of the file durable (fsync(2)).
func Sync(fd int) error {
	return noEINTR(func() error { return unix.Fsync(fd) })
}

// SyncDir makes the entries of the directory behind dirfd (which may be a
// mere handle) durable.
func SyncDir(dirfd int) error {
	fd, err := OpenList(dirfd)
	if err != nil {
		return err
	}
	defer Close(fd)
	return Sync(fd)
}

// SyncFS makes everything written so far to the filesystem of dirfd durable.
func SyncFS(dirfd int) error {
	fd, err := OpenList(dirfd)
	if err != nil {
		return err
	}
	defer Close(fd)
	return noEINTR(func() error { return unix.Syncfs(fd) })
}

func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
