package audit

import (
	"bytes"
	"slices"
	"testing"
)

// FuzzVerify puts any bytes in place of a log's segments. Verify never panics,
// and up to the last checkpoint it accepts nothing but what was signed.
func FuzzVerify(f *testing.F) {
	s := newSmallLog(f)
	names := s.files.segments()
	a, b := s.files[names[0]], s.files[names[1]]
	whole := slices.Concat(a, b)
	f.Add(a, b)
	f.Add(a, []byte{})
	f.Add(b, a)
	f.Add(whole, []byte{})
	f.Add(a[:len(a)-1], b)
	f.Add(a, b[:len(b)/2])
	f.Add(rehash(a, genesis(publicOf(testKey(1)))), b)
	f.Add([]byte("{}\n"), []byte("null\n"))
	f.Add([]byte(`{"kmsfsCheckpoint":null,"kmsfs":{}}`+"\n"), []byte(`{"eventVersion":1,"kmsfs":{"sequence":1}}`+"\n"))
	f.Add(bytes.Repeat([]byte("["), 20000), []byte("\x00"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		dir := t.TempDir()
		files{names[0]: a, names[1]: b}.write(t, dir)
		last := s.lines[len(s.lines)-1].bytes
		for _, o := range []VerifyOptions{{}, {Anchor: last}, {AllowArchived: true}} {
			o.PublicKey = publicOf(testKey(1))
			r := verify(t, dir, o)
			if r.Fault != nil && r.Fault.Error() == "" {
				t.Error("a fault without words")
			}
			r.Caveats()
			c := r.LastCheckpoint
			if c == nil {
				if r.AnchorFound || r.Closed {
					t.Errorf("nothing is signed: %+v", r)
				}
				continue
			}
			// What is signed is a beginning of the log, wherever it lies.
			signed := slices.Concat(a, b)
			if c.Place.Segment == names[0] {
				signed = a
			}
			end := c.Place.Offset + int64(len(c.Line))
			if c.Place.Segment == names[1] {
				end += int64(len(a))
			}
			if !bytes.HasPrefix(whole, signed[:end]) {
				t.Errorf("accepted up to %v:\n%s", c.Place, signed[:end])
			}
			if o.Anchor != nil && r.Fault == nil && !bytes.Equal(signed[:end], whole) {
				t.Errorf("accepted with an anchor: %v", c.Place)
			}
		}
	})
}

// FuzzOpen puts any bytes in place of the last segment. Open never panics, and
// what it opens verifies.
func FuzzOpen(f *testing.F) {
	s := newSmallLog(f)
	names := s.files.segments()
	b := s.files[names[1]]
	f.Add(b)
	f.Add([]byte{})
	f.Add(b[:len(b)-1])
	f.Add(b[:len(lines(b)[0])])
	f.Add(append(slices.Clone(b), "\x00\x00\x00"...))
	f.Add(append(slices.Clone(b), b...))
	f.Add(s.files[names[0]])
	last := lines(s.files[names[0]])
	at := link{uint64(len(last)), Hash{}}
	at.follow(last[len(last)-1])
	for _, line := range []string{`{"":""`, `{"eventVersion":1`, `{"eventVersion":"1.11","eventName":5`} {
		f.Add(append(at.appendSuffix([]byte(line)), '0')) // in its place, and no record
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		files{names[0]: s.files[names[0]], names[1]: b, publicKeyFile: s.files[publicKeyFile]}.write(t, dir)
		l, err := Open(quiet(fixed(Options{Dir: dir})))
		if err != nil {
			return
		}
		mustAppend(t, l, named("after"))
		closeLog(t, l)
		if r := mustVerify(t, dir, VerifyOptions{}); !r.Closed {
			t.Errorf("report: %+v", r)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	s := newSmallLog(f)
	for _, l := range s.lines {
		f.Add(l.bytes)
	}
	key := publicOf(testKey(1))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, at, err := parseCheckpoint(line, key)
		if err != nil {
			return
		}
		again, err := c.line(at)
		if err != nil || !bytes.Equal(again, line) {
			t.Errorf("%q is written as %q, %v", line, again, err)
		}
		if !slices.ContainsFunc(s.lines, func(l smallLine) bool { return bytes.Equal(l.bytes, line) }) {
			t.Errorf("accepted %q", line)
		}
	})
}

func FuzzHash(f *testing.F) {
	f.Add([]byte(Hash{1, 2, 3}.String()))
	f.Add([]byte("0000000000000000000000000000000000000000000"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var h Hash
		if h.UnmarshalText(text) == nil && h.String() != string(text) {
			t.Errorf("%q is written as %s", text, h)
		}
	})
}

func FuzzPublicKey(f *testing.F) {
	f.Add(publicKeyText(publicOf(testKey(1))))
	f.Add([]byte(publicKeyPrefix))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParsePublicKey(text)
		if err == nil && !bytes.Equal(bytes.TrimSuffix(publicKeyText(key), []byte("\n")), bytes.TrimSuffix(text, []byte("\n"))) {
			t.Errorf("%q is written as %q", text, publicKeyText(key))
		}
	})
}
