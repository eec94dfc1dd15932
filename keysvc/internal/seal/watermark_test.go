package seal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWatermark(t *testing.T) {
	r, other := newRecords(t), newRecords(t)
	path := filepath.Join(t.TempDir(), "mark")
	w := NewWatermark(path, r)
	defer w.Close()
	if n, err := w.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %d, %v", n, err)
	}
	for n := range uint64(5) {
		if err := w.Save(n); err != nil {
			t.Fatal(err)
		}
		for _, again := range []*Watermark{w, NewWatermark(path, r)} {
			if got, err := again.Load(); got != n || err != nil {
				t.Errorf("%d is saved, and loaded as %d, %v", n, got, err)
			}
		}
	}
	if n, err := NewWatermark(path, other).Load(); !errors.Is(err, ErrRecord) {
		t.Errorf("under another root key: %d, %v", n, err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("the file: %v, %v", st.Mode(), err)
	}

	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	load := func(raw []byte) (uint64, error) {
		t.Helper()
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return NewWatermark(path, r).Load()
	}
	// A write that was torn leaves the number before.
	for _, at := range []int{0, sealedNumberLen / 2, sealedNumberLen - 1} {
		torn := bytes.Clone(whole)
		clear(torn[at:slotLen]) // 4 is in the first slot
		if n, err := load(torn); n != 3 || err != nil {
			t.Errorf("torn at byte %d: %d, %v", at, n, err)
		}
	}
	torn := bytes.Clone(whole)
	torn[slotLen]++
	if n, err := load(torn); n != 4 || err != nil {
		t.Errorf("the older slot torn: %d, %v", n, err)
	}
	for what, raw := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, watermarkLen), "a byte less than a slot": whole[:sealedNumberLen-1],
	} {
		if n, err := load(raw); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
	// A damaged file is mended by the next number.
	w = NewWatermark(path, r)
	defer w.Close()
	if err := w.Save(9); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Load(); n != 9 || err != nil {
		t.Errorf("mended: %d, %v", n, err)
	}
}

func TestCheckAndDigest(t *testing.T) {
	r, other := newRecords(t), newRecords(t)
	sealed, err := r.Seal("key/a", []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	old, err := sealUnder(r.root.Bytes(), legacyAD+"key/a", []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := r.Open(nil, "key/a", old); string(v) != "value" || err != nil {
		t.Errorf("a record of then opens to %q, %v", v, err)
	}
	for _, c := range []struct {
		r                 *Records
		name              string
		sealed            []byte
		authentic, legacy bool
	}{
		{r, "key/a", sealed, true, false},
		{r, "key/a", old, true, true},
		{r, "key/b", sealed, false, false},
		{r, "key/b", old, false, false},
		{r, "key/a", sealed[1:], false, false},
		{r, "key/a", nil, false, false},
		{other, "key/a", sealed, false, false},
		{other, "key/a", old, false, false},
	} {
		authentic, legacy, err := c.r.Check(c.name, c.sealed)
		if authentic != c.authentic || legacy != c.legacy || err != nil {
			t.Errorf("Check(%s, %x): %t, %t, %v", c.name, c.sealed, authentic, legacy, err)
		}
	}
	d := r.Digest("key/a", []byte("value"))
	if d != r.Digest("key/a", []byte("value")) {
		t.Error("a digest is not always the same")
	}
	for what, x := range map[string][32]byte{
		"another name": r.Digest("key/b", []byte("value")), "another value": r.Digest("key/a", []byte("valuf")),
		"the border moved": r.Digest("key/av", []byte("alue")), "another root key": other.Digest("key/a", []byte("value")),
	} {
		if x == d {
			t.Errorf("%s has the same digest", what)
		}
	}
}
