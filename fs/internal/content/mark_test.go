package content

import (
	"encoding/binary"
	"errors"
	"testing"
)

// sealRaw seals any mark and plaintext, as no writer does but whoever has the
// data key could.
func sealRaw(t *testing.T, c *Cipher, page []byte, index int64, mark uint16, plain []byte) {
	t.Helper()
	clear(page)
	at := dataAt(index)
	nonce := page[PageSize-c.nonceLen:]
	c.random(nonce)
	aead, err := c.rlockAEAD(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.mu.RUnlock()
	var aad [aadSize]byte
	c.fillAAD(&aad, index, 0, mark)
	aead.Seal(page[at:at:at+len(plain)+tagSize], nonce, plain, aad[:])
	binary.LittleEndian.PutUint16(page[PageSize-c.nonceLen-4:], mark)
}

func TestMarksNoWriterMakes(t *testing.T) {
	eachCipher(t, func(t *testing.T, c *Cipher) {
		page, dst := make([]byte, PageSize), make([]byte, PageSize)
		for _, index := range []int64{0, 1, 9} {
			size := uint16(c.geom.DataIn(index))
			zeros := make([]byte, size)
			for mark, ok := range map[uint16]bool{
				size: true, size | 0x8000: true, 1 | 0x8000: true, (size - 1) | 0x8000: true,
				0x8000: index == 0, // an empty final page is page 0's only
				0:      false, 1: false, size - 1: false,
				size + 1: false, (size + 1) | 0x8000: false, 0x7fff: false, 0xffff: false, 0x4000: false,
			} {
				sealRaw(t, c, page, index, mark, zeros)
				n, final, err := c.Open(dst, page, index, 0)
				if ok && (err != nil || n != int(mark&0x7fff) || final != (mark>>15 == 1)) {
					t.Errorf("page %d, mark %#x: %d, %v: %v", index, mark, n, final, err)
				}
				if !ok && !errors.Is(err, ErrCorrupt) {
					t.Errorf("page %d, mark %#x is accepted: %v", index, mark, err)
				}
			}
			// Bytes after the end must be zero.
			tail := make([]byte, size)
			tail[size-1] = 1
			sealRaw(t, c, page, index, 10|0x8000, tail)
			for i := range dst {
				dst[i] = 0xdd
			}
			if _, _, err := c.Open(dst, page, index, 0); !errors.Is(err, ErrCorrupt) {
				t.Errorf("page %d with a tail is accepted: %v", index, err)
			}
			if !isZero(dst[:size]) {
				t.Error("plaintext is left in dst after an error")
			}
		}
	})
}

func TestAbsent(t *testing.T) {
	eachCipher(t, func(t *testing.T, c *Cipher) {
		page, dst := make([]byte, PageSize), make([]byte, PageSize)
		for _, index := range []int64{0, 1, 1 << 40} {
			if _, _, err := c.Open(dst, page, index, 0); err != ErrAbsent {
				t.Errorf("page %d of zeros: %v", index, err)
			}
		}
		page[0] = 1
		if _, _, err := c.Open(dst, page, 0, 0); err != ErrAbsent {
			t.Errorf("page 0 of zeros with a header: %v", err)
		}
		if _, _, err := c.Open(dst, page, 1, 0); err != ErrCorrupt {
			t.Errorf("page 1 of zeros but one: %v", err)
		}
		for i := HeaderSize; i < PageSize; i++ {
			clear(page)
			page[i] = 0x10
			if _, _, err := c.Open(dst, page, 0, 0xffff); err != ErrCorrupt {
				t.Fatalf("page 0 of zeros but byte %d: %v", i, err)
			}
		}
	})
}
