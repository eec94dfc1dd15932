package content

import (
	"crypto/rand"
	"fmt"
	"testing"
)

func BenchmarkPage(b *testing.B) {
	for _, alg := range []Algorithm{AES256GCM, XChaCha20Poly1305} {
		g, err := GeometryFor(alg, Files)
		if err != nil {
			b.Fatal(err)
		}
		c, err := NewCipher(alg, g, [16]byte{1}, make([]byte, DataKeySize))
		if err != nil {
			b.Fatal(err)
		}
		plain := make([]byte, g.DataIn(1))
		dst := make([]byte, g.DataIn(1))
		page := make([]byte, PageSize)
		b.Run(fmt.Sprintf("Seal/%d", alg), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Seal(page, 1, 0, plain, false); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("Open/%d", alg), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.Open(dst, page, 1, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNonce(b *testing.B) {
	nonce := make([]byte, 12)
	for b.Loop() {
		rand.Read(nonce)
	}
}

func BenchmarkNewCipher(b *testing.B) {
	g, err := GeometryFor(AES256GCM, Files)
	if err != nil {
		b.Fatal(err)
	}
	key, page := make([]byte, DataKeySize), make([]byte, PageSize)
	for b.Loop() {
		c, err := NewCipher(AES256GCM, g, [16]byte{1}, key)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Seal(page, 0, 0, nil, true); err != nil {
			b.Fatal(err)
		}
		c.Wipe()
	}
}
