package backing

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Entry is one entry of a directory as getdents64(2) tells it.
type Entry struct {
	Ino  uint64
	Next int64  // position after this entry, for Lister.SeekTo
	Type uint32 // S_IFMT bits; 0 where the backing filesystem does not tell
	Name string
}

// Lister reads the entries of one directory in the order and with the
// positions of the backing filesystem, holding one buffer at a time.
type Lister struct {
	fd  int
	buf []byte // what getdents64 returned and Next has not consumed
	mem []byte
	eof bool
}

// NewLister lists the directory behind dirfd. Close it.
func NewLister(dirfd int) (*Lister, error) {
	fd, err := OpenList(dirfd)
	if err != nil {
		return nil, err
	}
	return &Lister{fd: fd, mem: make([]byte, 32<<10)}, nil
}

// FD is the descriptor of the directory, open for reading.
func (l *Lister) FD() int { return l.fd }

// SeekTo continues at a position from Entry.Next; 0 is the start, where entries
// made since are seen.
func (l *Lister) SeekTo(pos int64) error {
	l.buf, l.eof = nil, false
	_, err := Seek(l.fd, pos, unix.SEEK_SET)
	return err
}

// Next returns the next entry; ok is false at the end.
func (l *Lister) Next() (e Entry, ok bool, err error) {
	if len(l.buf) == 0 {
		if l.eof {
			return e, false, nil
		}
		var n int
		err := noEINTR(func() (err error) { n, err = unix.Getdents(l.fd, l.mem); return err })
		if err != nil {
			return e, false, err
		}
		if n == 0 {
			l.eof = true
			return e, false, nil
		}
		l.buf = l.mem[:n]
	}
	// struct linux_dirent64: ino u64, off s64, reclen u16, type u8, name\0
	d := l.buf
	reclen := int(binary.NativeEndian.Uint16(d[16:]))
	e.Ino = binary.NativeEndian.Uint64(d)
	e.Next = int64(binary.NativeEndian.Uint64(d[8:]))
	e.Type = uint32(d[18]) << 12 // DT_x is the S_IFMT field shifted (IFTODT)
	name := d[19:reclen]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	e.Name = string(name)
	l.buf = l.buf[reclen:]
	return e, true, nil
}

// Close releases the descriptor.
func (l *Lister) Close() { Close(l.fd); l.fd = -1 }
