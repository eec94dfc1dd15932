package content

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
)

// aadSize is: version u8 | algorithm u8 | file ID 16 | epoch u16 | index u64 |
// mark u16. A page moved to another place, file or epoch, or with another
// length, does not authenticate.
const aadSize = 1 + 1 + 16 + 2 + 8 + 2

// aadPool holds buffers for what would be on the stack if it did not pass
// through an interface. Nothing in it is secret.
var aadPool = sync.Pool{New: func() any { return new([aadSize]byte) }}

func readRandom(b []byte) {
	rand.Read(b) // never fails: the runtime crashes instead
}

// Seal encrypts plaintext into page, the 4096 bytes of the page at index. Only a
// final page may hold less than DataIn(index), and only page 0 may be final and
// empty. plaintext is page's data area (see Geometry.Data), cut to its length,
// or memory outside page. The header in page 0 is left alone.
//
// tick is true once in 2^24 calls, at random: it counts the pages sealed under
// an epoch's key without a counter. A key must not see 2^32 random nonces of 96
// bits (NIST SP 800-38D, 8.3), so whoever is told 128 times raises the epoch.
func (c *Cipher) Seal(page []byte, index int64, epoch uint16, plaintext []byte, final bool) (tick bool, err error) {
	n := c.geom.DataIn(index)
	if len(page) != PageSize || index < 0 || len(plaintext) > n ||
		!final && len(plaintext) < n || len(plaintext) == 0 && index > 0 {
		return false, fmt.Errorf("content: cannot seal %d bytes (final: %v) in the %d of page %d", len(plaintext), final, len(page), index)
	}
	mark := uint16(len(plaintext))
	if final {
		mark |= finalMark
	}
	at := dataAt(index)
	data := page[at : at+n]
	if len(plaintext) < n {
		copy(data, plaintext) // nothing to do when it is already there
		clear(data[len(plaintext):])
		plaintext = data
	}

	aead, err := c.rlockAEAD(epoch)
	if err != nil {
		return false, err
	}
	defer c.mu.RUnlock()
	clear(page[at+n+tagSize : PageSize-c.nonceLen-fieldSize])
	nonce := page[PageSize-c.nonceLen:]
	// A random nonce, new for each version of a page: nothing about the order of
	// writes has to survive a crash or a restored backup.
	c.random(nonce)
	aad := aadPool.Get().(*[aadSize]byte)
	c.fillAAD(aad, index, epoch, mark)
	aead.Seal(page[at:at:at+n+tagSize], nonce, plaintext, aad[:])
	aadPool.Put(aad)
	binary.LittleEndian.PutUint16(page[PageSize-c.nonceLen-4:], mark)
	binary.LittleEndian.PutUint16(page[PageSize-c.nonceLen-2:], epoch)
	return c.isTick(nonce), nil
}

// Open decrypts the 4096 bytes of the page at index into dst, which holds at
// least DataIn(index) bytes and is page's data area or memory outside page. It
// returns how many bytes the page uses; those after them are zeros. On an error
// dst holds no plaintext.
//
// It refuses what no writer seals, and pages of an epoch after maxEpoch, the
// one in the file's header.
func (c *Cipher) Open(dst, page []byte, index int64, maxEpoch uint16) (n int, final bool, err error) {
	size := c.geom.DataIn(index)
	if len(page) != PageSize || index < 0 || len(dst) < size {
		return 0, false, fmt.Errorf("content: cannot open %d bytes of page %d into %d", len(page), index, len(dst))
	}
	at := dataAt(index)
	fields := PageSize - c.nonceLen - fieldSize
	mark := binary.LittleEndian.Uint16(page[fields:])
	epoch := binary.LittleEndian.Uint16(page[fields+2:])
	if mark == 0 { // no writer's: an empty page is final
		if isZero(page[at:]) {
			return 0, false, ErrAbsent
		}
		return 0, false, ErrCorrupt
	}
	n, final = int(mark&^finalMark), mark&finalMark != 0
	if n > size || !final && n < size || n == 0 && index > 0 || epoch > maxEpoch ||
		!isZero(page[at+size+tagSize:fields]) {
		return 0, false, ErrCorrupt
	}

	aead, err := c.rlockAEAD(epoch)
	if err != nil {
		return 0, false, err
	}
	defer c.mu.RUnlock()
	aad := aadPool.Get().(*[aadSize]byte)
	c.fillAAD(aad, index, epoch, mark)
	_, err = aead.Open(dst[:0:size], page[PageSize-c.nonceLen:], page[at:at+size+tagSize], aad[:])
	aadPool.Put(aad)
	if err != nil {
		return 0, false, ErrCorrupt
	}
	if !isZero(dst[n:size]) {
		clear(dst[:size])
		return 0, false, ErrCorrupt
	}
	return n, final, nil
}

func (c *Cipher) fillAAD(aad *[aadSize]byte, index int64, epoch, mark uint16) {
	aad[0] = formatVersion
	aad[1] = byte(c.alg)
	copy(aad[2:], c.fileID[:])
	binary.LittleEndian.PutUint16(aad[18:], epoch)
	binary.LittleEndian.PutUint64(aad[20:], uint64(index))
	binary.LittleEndian.PutUint16(aad[28:], mark)
}

func (c *Cipher) isTick(nonce []byte) bool {
	low := uint32(nonce[0]) | uint32(nonce[1])<<8 | uint32(nonce[2])<<16
	return low&c.tickMask == 0
}

func isZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
