package secret_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"testing"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/internal/secret/secrettest"
)

func TestHKDF(t *testing.T) {
	key := bytes.Repeat([]byte{0x0b}, 64)
	for _, salt := range [][]byte{nil, {1}, bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte{3}, 64), bytes.Repeat([]byte{4}, 65)} {
		for _, n := range []int{1, 31, 32, 33, 63, 64, 65, 1000, secret.MaxLen} {
			want, err := hkdf.Key(sha256.New, key, salt, "info", n)
			if err != nil {
				t.Fatal(err)
			}
			got, err := secret.HKDF(key, salt, []byte("info"), n)
			if err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%d bytes with salt of %d: %v", n, len(salt), err)
			}
			got.Free()
		}
	}
	for _, n := range []int{0, -1, secret.MaxLen + 1} {
		if _, err := secret.HKDF(key, nil, nil, n); err == nil {
			t.Errorf("%d bytes are derived", n)
		}
	}
}

// Neither the key that went in nor the one that came out is on the heap.
func TestHKDFLeavesNoKey(t *testing.T) {
	key, masked := secrettest.Key(t, 32)
	if n := secrettest.Copies(t, 0, masked); n != 1 {
		t.Fatalf("%d copies of a key in use", n)
	}
	salt, info := make([]byte, 16), []byte("info")
	for range 1000 {
		out, err := secret.HKDF(key.Bytes(), salt, info, 32)
		if err != nil {
			t.Fatal(err)
		}
		out.Free()
	}
	if n := secrettest.Copies(t, 0, masked); n != 1 {
		t.Errorf("%d copies of the key beside its own", n-1)
	}
	key.Free()
	if n := secrettest.Copies(t, 0, masked); n != 0 {
		t.Errorf("%d copies after Free", n)
	}
}
