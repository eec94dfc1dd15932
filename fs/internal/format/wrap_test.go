package format

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"testing"

	"kmsfs.dev/kmsfs/internal/secret"
)

func TestWrapKey(t *testing.T) {
	s := testSealer(t)
	key := seq(1, 32)
	wrapped, err := s.WrapKey(id(1), key)
	if err != nil || len(wrapped) != 60 {
		t.Fatalf("%d bytes: %v", len(wrapped), err)
	}
	got, err := s.UnwrapKey(id(1), wrapped)
	if err != nil || !bytes.Equal(got, key) {
		t.Fatalf("unwraps to %x: %v", got, err)
	}
	if _, err := s.UnwrapKey(id(2), wrapped); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another file unwraps it: %v", err)
	}
	for i := range wrapped {
		wrapped[i] ^= 1
		if _, err := s.UnwrapKey(id(1), wrapped); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		wrapped[i] ^= 1
		if _, err := s.UnwrapKey(id(1), wrapped[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
	if _, err := s.UnwrapKey(id(1), append(bytes.Clone(wrapped), 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("61 bytes: %v", err)
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := s.WrapKey(id(1), make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes is wrapped", n)
		}
	}
	other, err := NewSealer(seq(9, VolumeKeySize))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Wipe()
	if _, err := other.UnwrapKey(id(1), wrapped); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another volume unwraps it: %v", err)
	}
}

// Each wrapping has a nonce of its own.
func TestWrapNonces(t *testing.T) {
	s := testSealer(t)
	seen := make(map[string]bool)
	for range 100 {
		wrapped, err := s.WrapKey(id(1), seq(1, 32))
		if err != nil {
			t.Fatal(err)
		}
		if nonce := string(wrapped[:12]); seen[nonce] {
			t.Fatal("a nonce is repeated")
		} else {
			seen[nonce] = true
		}
	}
}

// What is wrapped is what the specification says, done by hand.
func TestWrapIsSpecified(t *testing.T) {
	s := testSealer(t)
	wrapped, err := s.WrapKey(id(1), seq(1, 32))
	if err != nil {
		t.Fatal(err)
	}
	volume, err := hkdf.Key(sha256.New, testVolumeKey(), nil, "kmsfs v1 wrap", 32)
	if err != nil {
		t.Fatal(err)
	}
	file, err := hkdf.Key(sha256.New, volume, seq(1, 16), "kmsfs v1 wrap", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(file)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	key, err := gcm.Open(nil, wrapped[:12], wrapped[12:], append([]byte("kmsfs v1 wrap"), seq(1, 16)...))
	if err != nil || !bytes.Equal(key, seq(1, 32)) {
		t.Errorf("opens to %x: %v", key, err)
	}
}

func BenchmarkWrapKey(b *testing.B) {
	s := testSealer(b)
	wrapped, err := s.WrapKey(id(1), seq(1, 32))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Wrap", func(b *testing.B) {
		b.ReportAllocs()
		key := seq(1, 32)
		for b.Loop() {
			if _, err := s.WrapKey(id(1), key); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Unwrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			key, err := s.UnwrapKey(id(1), wrapped)
			if err != nil {
				b.Fatal(err)
			}
			secret.Wipe(key)
		}
	})
}
