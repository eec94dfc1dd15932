package format

import (
	"encoding/binary"

	"kmsfs.dev/kmsfs/fs/internal/names"
)

var le = binary.LittleEndian

// reader takes fields off the front of a record. A record that is too short
// sets bad and yields zeros, so that a parser checks once, at its end.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return le.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return le.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return le.Uint64(r.take(8)) }

func (r *reader) id() names.ID   { return names.ID(r.take(16)) }
func (r *reader) tag() names.Tag { return names.Tag(r.take(16)) }

// bytes takes a field of n bytes, n from the record itself: at most max.
func (r *reader) bytes(n, max int) []byte {
	if n > max || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	return r.take(n)
}

// done tells whether the record held exactly the fields taken.
func (r *reader) done() bool {
	return !r.bad && len(r.b) == 0
}
