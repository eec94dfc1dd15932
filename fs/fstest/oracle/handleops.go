package oracle

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handleOps are the operations on open files and on mappings.
var handleOps = map[string]func(*side, *Op, *result){
	"close":     doClose,
	"dup":       doDup,
	"read":      func(s *side, o *Op, r *result) { doRead(s, o, r, unix.Read) },
	"pread":     func(s *side, o *Op, r *result) { doRead(s, o, r, preadAt(o.Off)) },
	"write":     func(s *side, o *Op, r *result) { doWrite(s, o, r, unix.Write) },
	"pwrite":    func(s *side, o *Op, r *result) { doWrite(s, o, r, pwriteAt(o.Off)) },
	"lseek":     doSeek,
	"seekhole":  doSeekHole,
	"ftruncate": func(s *side, o *Op, r *result) { r.err(unix.Ftruncate(s.handles[o.H], o.Off)) },
	"fsync":     func(s *side, o *Op, r *result) { r.err(unix.Fsync(s.handles[o.H])) },
	"fdatasync": func(s *side, o *Op, r *result) { r.err(unix.Fdatasync(s.handles[o.H])) },
	"fallocate": func(s *side, o *Op, r *result) {
		r.err(unix.Fallocate(s.handles[o.H], uint32(o.Flags), o.Off, o.Len))
	},
	"copyrange": doCopyRange,
	"fstat":     doFstat,
	"fchmod":    func(s *side, o *Op, r *result) { r.err(unix.Fchmod(s.handles[o.H], o.Mode)) },
	"fchown":    func(s *side, o *Op, r *result) { r.err(unix.Fchown(s.handles[o.H], o.UID, o.GID)) },
	"futimens":  doFutimens,
	"linkfd":    doLinkFd,
	"flist":     func(s *side, o *Op, r *result) { listFd(s.handles[o.H], r) },
	"flock":     func(s *side, o *Op, r *result) { r.err(unix.Flock(s.handles[o.H], o.Flags|unix.LOCK_NB)) },
	"ofdlock":   doOFDLock,
	"fsetxattr": func(s *side, o *Op, r *result) {
		r.err(unix.Fsetxattr(s.handles[o.H], o.Name, data(o.Seed|1, o.Len), o.Flags))
	},
	"mmap":   doMap,
	"mread":  func(s *side, o *Op, r *result) { doMapped(s, o, r, false) },
	"mwrite": func(s *side, o *Op, r *result) { doMapped(s, o, r, true) },
	"msync":  doMsync,
	"munmap": func(s *side, o *Op, r *result) { r.err(s.unmap(o.H % mappingSlots)) },
}

func doClose(s *side, o *Op, r *result) {
	if s.handles[o.H] < 0 {
		r.err(unix.EBADF)
		return
	}
	err := unix.Close(s.handles[o.H])
	s.handles[o.H] = -1
	r.err(err)
}

// doDup makes two slots share one open file, with its offset and its lifetime.
func doDup(s *side, o *Op, r *result) {
	if s.handles[o.H] < 0 || o.H == o.H2 {
		r.err(unix.EBADF)
		return
	}
	fd, err := unix.FcntlInt(uintptr(s.handles[o.H]), unix.F_DUPFD_CLOEXEC, 3)
	if !r.err(err) {
		s.setHandle(o.H2, fd)
	}
}

func preadAt(off int64) func(int, []byte) (int, error) {
	return func(fd int, b []byte) (int, error) { return unix.Pread(fd, b, off) }
}

func pwriteAt(off int64) func(int, []byte) (int, error) {
	return func(fd int, b []byte) (int, error) { return unix.Pwrite(fd, b, off) }
}

// aligned returns a copy of b in memory aligned for O_DIRECT.
func aligned(b []byte) []byte {
	const page = 4096
	mem := make([]byte, len(b)+page)
	skip := 0
	if rest := int(uintptr(unsafe.Pointer(&mem[0])) % page); rest != 0 {
		skip = page - rest
	}
	copy(mem[skip:], b)
	return mem[skip : skip+len(b) : skip+len(b)]
}

func doRead(s *side, o *Op, r *result, read func(int, []byte) (int, error)) {
	buf := aligned(make([]byte, o.Len))
	n, err := read(s.handles[o.H], buf)
	if err == unix.EINVAL && isDir(s.handles[o.H]) {
		err = unix.EISDIR // ext4's end of a directory is the last offset there is
	}
	if !r.err(err) {
		r.bytes(buf[:n])
	}
}

func isDir(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func doWrite(s *side, o *Op, r *result, write func(int, []byte) (int, error)) {
	n, err := write(s.handles[o.H], aligned(data(o.Seed, o.Len)))
	if !r.err(err) {
		r.add("%d", n)
	}
}

func doSeek(s *side, o *Op, r *result) {
	if isDir(s.handles[o.H]) {
		r.add("directory") // its offsets are cookies
		return
	}
	off, err := unix.Seek(s.handles[o.H], o.Off, o.Flags)
	if !r.err(err) {
		r.add("%d", off)
	}
}

// doSeekHole asks for data or a hole after an offset. Filesystems differ in
// where holes are, so the answer is checked against the file: what was
// skipped on the way to data, and what a hole holds, reads as zeros.
func doSeekHole(s *side, o *Op, r *result) {
	fd := s.handles[o.H]
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		r.err(err)
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		r.add("not a file")
		return
	}
	before, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	if err != nil {
		r.err(err)
		return
	}
	got, err := unix.Seek(fd, o.Off, o.Flags)
	defer unix.Seek(fd, before, unix.SEEK_SET)
	if o.Off < 0 || o.Off >= st.Size {
		r.err(err)
		return
	}
	readable := readable(fd)
	switch {
	case err == unix.ENXIO && o.Flags == unix.SEEK_DATA:
		if readable {
			err = zeros(fd, o.Off, st.Size)
		} else {
			err = nil
		}
	case err != nil:
	case got < o.Off || got > st.Size:
		err = fmt.Errorf("seek %d from %d gave %d of %d", o.Flags, o.Off, got, st.Size)
	case !readable:
	case o.Flags == unix.SEEK_DATA:
		err = zeros(fd, o.Off, got)
	case got < st.Size:
		end, derr := unix.Seek(fd, got, unix.SEEK_DATA)
		if derr == unix.ENXIO {
			end = st.Size
		} else if derr != nil {
			err = derr
			break
		}
		err = zeros(fd, got, end)
	}
	r.err(err)
}

func readable(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE != unix.O_WRONLY && flags&unix.O_DIRECT == 0
}

// zeros checks that a range reads as zeros, at both its ends where it is long.
func zeros(fd int, from, to int64) error {
	const most = 1 << 20
	if to-from > 2*most {
		if err := zeros(fd, from, from+most); err != nil {
			return err
		}
		return zeros(fd, to-most, to)
	}
	buf := make([]byte, to-from)
	for done := 0; done < len(buf); {
		n, err := unix.Pread(fd, buf[done:], from+int64(done))
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("end of file at %d in a range to %d", from+int64(done), to)
		}
		done += n
	}
	for i, b := range buf {
		if b != 0 {
			return fmt.Errorf("byte %d of a hole is %#x", from+int64(i), b)
		}
	}
	return nil
}

// doCopyRange goes on until all is copied: how much one call copies is the
// filesystem's choice.
func doCopyRange(s *side, o *Op, r *result) {
	from, to, left, total := o.Off, o.Off2, o.Len, int64(0)
	for left > 0 {
		n, err := unix.CopyFileRange(s.handles[o.H], &from, s.handles[o.H2], &to, int(left), 0)
		if err != nil {
			r.err(err)
			break
		}
		if n == 0 {
			break
		}
		left -= int64(n)
		total += int64(n)
	}
	r.add("%d", total)
}

func doFstat(s *side, o *Op, r *result) {
	var st unix.Stat_t
	if !r.err(unix.Fstat(s.handles[o.H], &st)) {
		r.add("%s", statText(&st))
	}
}

func doFutimens(s *side, o *Op, r *result) {
	s.syncMappings()
	ts := timespecs(o)
	// utimensat with a null path is futimens.
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(s.handles[o.H]), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
	if e != 0 {
		r.err(e)
		return
	}
	doFstat(s, o, r)
}

// doLinkFd gives an open file, such as one of O_TMPFILE, a name.
func doLinkFd(s *side, o *Op, r *result) {
	if s.handles[o.H] < 0 {
		r.err(unix.EBADF)
		return
	}
	r.err(unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", s.handles[o.H]),
		unix.AT_FDCWD, s.path(o.A), unix.AT_SYMLINK_FOLLOW))
}

func doOFDLock(s *side, o *Op, r *result) {
	lk := unix.Flock_t{Type: int16(o.Flags), Start: o.Off, Len: o.Len}
	if o.Mode == 0 {
		r.err(unix.FcntlFlock(uintptr(s.handles[o.H]), unix.F_OFD_SETLK, &lk))
		return
	}
	if !r.err(unix.FcntlFlock(uintptr(s.handles[o.H]), unix.F_OFD_GETLK, &lk)) {
		r.add("%d %d %d", lk.Type, lk.Start, lk.Len)
	}
}

func doMap(s *side, o *Op, r *result) {
	slot := o.H2 % mappingSlots
	_ = s.unmap(slot)
	fd := s.handles[o.H]
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		r.err(err)
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		r.add("not a file")
		return
	}
	mem, err := unix.Mmap(fd, o.Off, int(o.Len), int(o.Mode), unix.MAP_SHARED)
	if r.err(err) {
		return
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		r.err(err)
		_ = unix.Munmap(mem)
		return
	}
	s.mappings[slot] = mapping{mem: mem, fd: dup, off: o.Off, writable: o.Mode&unix.PROT_WRITE != 0}
}

// doMapped reads or writes memory of a mapping, inside the file: what a page
// shows beyond the end of its file is nobody's promise.
func doMapped(s *side, o *Op, r *result, write bool) {
	m := s.mappings[o.H%mappingSlots]
	if m.mem == nil || write && !m.writable {
		r.err(unix.EBADF)
		return
	}
	var st unix.Stat_t
	if err := unix.Fstat(m.fd, &st); err != nil {
		r.err(err)
		return
	}
	end := min(o.Off+o.Len, int64(len(m.mem)), st.Size-m.off)
	if end <= o.Off {
		r.add("outside")
		return
	}
	part := m.mem[o.Off:end]
	if write {
		copy(part, data(o.Seed, int64(len(part))))
		r.add("%d", len(part))
		// A store sets the file's time when its page was clean, and when a
		// page was last cleaned is the filesystem's affair.
		if _, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(m.fd), 0, 0, 0, 0, 0); e != 0 {
			r.err(e)
		}
		return
	}
	got := make([]byte, len(part))
	copy(got, part)
	r.bytes(got)
}

func doMsync(s *side, o *Op, r *result) {
	m := s.mappings[o.H%mappingSlots]
	if m.mem == nil {
		r.err(unix.EBADF)
		return
	}
	r.err(unix.Msync(m.mem, unix.MS_SYNC))
}
