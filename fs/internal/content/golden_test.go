package content

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write goldens instead of comparing with them")

// Goldens hold pages of the first released format. They must open for ever.
func TestGoldenPages(t *testing.T) {
	for _, tt := range geometries {
		for index := range int64(2) {
			name := filepath.Join("testdata", fmt.Sprintf("page%d-alg%d-geom%d.golden", index, tt.alg, tt.kind))
			c := newCipher(t, tt.alg, tt.kind, testFile)
			c.random = func(b []byte) {
				for i := range b {
					b[i] = byte(0x30 + i)
				}
			}
			plain, final := text(c.geom.DataIn(index)), false
			if index == 1 {
				plain, final = text(1000), true
			}
			page := make([]byte, PageSize)
			mustSeal(t, c, page, index, 0x0102, plain, final)
			if *update {
				if err := os.WriteFile(name, page, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(page, want) {
				t.Errorf("%s: the page is sealed otherwise now", name)
			}
			dst := make([]byte, PageSize)
			n, isFinal, err := c.Open(dst, want, index, 0x0102)
			if err != nil || isFinal != final || !bytes.Equal(dst[:n], plain) {
				t.Errorf("%s opens as %d bytes, final %v: %v", name, n, isFinal, err)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	for i, tt := range geometries {
		c := newCipher(f, tt.alg, tt.kind, testFile)
		for index := range int64(2) {
			page := make([]byte, PageSize)
			mustSeal(f, c, page, index, 1, text(c.geom.DataIn(index)), false)
			f.Add(uint8(i), page, index, uint16(1))
			mustSeal(f, c, page, index, 0, text(7), true)
			f.Add(uint8(i), bytes.Clone(page), index, uint16(0))
			f.Add(uint8(i), make([]byte, PageSize), index, uint16(0))
		}
	}
	f.Add(uint8(0), []byte{}, int64(-1), uint16(0))
	f.Fuzz(func(t *testing.T, which uint8, page []byte, index int64, maxEpoch uint16) {
		tt := geometries[int(which)%len(geometries)]
		c := newCipher(t, tt.alg, tt.kind, testFile)
		dst := make([]byte, PageSize)
		n, final, err := c.Open(dst, page, index, maxEpoch)
		if err != nil {
			return
		}
		// What opens is what Seal makes, given the nonce.
		nonce := bytes.Clone(page[PageSize-c.nonceLen:])
		c.random = func(b []byte) { copy(b, nonce) }
		epoch := binary.LittleEndian.Uint16(page[PageSize-c.nonceLen-2:])
		again := bytes.Clone(page)
		clear(again[dataAt(index):])
		mustSeal(t, c, again, index, epoch, dst[:n], final)
		if !bytes.Equal(again, page) {
			t.Fatal("a page opens that Seal does not make")
		}
	})
}
