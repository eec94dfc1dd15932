package seal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"kmsfs.dev/kmsfs/internal/secret"
)

func newRecords(t testing.TB) *Records {
	t.Helper()
	root, err := secret.New(KeyLen)
	if err != nil {
		t.Fatal(err)
	}
	rand.Read(root.Bytes())
	r, err := NewRecords(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestRecords(t *testing.T) {
	r, other := newRecords(t), newRecords(t)
	for _, value := range [][]byte{nil, {1}, bytes.Repeat([]byte{2}, 10000)} {
		sealed, err := r.Seal("key/a", value)
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.Seal("key/a", value)
		if err != nil || bytes.Equal(again, sealed) {
			t.Errorf("the same record is sealed alike: %v", err)
		}
		got, err := r.Open([]byte("before "), "key/a", sealed)
		if err != nil || !bytes.Equal(got, append([]byte("before "), value...)) {
			t.Errorf("%d bytes: %q, %v", len(value), got, err)
		}
		for _, name := range []string{"", "key/b", "key/", "key/a\x00", "ey/a"} {
			if _, err := r.Open(nil, name, sealed); !errors.Is(err, ErrRecord) {
				t.Errorf("as %q: %v", name, err)
			}
		}
		if _, err := other.Open(nil, "key/a", sealed); !errors.Is(err, ErrRecord) {
			t.Errorf("under another root key: %v", err)
		}
		for _, n := range []int{0, 1, 23, 24, 39, len(sealed) - 1} {
			if _, err := r.Open(nil, "key/a", sealed[:n]); !errors.Is(err, ErrRecord) {
				t.Errorf("cut to %d bytes: %v", n, err)
			}
		}
	}
}

func FuzzOpenRecord(f *testing.F) {
	root, err := secret.From(bytes.Repeat([]byte{7}, KeyLen))
	if err != nil {
		f.Fatal(err)
	}
	r, err := NewRecords(root)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(r.Close)
	sealed, err := r.Seal("key/a", []byte("value"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("key/a", sealed)
	f.Add("key/b", sealed)
	f.Add("key/a", sealed[:len(sealed)-1])
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, name string, in []byte) {
		got, err := r.Open(nil, name, in)
		if err != nil && !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
		if err == nil && (name != "key/a" || string(got) != "value") {
			t.Fatalf("%q under %q opens to %q", in, name, got)
		}
	})
}
