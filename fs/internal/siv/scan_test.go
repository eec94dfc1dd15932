package siv

import (
	"testing"

	"kmsfs.dev/kmsfs/internal/secret/secrettest"
)

// No call leaves a copy of the key behind, nor of the first round keys of a
// schedule, which are the key; and Wipe erases those in use.
func TestNoCopiesOfTheKey(t *testing.T) {
	key, masked := secrettest.Key(t, KeySize)
	c, err := New(key.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for half := range 2 {
		if n := secrettest.Copies(t, 0, masked[half*32:][:32]); n != 2 {
			t.Fatalf("half %d of a key in use: %d copies", half, n)
		}
	}
	for i := range 1000 {
		ad, plain := make([]byte, 16), make([]byte, 1+i%300)
		if out, err := c.Open(ad, c.Seal(ad, plain)); err != nil || len(out) != len(plain) {
			t.Fatal(err)
		}
	}
	for half := range 2 {
		if n := secrettest.Copies(t, 0, masked[half*32:][:32]); n != 2 {
			t.Errorf("half %d of the key after a thousand messages: %d copies", half, n)
		}
	}
	c.Wipe()
	key.Free()
	for half := range 2 {
		if n := secrettest.Copies(t, 0, masked[half*32:][:32]); n != 0 {
			t.Errorf("half %d of the key after Wipe: %d copies", half, n)
		}
	}
}
