package content

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"

	"kmsfs.dev/kmsfs/internal/secret"
)

// DataKeySize is the length of a file's data key.
const DataKeySize = 32

var (
	// ErrAbsent is a page of zeros (page 0: after the header): one that was
	// never written, or a hole.
	ErrAbsent = errors.New("page is absent")
	// ErrCorrupt is a page that this file's writers did not seal at this index.
	ErrCorrupt = errors.New("page does not authenticate")
	// ErrWiped is the use of a cipher after Wipe.
	ErrWiped = errors.New("content: the data key was wiped")
)

const (
	formatVersion = 1

	// maxAEADs bounds the page keys one file keeps expanded. A file has pages of
	// more than two epochs only when it was rewritten in part, 2^31 times over.
	maxAEADs = 8

	defaultTickBits = 24
)

// Cipher seals and opens the pages of one file. It is safe for concurrent use.
type Cipher struct {
	alg      Algorithm
	geom     Geometry
	fileID   [16]byte
	nonceLen int
	tickMask uint32

	// mu is held for reading while a page is sealed or opened, so that Wipe
	// waits for them: no page must be sealed under a half-wiped key.
	mu    sync.RWMutex
	key   *secret.Buffer // the data key; nil after Wipe
	aeads []epochAEAD    // at most maxAEADs

	// random fills nonces; tests replace it.
	random func([]byte)
}

// epochAEAD is the page key of one epoch, expanded.
type epochAEAD struct {
	epoch uint16
	aead  cipher.AEAD
}

// NewCipher copies dataKey, DataKeySize bytes, which stays the caller's to wipe.
func NewCipher(alg Algorithm, geom Geometry, fileID [16]byte, dataKey []byte) (*Cipher, error) {
	if alg != AES256GCM && alg != XChaCha20Poly1305 {
		return nil, fmt.Errorf("content: unknown algorithm %d", alg)
	}
	if geom.data < HeaderSize || geom.data > PageSize-tagSize-fieldSize-alg.nonceSize() {
		return nil, fmt.Errorf("content: geometry with %d bytes of data is not of algorithm %d", geom.data, alg)
	}
	if len(dataKey) != DataKeySize {
		return nil, fmt.Errorf("content: data key of %d bytes, need %d", len(dataKey), DataKeySize)
	}
	key, err := secret.New(DataKeySize)
	if err != nil {
		return nil, err
	}
	copy(key.Bytes(), dataKey)
	c := &Cipher{alg: alg, geom: geom, fileID: fileID, nonceLen: alg.nonceSize(), key: key, random: readRandom}
	c.SetTickBits(defaultTickBits)
	return c, nil
}

// SetTickBits makes Seal tick once in 2^bits pages instead of 2^24: tests of
// the write count cannot wait for that. Call it before the first Seal.
func (c *Cipher) SetTickBits(bits int) {
	c.tickMask = 1<<min(max(bits, 0), defaultTickBits) - 1
}

// Wipe erases the data key and every page key. It waits for pages in flight;
// later ones fail with ErrWiped.
func (c *Cipher) Wipe() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.aeads {
		secret.WipeObject(a.aead)
	}
	c.aeads = nil
	c.key.Free()
	c.key = nil
}

// rlockAEAD returns the AEAD of an epoch with c.mu held for reading.
func (c *Cipher) rlockAEAD(epoch uint16) (cipher.AEAD, error) {
	for {
		c.mu.RLock()
		for i := range c.aeads {
			if c.aeads[i].epoch == epoch {
				return c.aeads[i].aead, nil
			}
		}
		c.mu.RUnlock()
		if err := c.expand(epoch); err != nil {
			return nil, err
		}
	}
}

// expand derives the page key of an epoch and remembers its AEAD.
func (c *Cipher) expand(epoch uint16) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key == nil {
		return ErrWiped
	}
	for i := range c.aeads {
		if c.aeads[i].epoch == epoch {
			return nil
		}
	}
	aead, err := c.epochAEAD(epoch)
	if err != nil {
		return err
	}
	if len(c.aeads) == maxAEADs {
		secret.WipeObject(c.aeads[0].aead)
		c.aeads = append(c.aeads[:0], c.aeads[1:]...)
	}
	c.aeads = append(c.aeads, epochAEAD{epoch, aead})
	return nil
}

// epochAEAD makes the AEAD of an epoch. The first epoch's key is the data key
// itself, which is random and the file's own; the later ones, which hardly any
// file lives to see, are derived from it.
func (c *Cipher) epochAEAD(epoch uint16) (cipher.AEAD, error) {
	if epoch == 0 {
		return newAEAD(c.alg, c.key.Bytes())
	}
	info := append(make([]byte, 0, 32), "kmsfs v1 content"...)
	info = append(info, byte(c.alg))
	info = binary.LittleEndian.AppendUint16(info, epoch)
	key, err := secret.HKDF(c.key.Bytes(), c.fileID[:], info, 32)
	if err != nil {
		return nil, err
	}
	defer key.Free()
	return newAEAD(c.alg, key.Bytes())
}

func newAEAD(alg Algorithm, key []byte) (cipher.AEAD, error) {
	if alg == XChaCha20Poly1305 {
		return chacha20poly1305.NewX(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	defer secret.WipeObject(block) // NewGCM copies it
	return cipher.NewGCM(block)
}
