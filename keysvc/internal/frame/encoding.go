package frame

import (
	"encoding/binary"
	"maps"
	"slices"
)

func appendBytes[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// appendContext writes the pairs in the order of their keys.
func appendContext(dst []byte, ctx map[string]string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ctx)))
	var room [8]string // for as many as most contexts have
	names := slices.AppendSeq(room[:0], maps.Keys(ctx))
	slices.Sort(names)
	for _, k := range names {
		dst = appendBytes(dst, k)
		dst = appendBytes(dst, ctx[k])
	}
	return dst
}

// decoder reads members from b. After the first bad one it returns zeros, and
// bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() {
	d.b, d.bad = nil, true
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// number reads a uvarint of at most limit, in its shortest form.
func (d *decoder) number(limit int) int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > uint64(limit) || (n > 1 && d.b[n-1] == 0) {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

func (d *decoder) bytes() []byte {
	n := d.number(len(d.b))
	if n > len(d.b) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// user reads a user's number that may be absent.
func (d *decoder) user() *uint32 {
	switch d.byte() {
	case 0:
		return nil
	case 1:
		if len(d.b) >= 4 {
			v := binary.LittleEndian.Uint32(d.b)
			d.b = d.b[4:]
			return &v
		}
	}
	d.fail()
	return nil
}

// context reads pairs whose keys ascend: a repeated key would leave open which
// value was authorized.
func (d *decoder) context() map[string]string {
	n := d.number(maxPairs)
	if n == 0 {
		return nil
	}
	ctx := make(map[string]string, min(n, 8))
	last := ""
	for i := range n {
		k, v := string(d.bytes()), string(d.bytes())
		if d.bad || (i > 0 && k <= last) {
			d.fail()
			return nil
		}
		ctx[k], last = v, k
	}
	return ctx
}
