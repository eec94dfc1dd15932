package format

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// remac authenticates whatever is in a header, as only a holder of the volume
// key can: what MarshalHeader does not write must be refused even then.
func remac(s *Sealer, b []byte) {
	copy(b[headerMAC:], mac(s.header.Bytes(), adHeader, b[:headerMAC]))
}

func TestHeaderTampering(t *testing.T) {
	s := testSealer(t)
	b := make([]byte, HeaderSize)
	if err := s.MarshalHeader(b, fileHeader()); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := s.ParseHeader(b); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
			b[i] ^= 1 << bit
		}
	}
	for _, n := range []int{0, 1, 511, 513} {
		if _, err := s.ParseHeader(make([]byte, n)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := s.ParseHeader(make([]byte, HeaderSize)); !errors.Is(err, ErrNeverWritten) || errors.Is(err, ErrCorrupt) {
		t.Errorf("zeros: %v", err)
	}
	other, err := NewSealer(seq(9, VolumeKeySize))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Wipe()
	if _, err := other.ParseHeader(b); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another volume's header: %v", err)
	}
}

// Headers with a right MAC and fields that no writer writes.
func TestHeadersNoWriterWrites(t *testing.T) {
	s := testSealer(t)
	whole := make([]byte, HeaderSize)
	if err := s.MarshalHeader(whole, fileHeader()); err != nil {
		t.Fatal(err)
	}
	pathAt := headerVar + 176
	holesAt := pathAt + 16 + len("/docs/report.txt")
	for what, change := range map[string]func(b []byte){
		"magic":                  func(b []byte) { b[0] = 'k' },
		"version 0":              func(b []byte) { b[8] = 0 },
		"version 2":              func(b []byte) { b[8] = 2 },
		"algorithm 0":            func(b []byte) { b[9] = 0 },
		"algorithm 3":            func(b []byte) { b[9] = 3 },
		"geometry 0":             func(b []byte) { b[10] = 0 },
		"geometry 3":             func(b []byte) { b[10] = 3 },
		"unknown flag":           func(b []byte) { b[11] |= 4 },
		"highest flag":           func(b []byte) { b[11] |= 0x80 },
		"key in record and here": func(b []byte) { b[11] |= flagKeyInRecord },
		"byte 14":                func(b []byte) { b[14] = 1 },
		"byte 36":                func(b []byte) { b[39] = 1 },
		"byte 101":               func(b []byte) { b[101] = 1 },
		"Merkle seal":            func(b []byte) { b[135] = 1 },
		"after the holes":        func(b []byte) { b[holesAt+3*extentSize] = 1 },
		"byte 479":               func(b []byte) { b[479] = 1 },
		"durable length":         func(b []byte) { le.PutUint64(b[48:], 1<<56+1) },
		"no wrapped key":         func(b []byte) { le.PutUint16(b[96:], 0) },
		"long wrapped key":       func(b []byte) { le.PutUint16(b[96:], 257) },
		"huge wrapped key":       func(b []byte) { le.PutUint16(b[96:], 0xffff) },
		"path of 1 byte":         func(b []byte) { le.PutUint16(b[98:], 1) },
		"huge path":              func(b []byte) { le.PutUint16(b[98:], 0xffff) },
		"shorter path":           func(b []byte) { le.PutUint16(b[98:], uint16(holesAt-pathAt-1)) },
		"another's path": func(b []byte) {
			copy(b[pathAt:], s.records.Seal(ad(adPath, seq(0, 16)), []byte("/docs/report.txt")))
		},
		"sealed empty path": func(b []byte) {
			empty := s.records.Seal(ad(adPath, b[16:32]), nil)
			clear(b[pathAt:headerMAC])
			le.PutUint16(b[98:], uint16(copy(b[pathAt:], empty)))
			b[100] = 0
		},
		"4 holes, one empty":      func(b []byte) { b[100] = 4 },
		"255 holes":               func(b []byte) { b[100] = 255 },
		"2 holes, third not zero": func(b []byte) { b[100] = 2 },
		"hole of no page":         func(b []byte) { putU48(b[holesAt+6:], 0) },
		"holes that touch":        func(b []byte) { putU48(b[holesAt+6:], 2) },
		"holes that overlap":      func(b []byte) { putU48(b[holesAt+6:], 3) },
		"holes out of order":      func(b []byte) { putU48(b[holesAt:], 2000) },
		"hole beyond 48 bits":     func(b []byte) { putU48(b[holesAt+2*extentSize+6:], 3) },
	} {
		b := bytes.Clone(whole)
		change(b)
		if bytes.Equal(b, whole) {
			t.Errorf("%s: nothing changed", what)
		}
		remac(s, b)
		if h, err := s.ParseHeader(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %+v, %v", what, h, err)
		}
	}
}

func TestHeadersRefused(t *testing.T) {
	s := testSealer(t)
	for what, change := range map[string]func(h *Header){
		"algorithm":           func(h *Header) { h.Algorithm = 0 },
		"geometry":            func(h *Header) { h.Geometry = 3 },
		"durable length":      func(h *Header) { h.Durable = 1<<56 + 1 },
		"no key":              func(h *Header) { h.WrappedKey = nil },
		"two keys":            func(h *Header) { h.KeyInRecord = true },
		"path and no key":     func(h *Header) { h.KeyInRecord, h.WrappedKey = true, nil },
		"long key":            func(h *Header) { h.WrappedKey, h.Path = seq(0, 257), "" },
		"long path":           func(h *Header) { h.Path, h.Holes = strings.Repeat("p", 320-176-16+1), nil },
		"many holes":          func(h *Header) { h.Holes = append(h.Holes[:2], manyHoles(100, 7)...) },
		"holes beside a path": func(h *Header) { h.Path, h.Holes = strings.Repeat("p", 320-176-16), manyHoles(1, 3) },
		"no pages":            func(h *Header) { h.Holes[0].Count = 0 },
		"negative count":      func(h *Header) { h.Holes[0].Count = -1 },
		"negative page":       func(h *Header) { h.Holes[0].First = -1 },
		"adjacent":            func(h *Header) { h.Holes[1].First = 4 },
		"beyond 48 bits":      func(h *Header) { h.Holes[2].Count = 3 },
		"overflowing":         func(h *Header) { h.Holes[2].Count = 1<<63 - 1 },
	} {
		h := fileHeader()
		change(h)
		b := bytes.Repeat([]byte{0xee}, HeaderSize)
		if err := s.MarshalHeader(b, h); err == nil {
			t.Errorf("%s: is written", what)
		}
		if !bytes.Equal(b, bytes.Repeat([]byte{0xee}, HeaderSize)) {
			t.Errorf("%s: something is written", what)
		}
	}
	if err := s.MarshalHeader(make([]byte, HeaderSize-1), fileHeader()); err == nil {
		t.Error("a header is written to 511 bytes")
	}
}

func manyHoles(from int64, n int) (holes []Extent) {
	for i := range n {
		holes = append(holes, Extent{from + int64(i)*2, 1})
	}
	return holes
}

// PathFits and HoleCapacity agree with MarshalHeader at every length.
func TestHeaderRoom(t *testing.T) {
	s := testSealer(t)
	b := make([]byte, HeaderSize)
	for _, wrapped := range []int{1, 47, 48, 176, 255, 256, 257} {
		for path := range 330 {
			h := fileHeader()
			h.WrappedKey, h.Path = seq(0, wrapped), strings.Repeat("p", path)
			fits := PathFits(wrapped, h.Path)
			room := wrapped
			if path > 0 {
				room += 16 + path
			}
			if want := wrapped <= 256 && room <= 320; fits != want {
				t.Fatalf("key of %d, path of %d: fits %v", wrapped, path, fits)
			}
			h.Holes = nil
			if err := s.MarshalHeader(b, h); (err == nil) != fits || err != nil && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("key of %d, path of %d: fits %v, but %v", wrapped, path, fits, err)
			}
			if !fits {
				continue
			}
			n := h.HoleCapacity()
			if n < 2 || n > 8 || n < 8 && room+extentSize*(n+1) <= 344 || room+extentSize*n > 344 {
				t.Fatalf("key of %d, path of %d: room for %d holes", wrapped, path, n)
			}
			for _, count := range []int{n, n + 1} {
				h.Holes = manyHoles(1, count)
				if err := s.MarshalHeader(b, h); (err == nil) != (count == n) {
					t.Fatalf("key of %d, path of %d: %d holes of %d: %v", wrapped, path, count, n, err)
				}
			}
		}
	}
	if n := (&Header{KeyInRecord: true}).HoleCapacity(); n != 8 {
		t.Errorf("room for %d holes beside nothing", n)
	}
}

// Records do not open in another place, as another kind, or in another form.
func TestRecordsOutOfPlace(t *testing.T) {
	s := testSealer(t)
	dir := s.SealDir(&testDirs[2])
	settled := s.SealSettled(id(1), &SettledRecord{1, 2})
	name, err := s.SealName(id(1), tag(2), &testNames[0])
	if err != nil {
		t.Fatal(err)
	}
	link, err := s.SealSymlink(&Symlink{id(1), id(2), tag(3), "target"})
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.SealXattrs(id(1), testXattrs()[2])
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = s.OpenSettled(id(2), settled)
	refuse("another root's settled record", err)
	_, err = s.OpenName(id(2), tag(2), name)
	refuse("another directory's name record", err)
	_, err = s.OpenName(id(1), tag(3), name)
	refuse("another name's record", err)
	_, err = s.OpenXattrs(id(2), x)
	refuse("another object's attributes", err)

	opens := map[string]func(target string) error{
		"directory": func(t string) error { _, err := s.OpenDir(t); return err },
		"settled":   func(t string) error { _, err := s.OpenSettled(id(1), t); return err },
		"name":      func(t string) error { _, err := s.OpenName(id(1), tag(2), t); return err },
		"symlink":   func(t string) error { _, err := s.OpenSymlink(t); return err },
		"attributes": func(t string) error {
			_, err := s.OpenXattrs(id(1), []byte(t))
			return err
		},
	}
	for kind, target := range map[string]string{"directory": dir, "settled": settled, "name": name, "symlink": link} {
		for as, open := range opens {
			if err := open(target); (err == nil) != (as == kind) {
				t.Errorf("%s record as %s: %v", kind, as, err)
			}
		}
		open := opens[kind]
		for i := range len(target) {
			for _, c := range []byte{'A', 'B', '\n', '=', '+', 0} {
				if c != target[i] {
					refuse("a character changed", open(target[:i]+string(c)+target[i+1:]))
				}
				refuse("a character inserted", open(target[:i]+string(c)+target[i:]))
			}
			refuse("cut short", open(target[:i]))
		}
		for _, tail := range []string{"\n", "\r", "=", "==", "A", "AA", "AAAA", strings.Repeat("A", 8192)} {
			refuse("a tail", open(target+tail))
		}
	}
	for i := range x {
		x[i] ^= 1
		_, err = s.OpenXattrs(id(1), x)
		refuse("attributes changed", err)
		x[i] ^= 1
		_, err = s.OpenXattrs(id(1), x[:i])
		refuse("attributes cut short", err)
	}
}

func TestRecordsRefused(t *testing.T) {
	s := testSealer(t)
	file := NameEntry{ID: id(1), Kind: KindFile}
	for what, change := range map[string]func(e *NameEntry){
		"kind 0":                func(e *NameEntry) { e.Kind = 0 },
		"kind 5":                func(e *NameEntry) { e.Kind = 5 },
		"counters":              func(e *NameEntry) { e.CounterMin = 1 },
		"key of a directory":    func(e *NameEntry) { e.Kind, e.Wrapped = KindDir, seq(0, 48) },
		"path of a symlink":     func(e *NameEntry) { e.Kind, e.Path = KindSymlink, "/p" },
		"path without a key":    func(e *NameEntry) { e.Path = "/p" },
		"long key":              func(e *NameEntry) { e.Wrapped = seq(0, 257) },
		"long path":             func(e *NameEntry) { e.Wrapped, e.Path = seq(0, 1), strings.Repeat("p", 1025) },
		"mode of a file":        func(e *NameEntry) { e.Mode = unix.S_IFIFO },
		"regular mode":          func(e *NameEntry) { e.Mode = unix.S_IFREG },
		"special without mode":  func(e *NameEntry) { e.Kind = KindSpecial },
		"special directory":     func(e *NameEntry) { e.Kind, e.Mode = KindSpecial, unix.S_IFDIR },
		"permission bits":       func(e *NameEntry) { e.Kind, e.Mode = KindSpecial, unix.S_IFIFO|0o644 },
		"device number of FIFO": func(e *NameEntry) { e.Kind, e.Mode, e.Rdev = KindSpecial, unix.S_IFIFO, 1 },
		"device number of file": func(e *NameEntry) { e.Rdev = 1 },
	} {
		e := file
		change(&e)
		if _, err := s.SealName(id(1), tag(2), &NameRecord{[]NameEntry{file, e}}); err == nil {
			t.Errorf("%s is sealed", what)
		}
	}
	for _, n := range []int{0, 3, 256, 257} {
		if _, err := s.SealName(id(1), tag(2), &NameRecord{make([]NameEntry, n)}); err == nil {
			t.Errorf("%d entries are sealed", n)
		}
	}
	for target, want := range map[string]error{
		"":                                   nil,
		"a\x00b":                             nil,
		strings.Repeat("s", MaxSymlink+1):    ErrTooLarge,
		strings.Repeat("s", 4095):            ErrTooLarge,
		strings.Repeat("\x00", 2*MaxSymlink): ErrTooLarge,
	} {
		if _, err := s.SealSymlink(&Symlink{Target: target}); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("target %.10q of %d bytes: %v", target, len(target), err)
		}
	}
	for what, x := range map[string]XattrSet{
		"unsorted":  {{"user.b", nil}, {"user.a", nil}},
		"twice":     {{"user.a", nil}, {"user.a", nil}},
		"no name":   {{"", nil}},
		"NUL":       {{"user.\x00", nil}},
		"long name": {{strings.Repeat("n", 256), nil}},
		"too large": {{"user.a", make([]byte, maxXattrSet-16-2-6-4+1)}},
	} {
		if _, err := s.SealXattrs(id(1), x); err == nil || (what == "too large") != errors.Is(err, ErrTooLarge) {
			t.Errorf("attributes, %s: %v", what, err)
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a settled record with settled after next is sealed")
			}
		}()
		s.SealSettled(id(1), &SettledRecord{2, 1})
	}()
}

func TestSymlinkLength(t *testing.T) {
	s := testSealer(t)
	lengths := make(map[int]int)
	for n := 1; n <= MaxSymlink; n++ {
		target, err := s.SealSymlink(&Symlink{Target: strings.Repeat("s", n)})
		if err != nil {
			t.Fatal(err)
		}
		lengths[len(target)] = n
	}
	for backing := -1; backing < 5000; backing++ {
		want, wantOK := lengths[backing]
		if n, ok := SymlinkLength(backing); ok != wantOK || ok && n != want {
			t.Fatalf("backing length %d: %d, %v; want %d, %v", backing, n, ok, want, wantOK)
		}
	}
}

func TestXattrSet(t *testing.T) {
	var x XattrSet
	for _, name := range []string{"user.b", "user.a", "user.c", "user.b"} {
		before := len(x)
		y := x.With(name, []byte(name+"!"))
		if len(x) != before {
			t.Error("With changes its receiver")
		}
		x = y
	}
	if err := x.check(); err != nil || len(x) != 3 {
		t.Fatalf("%v: %v", x, err)
	}
	if v, ok := x.Get("user.b"); !ok || string(v) != "user.b!" {
		t.Errorf("Get: %q, %v", v, ok)
	}
	if _, ok := x.Get("user.d"); ok {
		t.Error("Get finds what is not there")
	}
	y := x.Without("user.b")
	if _, ok := y.Get("user.b"); ok || len(y) != 2 || len(x) != 3 {
		t.Errorf("Without: %v of %v", y, x)
	}
	if len(y.Without("user.b")) != 2 || y.check() != nil {
		t.Error("Without removes what is not there")
	}
}

func TestConfigTampering(t *testing.T) {
	b, err := testConfig().Seal(testVolumeKey())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	replace := func(old, new string) string {
		t.Helper()
		out := strings.Replace(text, old, new, 1)
		if out == text {
			t.Fatalf("no %q in %s", old, text)
		}
		return out
	}
	for what, changed := range map[string]string{
		"volume":             replace("vol-0", "vol-1"),
		"creation":           replace("2026-", "2025-"),
		"key":                replace("1234abcd", "1234abce"),
		"region":             replace("us-east-1", "us-east-2"),
		"key mode":           replace(`"keys": "path"`, `"keys": "volume"`),
		"context":            replace(`"context": "path"`, `"context": "opaque"`),
		"algorithm":          replace("AES-256-GCM", "XChaCha20-Poly1305"),
		"geometry":           replace(`"file"`, `"block"`),
		"wrapped volume key": replace(`"AAEC`, `"AAED`),
		"MAC":                replace(`"mac": "`+text[strings.Index(text, `"mac": "`)+8:][:2], `"mac": "zz`),
	} {
		c, err := ParseConfig([]byte(changed))
		if err != nil {
			t.Errorf("%s: %v", what, err) // well formed: the MAC has to tell
			continue
		}
		if err := c.Verify(testVolumeKey()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("another %s verifies: %v", what, err)
		}
	}
	for what, changed := range map[string]string{
		"no JSON":           "volume = 1\n",
		"nothing":           "",
		"null":              "null\n",
		"no schema":         replace("\"schema\": 1,\n  ", ""),
		"schema 0":          replace(`"schema": 1`, `"schema": 0`),
		"schema -1":         replace(`"schema": 1`, `"schema": -1`),
		"schema 1.0":        replace(`"schema": 1`, `"schema": 1.0`),
		"a field more":      replace(`"schema": 1,`, `"schema": 1, "more": 1,`),
		"a field twice":     replace(`"schema": 1,`, "\"schema\": 1,\n  \"schema\": 1,"),
		"a field missing":   replace("  \"geometry\": \"file\",\n", ""),
		"another case":      replace(`"volume"`, `"Volume"`),
		"white space":       replace(`"schema": 1`, `"schema":  1`),
		"no newline":        strings.TrimSuffix(text, "\n"),
		"a newline more":    text + "\n",
		"an object more":    text + text,
		"escapes":           replace("vol-", `\u0076ol-`),
		"time zone":         replace("05Z", "05+00:00"),
		"fraction":          replace("05Z", "05.000Z"),
		"volume ID":         replace("vol-0", "vol-"),
		"volume ID in caps": replace("abcdef0", "ABCDEF0"),
		"key without ARN":   replace("arn:aws:kms:us-east-1:000000000000:key/", ""),
		"alias":             replace("key/", "alias/"),
		"key mode":          replace(`"keys": "path"`, `"keys": "none"`),
		"context":           replace(`"context": "path"`, `"context": ""`),
		"algorithm":         replace("AES-256-GCM", "AES-128-GCM"),
		"geometry":          replace(`"file"`, `"tape"`),
		"no wrapped key":    replace(text[strings.Index(text, `"AAEC`):strings.Index(text, "\n  \"mac\"")], `"",`),
		"newline in base64": replace(`"AAEC`, `"\nAAEC`),
		"short MAC":         replace(text[strings.Index(text, `"mac": "`):], "\"mac\": \"AAAA\"\n}\n"),
		"too large":         text + strings.Repeat(" ", maxConfig),
	} {
		if _, err := ParseConfig([]byte(changed)); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnknownSchema) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, schema := range []string{"2", "255"} {
		_, err := ParseConfig([]byte(replace(`"schema": 1`, `"schema": `+schema)))
		if !errors.Is(err, ErrUnknownSchema) || !strings.Contains(err.Error(), schema) {
			t.Errorf("schema %s: %v", schema, err)
		}
		if _, err := ParseConfig([]byte(`{"schema": ` + schema + `, "future": {}}`)); !errors.Is(err, ErrUnknownSchema) {
			t.Errorf("schema %s of another form: %v", schema, err)
		}
	}
	c, err := ParseConfig(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(seq(0, VolumeKeySize)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("verifies under another key: %v", err)
	}
	if err := c.Verify(seq(0, 32)); err == nil {
		t.Error("verifies under half a key")
	}
}

func TestConfigRefused(t *testing.T) {
	for what, change := range map[string]func(c *Config){
		"volume":    func(c *Config) { c.Volume = "vol-1" },
		"key":       func(c *Config) { c.KMSKey = "alias/kmsfs" },
		"keys":      func(c *Config) { c.Keys = "" },
		"context":   func(c *Config) { c.Context = "name" },
		"algorithm": func(c *Config) { c.Algorithm = "" },
		"geometry":  func(c *Config) { c.Geometry = "" },
		"no key":    func(c *Config) { c.WrappedVolumeKey = nil },
		"long key":  func(c *Config) { c.WrappedVolumeKey = make([]byte, maxWrappedVol+1) },
	} {
		c := testConfig()
		change(c)
		if _, err := c.Seal(testVolumeKey()); err == nil {
			t.Errorf("%s: is sealed", what)
		}
	}
}

func TestNewVolumeID(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		v := NewVolumeID()
		if !volumeID.MatchString(v) || seen[v] {
			t.Fatalf("%q", v)
		}
		seen[v] = true
	}
}
