package siv

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 5297, A.1: deterministic authenticated encryption, one component.
func TestRFC5297(t *testing.T) {
	c, err := newCipher(unhex(t, "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"))
	if err != nil {
		t.Fatal(err)
	}
	ad := unhex(t, "101112131415161718191a1b1c1d1e1f2021222324252627")
	plain := unhex(t, "112233445566778899aabbccddee")
	want := unhex(t, "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c")
	if got := c.Seal(ad, plain); !bytes.Equal(got, want) {
		t.Errorf("seals to %x", got)
	}
	if got, err := c.Open(ad, want); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("opens to %x: %v", got, err)
	}
}

// RFC 4493, 4: AES-CMAC with a 128-bit key.
func TestRFC4493(t *testing.T) {
	key := unhex(t, "2b7e151628aed2a6abf7158809cf4f3c")
	c, err := newCipher(append(key, key...))
	if err != nil {
		t.Fatal(err)
	}
	msg := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for n, want := range map[int]string{
		0:  "bb1d6929e95937287fa37d129b756746",
		16: "070a16b46b4d4144f79bdd9dd04a287c",
		40: "dfa66747de9ae63030ca32611497c827",
		64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		var got block
		c.cmac(&got, msg[:n], nil)
		if !bytes.Equal(got[:], unhex(t, want)) {
			t.Errorf("%d bytes: %x", n, got)
		}
	}
}

func pair(t testing.TB, key []byte) (*Cipher, *subtle.AESSIV) {
	t.Helper()
	c, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Wipe)
	tink, err := subtle.NewAESSIV(key)
	if err != nil {
		t.Fatal(err)
	}
	return c, tink
}

// agree checks one message against tink, both ways.
func agree(t *testing.T, c *Cipher, tink *subtle.AESSIV, ad, plain []byte) {
	t.Helper()
	want, err := tink.EncryptDeterministically(plain, ad)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(plain)
	got := c.Seal(ad, plain)
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes under %d: %x, tink makes it %x", len(plain), len(ad), got, want)
	}
	if opened, err := c.Open(ad, got); err != nil || !bytes.Equal(opened, plain) {
		t.Fatalf("%d bytes under %d: opens to %x: %v", len(plain), len(ad), opened, err)
	}
	if !bytes.Equal(plain, before) || !bytes.Equal(got, want) {
		t.Fatal("an argument was changed")
	}
}

func TestEveryLengthAsTink(t *testing.T) {
	key := make([]byte, KeySize)
	for i := range key {
		key[i] = byte(i*37 + 5)
	}
	c, tink := pair(t, key)
	msg := make([]byte, 70000)
	for i := range msg {
		msg[i] = byte(i * 101)
	}
	for n := range 400 {
		agree(t, c, tink, msg[:16], msg[:n])
		agree(t, c, tink, msg[:n], msg[:33])
	}
	agree(t, c, tink, msg[:44], msg)
	agree(t, c, tink, nil, nil)
}

func TestTampering(t *testing.T) {
	c, _ := pair(t, make([]byte, KeySize))
	ad := []byte("a directory's ID")
	for _, n := range []int{0, 1, 15, 16, 17, 40} {
		sealed := c.Seal(ad, make([]byte, n))
		for i := range sealed {
			sealed[i] ^= 0x10
			if _, err := c.Open(ad, sealed); !errors.Is(err, ErrOpen) {
				t.Errorf("%d bytes, byte %d changed: %v", n, i, err)
			}
			sealed[i] ^= 0x10
		}
		for _, other := range [][]byte{nil, ad[1:], append(bytes.Clone(ad), 0)} {
			if _, err := c.Open(other, sealed); !errors.Is(err, ErrOpen) {
				t.Errorf("%d bytes, other associated data: %v", n, err)
			}
		}
		for cut := range len(sealed) {
			if _, err := c.Open(ad, sealed[:cut]); !errors.Is(err, ErrOpen) {
				t.Errorf("%d of %d bytes: %v", cut, len(sealed), err)
			}
		}
	}
	for _, n := range []int{0, 32, 48, 63, 65} {
		if _, err := New(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes is taken", n)
		}
	}
	(*Cipher)(nil).Wipe()
}

func FuzzAsTink(f *testing.F) {
	f.Add(make([]byte, KeySize), []byte{}, []byte{})
	f.Add(bytes.Repeat([]byte{0xff}, KeySize), []byte("directory"), []byte("a name of seventeen"))
	f.Fuzz(func(t *testing.T, key, ad, plain []byte) {
		if len(key) != KeySize {
			return
		}
		c, tink := pair(t, key)
		agree(t, c, tink, ad, plain)
		got, err := c.Open(ad, plain)
		want, tinkErr := tink.DecryptDeterministically(plain, ad)
		if (err == nil) != (tinkErr == nil) || !bytes.Equal(got, want) {
			t.Fatalf("opens to %x (%v), tink to %x (%v)", got, err, want, tinkErr)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	c, _ := pair(b, make([]byte, KeySize))
	ad, plain := make([]byte, 16), make([]byte, 20)
	b.ReportAllocs()
	for b.Loop() {
		c.Seal(ad, plain)
	}
}
