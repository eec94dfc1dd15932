package format

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// remac authenticates whatever is in a header, as only a holder of the volume
// key can: what MarshalHeader does not write must be refused even then.
func remac(s *Sealer, b []byte) {
	sum := s.header.sum(adHeader, b[:headerMAC])
	copy(b[headerMAC:], sum[:])
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

func TestUseAfterWipe(t *testing.T) {
	s, err := NewSealer(testVolumeKey())
	if err != nil {
		t.Fatal(err)
	}
	s.Wipe()
	s.Wipe()
	(*Sealer)(nil).Wipe()
	for what, use := range map[string]func(){
		"a header is authenticated": func() {
			_ = s.MarshalHeader(make([]byte, HeaderSize), &Header{Algorithm: 1, Geometry: 1, KeyInRecord: true})
		},
		"a header is parsed": func() { _, _ = s.ParseHeader(seq(1, HeaderSize)) },
		"a key is wrapped":   func() { _, _ = s.WrapKey(id(1), seq(1, 32)) },
		"a record is sealed": func() { s.SealDir(&DirRecord{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s without a key", what)
				}
			}()
			use()
		}()
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

func TestHeaderRoundTrip(t *testing.T) {
	s := testSealer(t)
	for _, change := range []func(h *Header){
		func(h *Header) {},
		func(h *Header) { *h = Header{Algorithm: 1, Geometry: 1, WrappedKey: seq(1, 48)} },
		func(h *Header) { *h = Header{Algorithm: 2, Geometry: 2, KeyInRecord: true} },
		func(h *Header) {
			h.KeyInRecord, h.WrappedKey, h.Path = true, nil, ""
			h.Holes = []Extent{{0, 1}, {2, 1}, {4, 1}, {6, 1}, {8, 1}, {10, 1}, {12, 1}, {14, 1 << 47}}
		},
		func(h *Header) { h.WrappedKey, h.Path, h.Holes = seq(0, 256), strings.Repeat("p", 48), h.Holes[:2] },
		func(h *Header) { h.WrappedKey, h.Path, h.Holes = seq(0, 1), strings.Repeat("p", 303), h.Holes[1:] },
		func(h *Header) { h.Durable, h.Holes = 1<<56, []Extent{{0, 1<<48 - 1}} },
		func(h *Header) {
			h.Epoch, h.WriteCount, h.Generation, h.Counter = 1<<16-1, 1<<32-1, 1<<64-1, 1<<64-1
		},
	} {
		want := fileHeader()
		change(want)
		b := bytes.Repeat([]byte{0xee}, HeaderSize+1)
		if err := s.MarshalHeader(b, want); err != nil {
			t.Errorf("%+v: %v", want, err)
			continue
		}
		if b[HeaderSize] != 0xee {
			t.Error("MarshalHeader writes more than a header")
		}
		got, err := s.ParseHeader(b[:HeaderSize])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v reads as %+v: %v", want, got, err)
		}
	}
}

// Headers are marshaled and parsed at once, with as many MACs as it takes.
func TestHeadersConcurrently(t *testing.T) {
	s := testSealer(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			h := fileHeader()
			h.Generation = uint64(g)
			b := make([]byte, HeaderSize)
			for range 200 {
				h.WriteCount++
				if err := s.MarshalHeader(b, h); err != nil {
					t.Error(err)
				}
				if got, err := s.ParseHeader(b); err != nil || got.Generation != h.Generation || got.WriteCount != h.WriteCount {
					t.Errorf("%+v reads as %+v: %v", h, got, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(s.header.free); n < 1 || n > 8 {
		t.Errorf("%d MACs for 8 users", n)
	}
}

// The MAC of a header is the one the specification says.
func TestHeaderMAC(t *testing.T) {
	s := testSealer(t)
	b := make([]byte, HeaderSize)
	if err := s.MarshalHeader(b, fileHeader()); err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, testVolumeKey(), nil, "kmsfs v1 header", 32)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b[480:], mac(key, "kmsfs v1 header", b[:480])) {
		t.Error("another MAC")
	}
}

// TestHeaderKeepsNoOldPath writes a header again after each change of what its
// sealed path depends on.
func TestHeaderKeepsNoOldPath(t *testing.T) {
	s := testSealer(t)
	h := fileHeader()
	for name, change := range map[string]func(){
		"nothing": func() {},
		"path":    func() { h.Path += "/elsewhere" },
		"file":    func() { h.FileID[0]++ },
		"no path": func() { h.Path = "" },
	} {
		change()
		buf := make([]byte, HeaderSize)
		for range 2 {
			if err := s.MarshalHeader(buf, h); err != nil {
				t.Fatal(err)
			}
			got, err := s.ParseHeader(buf)
			if err != nil || got.Path != h.Path || got.FileID != h.FileID {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
}

func BenchmarkHeader(b *testing.B) {
	s := testSealer(b)
	buf := make([]byte, HeaderSize)
	inRecord := fileHeader()
	inRecord.KeyInRecord, inRecord.WrappedKey, inRecord.Path = true, nil, ""
	for _, bb := range []struct {
		name string
		h    *Header
	}{{"WithPath", fileHeader()}, {"WithoutPath", inRecord}} {
		b.Run("Marshal"+bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bb.h.sealed = sealedPath{} // as a new file's
				if err := s.MarshalHeader(buf, bb.h); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("Parse"+bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.ParseHeader(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
