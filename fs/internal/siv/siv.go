// Package siv is AES-256-SIV (RFC 5297) with one associated-data component, as
// file names, metadata records and extended attributes are sealed: it needs no
// nonce, so that the same name always has the same ciphertext, and a repeated
// input reveals only that it is repeated.
//
// The cipher is tink's. It keeps the key schedule of its MAC on the Go heap,
// and each call leaves there one of its encryption key, which nobody wipes: a
// schedule begins with the key. The heap of a process that has a volume mounted
// thus holds copies of its names, records and xattrs keys, which are in memory as
// long as the mount anyway. Data keys, which are to be gone when their file is
// closed, are not wrapped with this package.
package siv

import (
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"

	"kmsfs.dev/kmsfs/internal/secret"
)

const (
	KeySize  = 64 // a 256-bit MAC key, then a 256-bit encryption key
	Overhead = 16 // the synthetic IV, which precedes the ciphertext
)

// ErrOpen is the failure of authentication; it says no more on purpose.
var ErrOpen = errors.New("siv: message does not authenticate")

// Cipher seals under one key. It is safe for concurrent use until Wipe.
type Cipher struct {
	key *secret.Buffer // the library keeps slices of it, not copies
	siv *subtle.AESSIV
}

// New copies key, which stays the caller's to wipe.
func New(key []byte) (*Cipher, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("siv: key of %d bytes, need %d", len(key), KeySize)
	}
	buf, err := secret.New(KeySize)
	if err != nil {
		return nil, err
	}
	copy(buf.Bytes(), key)
	c, err := subtle.NewAESSIV(buf.Bytes())
	if err != nil {
		buf.Free()
		return nil, fmt.Errorf("siv: %w", err)
	}
	return &Cipher{key: buf, siv: c}, nil
}

// Seal returns IV and ciphertext, Overhead bytes longer than plaintext.
func (c *Cipher) Seal(ad, plaintext []byte) []byte {
	out, err := c.siv.EncryptDeterministically(plaintext, ad)
	if err != nil { // the key's length is right and no plaintext that long exists
		panic("siv: " + err.Error())
	}
	return out
}

// Open returns the plaintext of what Seal returned for the same ad, or ErrOpen.
func (c *Cipher) Open(ad, sealed []byte) ([]byte, error) {
	out, err := c.siv.DecryptDeterministically(sealed, ad)
	if err != nil {
		return nil, ErrOpen
	}
	return out, nil
}

// Wipe erases the key. The cipher must not be in use; a later use panics.
func (c *Cipher) Wipe() {
	if c == nil {
		return
	}
	secret.WipeObject(c.siv)
	c.key.Free()
}
