package oracle

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"sort"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pathOps are the operations on names.
var pathOps = map[string]func(*side, *Op, *result){
	"open":        doOpen,
	"opendir":     doOpen,
	"tmpfile":     doOpen,
	"mkdir":       func(s *side, o *Op, r *result) { r.err(unix.Mkdir(s.path(o.A), o.Mode)) },
	"rmdir":       func(s *side, o *Op, r *result) { r.err(unix.Rmdir(s.path(o.A))) },
	"unlink":      func(s *side, o *Op, r *result) { r.err(unix.Unlink(s.path(o.A))) },
	"rmtree":      doRemoveTree,
	"rename":      doRename,
	"link":        func(s *side, o *Op, r *result) { r.err(unix.Link(s.path(o.A), s.path(o.B))) },
	"symlink":     func(s *side, o *Op, r *result) { r.err(unix.Symlink(o.Name, s.path(o.A))) },
	"readlink":    doReadlink,
	"mknod":       func(s *side, o *Op, r *result) { r.err(unix.Mknod(s.path(o.A), o.Mode, int(o.Off))) },
	"truncate":    func(s *side, o *Op, r *result) { r.err(unix.Truncate(s.path(o.A), o.Off)) },
	"chmod":       func(s *side, o *Op, r *result) { r.err(unix.Chmod(s.path(o.A), o.Mode)) },
	"lchown":      func(s *side, o *Op, r *result) { r.err(unix.Lchown(s.path(o.A), o.UID, o.GID)) },
	"utimens":     doUtimens,
	"stat":        doStat,
	"lstat":       func(s *side, o *Op, r *result) { r.stat(s.path(o.A)) },
	"access":      func(s *side, o *Op, r *result) { r.err(unix.Faccessat(unix.AT_FDCWD, s.path(o.A), o.Mode, 0)) },
	"list":        doList,
	"setxattr":    doSetxattr,
	"getxattr":    doGetxattr,
	"listxattr":   doListxattr,
	"removexattr": func(s *side, o *Op, r *result) { r.err(unix.Lremovexattr(s.path(o.A), o.Name)) },
	"slurp":       doSlurp,
}

func doOpen(s *side, o *Op, r *result) {
	// Never open a device: a mount is nodev, and the reference's would be real.
	var st unix.Stat_t
	if unix.Stat(s.path(o.A), &st) == nil {
		if t := st.Mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
			r.add("device")
			return
		}
	}
	// Without O_NONBLOCK a FIFO would wait for its other end.
	fd, err := unix.Open(s.path(o.A), o.Flags|unix.O_NONBLOCK|unix.O_CLOEXEC, o.Mode)
	if r.err(err) {
		return
	}
	s.setHandle(o.H, fd)
	if o.Check && !r.err(unix.Fstat(fd, &st)) {
		r.add("%s", statText(&st))
	}
}

func doRename(s *side, o *Op, r *result) {
	r.err(unix.Renameat2(unix.AT_FDCWD, s.path(o.A), unix.AT_FDCWD, s.path(o.B), uint(o.Flags)))
}

func doReadlink(s *side, o *Op, r *result) {
	buf := make([]byte, 4096)
	n, err := unix.Readlink(s.path(o.A), buf)
	if !r.err(err) {
		r.add("%s", short(string(buf[:n])))
	}
}

func doRemoveTree(s *side, o *Op, r *result) {
	path := s.path(o.A)
	if st, err := os.Lstat(path); err != nil || !st.IsDir() {
		r.add("not a directory")
		return
	}
	r.add("%t", os.RemoveAll(path) == nil)
}

func doUtimens(s *side, o *Op, r *result) {
	s.syncMappings()
	ts := timespecs(o)
	if r.err(unix.UtimesNanoAt(unix.AT_FDCWD, s.path(o.A), ts, unix.AT_SYMLINK_NOFOLLOW)) {
		return
	}
	var st unix.Stat_t
	if !r.err(unix.Lstat(s.path(o.A), &st)) && st.Atim.Sec < eraEnd && ts[0].Nsec < 1e9 {
		r.add("atime=%d.%09d", st.Atim.Sec, st.Atim.Nsec)
	}
}

// timespecs reads the two times of an operation: nanoseconds, or a special
// value when negative.
func timespecs(o *Op) []unix.Timespec {
	ts := make([]unix.Timespec, 2)
	for i, n := range o.Times {
		switch n {
		case timeNow:
			ts[i].Nsec = unix.UTIME_NOW
		case timeOmit:
			ts[i].Nsec = unix.UTIME_OMIT
		default:
			ts[i] = unix.NsecToTimespec(n)
		}
	}
	return ts
}

const (
	timeNow  = -1
	timeOmit = -2
)

func doStat(s *side, o *Op, r *result) {
	var st unix.Stat_t
	if !r.err(unix.Stat(s.path(o.A), &st)) {
		r.add("%s", statText(&st))
	}
}

func doList(s *side, o *Op, r *result) {
	fd, err := unix.Open(s.path(o.A), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if r.err(err) {
		return
	}
	defer unix.Close(fd)
	listFd(fd, r)
}

// listFd reads a whole directory from its start: names and types, sorted.
func listFd(fd int, r *result) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		r.err(err)
		return
	}
	var entries []string
	// A small buffer makes a directory take several calls.
	buf := make([]byte, 2048)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			r.err(err)
			return
		}
		if n == 0 {
			break
		}
		for b := buf[:n]; len(b) > 0; {
			d := (*unix.Dirent)(unsafe.Pointer(&b[0]))
			name := b[unsafe.Offsetof(d.Name):d.Reclen]
			entries = append(entries, string(name[:bytes.IndexByte(name, 0)])+":"+string('0'+rune(d.Type)))
			b = b[d.Reclen:]
		}
	}
	sort.Strings(entries)
	for _, e := range entries {
		r.add("%s", short(e))
	}
}

func doSetxattr(s *side, o *Op, r *result) {
	value := data(o.Seed|1, o.Len)
	if strings.HasPrefix(o.Name, "system.posix_acl_") {
		value = acl(o.Seed)
	}
	r.err(unix.Lsetxattr(s.path(o.A), o.Name, value, o.Flags))
}

func doGetxattr(s *side, o *Op, r *result) {
	buf := make([]byte, o.Len)
	n, err := unix.Lgetxattr(s.path(o.A), o.Name, buf)
	if !r.err(err) {
		r.add("%d %x", n, buf[:min(n, len(buf))])
	}
}

func doListxattr(s *side, o *Op, r *result) {
	names, err := listxattr(s.path(o.A))
	if !r.err(err) {
		r.add("%q", names)
	}
}

func listxattr(path string) ([]string, error) {
	buf := make([]byte, 65536)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return nil, err
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	if n == 0 {
		names = nil
	}
	// Only where a security module runs, on the reference and not in FUSE.
	names = slices.DeleteFunc(names, func(s string) bool { return s == "security.selinux" })
	sort.Strings(names)
	return names, nil
}

// doSlurp reads a file as cat does, by path and from the start.
func doSlurp(s *side, o *Op, r *result) {
	path := s.path(o.A)
	if st, err := os.Stat(path); err == nil && (!st.Mode().IsRegular() || st.Size() > 8<<20) {
		r.add("not read: %v", st.Mode().Type())
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		r.err(errors.Unwrap(err))
		return
	}
	r.bytes(b)
}
