package format

import (
	"bytes"
	"errors"
	"testing"

	"kmsfs.dev/kmsfs/fs/internal/names"
)

// A fuzzer cannot forge a tag or MAC, so these authenticate whatever they are
// given: what parses then must be what the writer writes, byte for byte. The
// raw form is fed to the parsers too, and must only ever be ErrCorrupt.

func FuzzParseHeader(f *testing.F) {
	s := testSealer(f)
	b := make([]byte, HeaderSize)
	for _, h := range []*Header{
		fileHeader(),
		{Algorithm: 1, Geometry: 1, WrappedKey: seq(0, 48)},
		{Algorithm: 2, Geometry: 2, KeyInRecord: true, Holes: manyHoles(0, 8)},
	} {
		if err := s.MarshalHeader(b, h); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(b))
	}
	f.Add(make([]byte, HeaderSize))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := s.ParseHeader(b); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNeverWritten) {
			t.Fatal(err)
		}
		if len(b) != HeaderSize {
			return
		}
		b = bytes.Clone(b)
		remac(s, b)
		h, err := s.ParseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again := make([]byte, HeaderSize)
		h.sealed = sealedPath{} // what was read is not just handed back
		if err := s.MarshalHeader(again, h); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x reads as %+v, which is written as %x: %v", b, h, again, err)
		}
	})
}

// FuzzRecords seals record as each kind of record in turn.
func FuzzRecords(f *testing.F) {
	s := testSealer(f)
	dir, tagged := id(1), tag(2)
	kinds := []struct {
		ad     []byte
		reseal func(target string) (string, error)
	}{
		{ad(adDir), func(target string) (string, error) {
			r, err := s.OpenDir(target)
			if err != nil {
				return "", err
			}
			return s.SealDir(r), nil
		}},
		{ad(adSettled, dir[:]), func(target string) (string, error) {
			r, err := s.OpenSettled(dir, target)
			if err != nil {
				return "", err
			}
			return s.SealSettled(dir, r), nil
		}},
		{ad(adName, dir[:], tagged[:]), func(target string) (string, error) {
			r, err := s.OpenName(dir, tagged, target)
			if err != nil {
				return "", err
			}
			again, err := s.SealName(dir, tagged, r)
			if err != nil {
				panic(err)
			}
			return again, nil
		}},
		{ad(adSymlink), func(target string) (string, error) {
			r, err := s.OpenSymlink(target)
			if err != nil {
				return "", err
			}
			if n, ok := SymlinkLength(len(target)); !ok || n != len(r.Target) {
				panic("SymlinkLength is wrong")
			}
			again, err := s.SealSymlink(r)
			if err != nil {
				panic(err)
			}
			return again, nil
		}},
	}
	seed := func(kind uint8, target string) {
		raw, err := s.openTarget(kinds[kind].ad, target)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kind, raw, target)
	}
	for i := range testDirs {
		seed(0, s.SealDir(&testDirs[i]))
	}
	seed(1, s.SealSettled(dir, &SettledRecord{3, 9}))
	for i := range testNames {
		target, err := s.SealName(dir, tagged, &testNames[i])
		if err != nil {
			f.Fatal(err)
		}
		seed(2, target)
	}
	link, err := s.SealSymlink(&Symlink{id(1), id(2), tag(3), "/etc/passwd"})
	if err != nil {
		f.Fatal(err)
	}
	seed(3, link)
	f.Add(uint8(2), []byte{2, 0, 0}, "AAAA")
	f.Add(uint8(3), []byte{}, "")
	f.Fuzz(func(t *testing.T, which uint8, record []byte, raw string) {
		kind := kinds[int(which)%len(kinds)]
		if again, err := kind.reseal(raw); err == nil && again != raw || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%q is sealed again as %q: %v", raw, again, err)
		}
		target := s.sealTarget(kind.ad, record)
		again, err := kind.reseal(target)
		if err == nil && again != target || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%x is sealed again otherwise: %v", record, err)
		}
		if err == nil && len(target) > maxTarget {
			t.Fatalf("a target of %d bytes", len(target))
		}
	})
}

func FuzzOpenXattrs(f *testing.F) {
	s := testSealer(f)
	object := id(1)
	for _, x := range testXattrs()[:4] {
		sealed, err := s.SealXattrs(object, x)
		if err != nil {
			f.Fatal(err)
		}
		raw, err := s.xattrs.Open(ad(adXattrs, object[:]), sealed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte{1, 0, 'n', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := s.OpenXattrs(object, raw); err == nil || !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		sealed := s.xattrs.Seal(ad(adXattrs, object[:]), raw)
		x, err := s.OpenXattrs(object, sealed)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if again, err := s.SealXattrs(object, x); err != nil || !bytes.Equal(again, sealed) {
			t.Fatalf("%x reads as %+v and is sealed otherwise: %v", raw, x, err)
		}
	})
}

func FuzzOpenMove(f *testing.F) {
	s := testSealer(f)
	object := id(1)
	for i := range testMoves {
		sealed := s.SealMove(object, &testMoves[i])
		raw, err := s.records.Open(ad(adMove, object[:]), sealed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, sealed)
	}
	f.Add([]byte{8: 1}, []byte{})
	f.Add([]byte{8: 255, 40: 1}, make([]byte, 57))
	f.Fuzz(func(t *testing.T, raw, forged []byte) {
		for _, sealed := range [][]byte{s.records.Seal(ad(adMove, object[:]), raw), forged} {
			m, err := s.OpenMove(object, sealed)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
				continue
			}
			if again := s.SealMove(object, m); !bytes.Equal(again, sealed) {
				t.Fatalf("%x reads as %+v and is sealed otherwise", sealed, m)
			}
			for _, tag := range m.Tags {
				if !m.Allows(tag) {
					t.Fatalf("%+v does not allow its own", m)
				}
			}
		}
	})
}

func FuzzUnwrapKey(f *testing.F) {
	s := testSealer(f)
	wrapped, err := s.WrapKey(id(1), seq(1, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seq(1, 16), wrapped)
	f.Add(seq(2, 16), make([]byte, WrappedKeySize))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, file, wrapped []byte) {
		var fileID names.ID
		copy(fileID[:], file)
		key, err := s.UnwrapKey(fileID, wrapped)
		if err != nil && !errors.Is(err, ErrCorrupt) || err == nil && len(key) != dataKeySize {
			t.Fatalf("%x: %v", key, err)
		}
		if len(wrapped) < dataKeySize {
			return
		}
		again, err := s.WrapKey(fileID, wrapped[:dataKeySize])
		if err != nil || len(again) != WrappedKeySize {
			t.Fatal(err)
		}
		if key, err = s.UnwrapKey(fileID, again); err != nil || !bytes.Equal(key, wrapped[:dataKeySize]) {
			t.Fatalf("unwraps to %x: %v", key, err)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	for _, keys := range []KeyMode{KeysPath, KeysVolume} {
		c := testConfig()
		c.Keys = keys
		b, err := c.Seal(testVolumeKey())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"schema": 2}`))
	f.Add([]byte(`{"schema": 1, "created": "0000-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownSchema) {
				t.Fatal(err)
			}
			return
		}
		if again, err := c.marshal(c.MAC); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%s reads as %+v and is written as %s: %v", b, c, again, err)
		}
		if sealed, err := c.Seal(testVolumeKey()); err != nil {
			t.Fatalf("%s parses and cannot be sealed: %v", b, err)
		} else if again, err := ParseConfig(sealed); err != nil || again.Verify(testVolumeKey()) != nil {
			t.Fatalf("%s sealed again is %s: %v", b, sealed, err)
		}
	})
}
