package content

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

func testKey() []byte {
	key := make([]byte, DataKeySize)
	for i := range key {
		key[i] = byte(0xa0 + i)
	}
	return key
}

var testFile = [16]byte{0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff}

func newCipher(t testing.TB, alg Algorithm, kind GeometryKind, file [16]byte) *Cipher {
	t.Helper()
	g, err := GeometryFor(alg, kind)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCipher(alg, g, file, testKey())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Wipe)
	return c
}

// eachCipher runs f for every algorithm and geometry.
func eachCipher(t *testing.T, f func(t *testing.T, c *Cipher)) {
	for _, tt := range geometries {
		t.Run(fmt.Sprintf("algorithm %d, geometry %d", tt.alg, tt.kind), func(t *testing.T) {
			f(t, newCipher(t, tt.alg, tt.kind, testFile))
		})
	}
}

func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*131 + i>>8)
	}
	return b
}

func mustSeal(t testing.TB, c *Cipher, page []byte, index int64, epoch uint16, plain []byte, final bool) {
	t.Helper()
	if _, err := c.Seal(page, index, epoch, plain, final); err != nil {
		t.Fatal(err)
	}
}

// reference opens a page with nothing but the specification and the standard
// library, so that a mistake in both Seal and Open is seen.
func reference(t *testing.T, alg Algorithm, data int, page []byte, index int64, epoch uint16) (plain []byte, mark uint16) {
	t.Helper()
	info := binary.LittleEndian.AppendUint16(append([]byte("kmsfs v1 content"), byte(alg)), epoch)
	key, err := hkdf.Key(sha256.New, testKey(), testFile[:], string(info), 32)
	if err != nil {
		t.Fatal(err)
	}
	if epoch == 0 {
		key = testKey()
	}
	var aead cipher.AEAD
	nonceSize := 12
	if alg == XChaCha20Poly1305 {
		nonceSize = 24
		aead, err = chacha20poly1305.NewX(key)
	} else {
		block, berr := aes.NewCipher(key)
		if berr != nil {
			t.Fatal(berr)
		}
		aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	if index == 0 {
		at, data = 512, data-512
	}
	nonce := page[4096-nonceSize:]
	fields := page[4096-nonceSize-4 : 4096-nonceSize]
	mark = binary.LittleEndian.Uint16(fields)
	if e := binary.LittleEndian.Uint16(fields[2:]); e != epoch {
		t.Fatalf("epoch %d, want %d", e, epoch)
	}
	aad := append([]byte{1, byte(alg)}, testFile[:]...)
	aad = binary.LittleEndian.AppendUint16(aad, epoch)
	aad = binary.LittleEndian.AppendUint64(aad, uint64(index))
	aad = binary.LittleEndian.AppendUint16(aad, mark)
	plain, err = aead.Open(nil, nonce, page[at:at+data+16], aad)
	if err != nil {
		t.Fatal(err)
	}
	if gap := page[at+data+16 : 4096-nonceSize-4]; !bytes.Equal(gap, make([]byte, len(gap))) {
		t.Fatal("the bytes between tag and mark are not zero")
	}
	return plain, mark
}

func TestPages(t *testing.T) {
	eachCipher(t, func(t *testing.T, c *Cipher) {
		for _, index := range []int64{0, 1, 2, 1 << 32, 1<<48 - 1} {
			size := c.geom.DataIn(index)
			for _, n := range []int{0, 1, 15, 16, 17, 511, 512, 513, size - 1, size} {
				if n == 0 && index > 0 {
					continue
				}
				for _, final := range []bool{true, false} {
					if !final && n < size {
						continue
					}
					page := bytes.Repeat([]byte{0xee}, PageSize)
					mustSeal(t, c, page, index, 3, text(n), final)
					if index == 0 && !bytes.Equal(page[:HeaderSize], bytes.Repeat([]byte{0xee}, HeaderSize)) {
						t.Fatal("Seal touches the header")
					}
					plain, mark := reference(t, c.alg, c.geom.data, page, index, 3)
					if !bytes.Equal(plain[:n], text(n)) || !isZero(plain[n:]) || int(mark&0x7fff) != n || mark>>15 == 1 != final {
						t.Fatalf("page %d, %d bytes, final %v: mark %#x", index, n, final, mark)
					}

					dst := bytes.Repeat([]byte{0xdd}, size+1)
					before := bytes.Clone(page)
					got, isFinal, err := c.Open(dst, page, index, 3)
					if err != nil || got != n || isFinal != final || !bytes.Equal(dst[:n], text(n)) || !isZero(dst[n:size]) {
						t.Fatalf("page %d, %d bytes, final %v: opens as %d, %v: %v", index, n, final, got, isFinal, err)
					}
					if dst[size] != 0xdd || !bytes.Equal(page, before) {
						t.Fatal("Open writes where it should not")
					}

					// In place, both ways.
					data := c.geom.Data(page, index)
					got, isFinal, err = c.Open(data, page, index, 3)
					if err != nil || got != n || isFinal != final || !bytes.Equal(data[:n], text(n)) {
						t.Fatalf("page %d in place: %d, %v: %v", index, got, isFinal, err)
					}
					mustSeal(t, c, page, index, 3, data[:n], final)
					if plain, _ := reference(t, c.alg, c.geom.data, page, index, 3); !bytes.Equal(plain[:n], text(n)) || !isZero(plain[n:]) {
						t.Fatalf("page %d sealed in place opens otherwise", index)
					}
				}
			}
		}
	})
}

// A page is refused in any other place: another index, file or key epoch, and
// under a header that does not know its epoch yet.
func TestMovedPages(t *testing.T) {
	eachCipher(t, func(t *testing.T, c *Cipher) {
		otherID := testFile
		otherID[15] ^= 1
		other := newCipher(t, c.alg, GeometryKind(c.geom.Kind()), otherID)
		page, dst := make([]byte, PageSize), make([]byte, PageSize)
		fields := PageSize - c.nonceLen - fieldSize
		refuse := func(what string, c *Cipher, index int64, maxEpoch uint16) {
			t.Helper()
			if _, _, err := c.Open(dst, page, index, maxEpoch); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", what, err)
			}
		}
		mustSeal(t, c, page, 5, 2, text(c.geom.DataIn(5)), false)
		refuse("page 5 as page 4", c, 4, 2)
		refuse("page 5 as page 6", c, 6, 2)
		refuse("page 5 as page 0", c, 0, 2)
		refuse("page 5 as page 5+2^32", c, 5+1<<32, 2)
		refuse("another file", other, 5, 2)
		refuse("an epoch to come", c, 5, 1)
		if _, _, err := c.Open(dst, page, 5, 1<<16-1); err != nil {
			t.Errorf("an older epoch: %v", err)
		}
		for _, epoch := range []uint16{0, 1, 3} {
			binary.LittleEndian.PutUint16(page[fields+2:], epoch)
			refuse("another epoch in the page", c, 5, 9)
		}
		mustSeal(t, c, page, 0, 2, text(c.geom.DataIn(0)), false)
		refuse("page 0 as page 1", c, 1, 2)
		copy(page, bytes.Repeat([]byte{7}, HeaderSize)) // not the page's business
		if _, _, err := c.Open(dst, page, 0, 2); err != nil {
			t.Errorf("page 0 with another header: %v", err)
		}
	})
}

func TestEveryBitCounts(t *testing.T) {
	eachCipher(t, func(t *testing.T, c *Cipher) {
		dst := make([]byte, PageSize)
		for index := range int64(2) {
			page := make([]byte, PageSize)
			mustSeal(t, c, page, index, 1, text(100), true)
			for i := dataAt(index); i < PageSize; i++ {
				page[i] ^= 1 << (i % 8)
				if _, _, err := c.Open(dst, page, index, 1); !errors.Is(err, ErrCorrupt) {
					t.Fatalf("page %d, byte %d changed: %v", index, i, err)
				}
				page[i] ^= 1 << (i % 8)
			}
		}
	})
}

func TestMisuse(t *testing.T) {
	eachCipher(t, func(t *testing.T, c *Cipher) {
		page := make([]byte, PageSize)
		size := c.geom.DataIn(1)
		for _, tt := range []struct {
			page  []byte
			index int64
			n     int
			final bool
		}{
			{page[:4095], 1, size, false},
			{make([]byte, 4097), 1, size, false},
			{nil, 1, size, false},
			{page, -1, size, false},
			{page, 1, size + 1, true},
			{page, 0, c.geom.DataIn(0) + 1, true},
			{page, 1, size - 1, false},
			{page, 0, 0, false},
			{page, 1, 0, true},
		} {
			if _, err := c.Seal(tt.page, tt.index, 0, make([]byte, tt.n), tt.final); err == nil {
				t.Errorf("page %d, %d bytes, final %v is sealed", tt.index, tt.n, tt.final)
			}
		}
		for _, tt := range []struct {
			dst, page []byte
			index     int64
		}{
			{make([]byte, size-1), page, 1},
			{make([]byte, size), page[:4095], 1},
			{make([]byte, size), page, -1},
		} {
			if _, _, err := c.Open(tt.dst, tt.page, tt.index, 0); err == nil || err == ErrAbsent {
				t.Errorf("page %d of %d bytes is opened into %d: %v", tt.index, len(tt.page), len(tt.dst), err)
			}
		}
	})
	g, _ := GeometryFor(AES256GCM, Files)
	for _, n := range []int{0, 16, 31, 33, 64} {
		if _, err := NewCipher(AES256GCM, g, testFile, make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes is taken", n)
		}
	}
	if _, err := NewCipher(9, g, testFile, testKey()); err == nil {
		t.Error("an unknown algorithm is taken")
	}
	if _, err := NewCipher(AES256GCM, Geometry{}, testFile, testKey()); err == nil {
		t.Error("no geometry is taken")
	}
	if _, err := NewCipher(XChaCha20Poly1305, g, testFile, testKey()); err == nil {
		t.Error("the geometry of another algorithm is taken")
	}
}
