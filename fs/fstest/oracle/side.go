package oracle

import (
	"fmt"
	"hash/fnv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	handleSlots  = 8
	mappingSlots = 3
)

// side is one of the two directories with what is open in it.
type side struct {
	root     string
	handles  [handleSlots]int // file descriptors, -1 when free
	mappings [mappingSlots]mapping
}

// mapping is a shared mapping of a part of a file. It keeps a descriptor of
// its own, to ask for the file's size before it touches memory.
type mapping struct {
	mem      []byte
	fd       int
	off      int64
	writable bool
}

func newSide(root string) *side {
	s := &side{root: root}
	for i := range s.handles {
		s.handles[i] = -1
	}
	return s
}

func (s *side) path(rel string) string {
	if rel == "" {
		return s.root
	}
	return s.root + "/" + rel
}

func (s *side) setHandle(slot, fd int) {
	if s.handles[slot] >= 0 {
		unix.Close(s.handles[slot])
	}
	s.handles[slot] = fd
}

func (s *side) unmap(slot int) error {
	m := s.mappings[slot]
	s.mappings[slot] = mapping{}
	if m.mem == nil {
		return unix.EBADF
	}
	unix.Close(m.fd)
	return unix.Munmap(m.mem)
}

// syncMappings writes out what mappings changed. Without a writeback cache,
// FUSE sets a file's time when such pages are written: a time that a program
// sets before that does not last, which is a documented difference.
func (s *side) syncMappings() {
	for i := range s.mappings {
		if mem := s.mappings[i].mem; mem != nil {
			_ = unix.Msync(mem, unix.MS_SYNC)
		}
	}
}

// closeAll closes everything open, as an unmount needs.
func (s *side) closeAll() {
	for i := range s.handles {
		s.setHandle(i, -1)
	}
	for i := range s.mappings {
		_ = s.unmap(i)
	}
}

// result is what an operation answered, as text that has to be the same on
// both sides.
type result struct {
	text strings.Builder
}

func (r *result) add(format string, args ...any) {
	if r.text.Len() > 0 {
		r.text.WriteByte(' ')
	}
	fmt.Fprintf(&r.text, format, args...)
}

// err adds an error's name, and tells whether there was one.
func (r *result) err(err error) bool {
	if err == nil {
		r.add("ok")
		return false
	}
	if e, ok := err.(unix.Errno); ok {
		r.add("%s", unix.ErrnoName(e))
	} else {
		r.add("%v", err)
	}
	return true
}

func (r *result) bytes(b []byte) {
	h := fnv.New64a()
	h.Write(b)
	r.add("%d bytes %x", len(b), h.Sum64())
	if n := min(len(b), 8); n > 0 {
		r.add("%x..%x", b[:n], b[len(b)-n:])
	}
}

func (r *result) stat(path string) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		r.add("lstat")
		r.err(err)
		return
	}
	r.add("%s", statText(&st))
}

// eraEnd parts the times that programs set (the generator sets none later)
// from those that the clock set.
const eraEnd = 1_300_000_000

// statText renders the attributes that have to agree.
func statText(st *unix.Stat_t) string {
	size, mtime := fmt.Sprint(st.Size), "now"
	if st.Mtim.Sec < eraEnd {
		mtime = fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		size = "-"
	case unix.S_IFIFO:
		// Writing to a pipe sets a time in memory only, on any filesystem that
		// is not told about it.
		mtime = "-"
	}
	return fmt.Sprintf("mode=%o uid=%d gid=%d nlink=%d size=%s rdev=%#x mtime=%s",
		st.Mode, st.Uid, st.Gid, st.Nlink, size, st.Rdev, mtime)
}
