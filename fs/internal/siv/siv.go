// Package siv is AES-256-SIV (RFC 5297) with one associated-data component, as
// file names, metadata records and locally wrapped keys are sealed: it needs no
// nonce, so that the same name always has the same ciphertext, and a repeated
// input reveals only that it is repeated.
//
// It is written out here because libraries expand the encryption key anew in
// each call and leave the schedule, whose first bytes are the key, on the heap:
// after a thousand names there were two thousand copies of it. The tests compare
// every result with tink's, and with the vectors of the RFCs.
package siv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"kmsfs.dev/kmsfs/internal/secret"
)

const (
	KeySize  = 64 // a 256-bit MAC key, then a 256-bit encryption key
	Overhead = 16 // the synthetic IV, which precedes the ciphertext
)

// ErrOpen is the failure of authentication; it says no more on purpose.
var ErrOpen = errors.New("siv: message does not authenticate")

type block = [aes.BlockSize]byte

// Cipher seals under one key. It is safe for concurrent use until Wipe.
type Cipher struct {
	mac, enc   cipher.Block // expanded once, wiped by Wipe
	sub1, sub2 block        // of CMAC (RFC 4493)
	macZero    block        // CMAC of a block of zeros, with which S2V begins
}

// New copies key, which stays the caller's to wipe.
func New(key []byte) (*Cipher, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("siv: key of %d bytes, need %d", len(key), KeySize)
	}
	return newCipher(key)
}

// newCipher also takes the 32 bytes of AES-128-SIV, which the vectors of the
// RFC are for.
func newCipher(key []byte) (*Cipher, error) {
	mac, err := aes.NewCipher(key[:len(key)/2])
	if err != nil {
		return nil, fmt.Errorf("siv: %w", err)
	}
	enc, err := aes.NewCipher(key[len(key)/2:])
	if err != nil {
		return nil, fmt.Errorf("siv: %w", err)
	}
	c := &Cipher{mac: mac, enc: enc}
	c.mac.Encrypt(c.sub1[:], c.sub1[:])
	double(&c.sub1)
	c.sub2 = c.sub1
	double(&c.sub2)
	c.cmac(&c.macZero, make([]byte, aes.BlockSize), nil)
	return c, nil
}

// Wipe erases the key. The cipher must not be in use, nor be used again.
func (c *Cipher) Wipe() {
	secret.WipeObject(c)
}

// Seal returns IV and ciphertext, Overhead bytes longer than plaintext.
func (c *Cipher) Seal(ad, plaintext []byte) []byte {
	out := make([]byte, Overhead+len(plaintext))
	iv := (*block)(out)
	c.s2v(iv, ad, plaintext)
	c.xorKeyStream(out[Overhead:], plaintext, iv)
	return out
}

// Open returns the plaintext of what Seal returned for the same ad, or ErrOpen.
func (c *Cipher) Open(ad, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, ErrOpen
	}
	iv := (*block)(sealed)
	out := make([]byte, len(sealed)-Overhead)
	c.xorKeyStream(out, sealed[Overhead:], iv)
	want := new(block)
	c.s2v(want, ad, out)
	if subtle.ConstantTimeCompare(want[:], iv[:]) != 1 {
		secret.Wipe(out)
		return nil, ErrOpen
	}
	return out, nil
}

// s2v sets iv to S2V(ad, plaintext), RFC 5297, section 2.4.
func (c *Cipher) s2v(iv *block, ad, plaintext []byte) {
	d, adMAC := new(block), new(block)
	*d = c.macZero
	double(d)
	c.cmac(adMAC, ad, nil)
	xor(d, adMAC[:])
	if len(plaintext) >= aes.BlockSize {
		c.cmac(iv, plaintext, d) // of the plaintext with d xored onto its end
		return
	}
	double(d)
	xor(d, plaintext)
	d[len(plaintext)] ^= 0x80
	c.cmac(iv, d[:], nil)
}

// cmac sets out to AES-CMAC(msg), RFC 4493. If end is not nil it is xored onto
// the last 16 bytes of msg, which has as many, without a copy of msg.
func (c *Cipher) cmac(out *block, msg []byte, end *block) {
	endAt := len(msg) - aes.BlockSize // where end begins
	*out = block{}
	at := 0
	for ; len(msg)-at > aes.BlockSize; at += aes.BlockSize {
		xor(out, msg[at:at+aes.BlockSize])
		if end != nil && at+aes.BlockSize > endAt {
			xorAt(out, endAt-at, end[:])
		}
		c.mac.Encrypt(out[:], out[:])
	}
	last := msg[at:]
	xor(out, last)
	if end != nil {
		xor(out, end[at-endAt:])
	}
	if len(last) == aes.BlockSize {
		xor(out, c.sub1[:])
	} else {
		out[len(last)] ^= 0x80
		xor(out, c.sub2[:])
	}
	c.mac.Encrypt(out[:], out[:])
}

// xorKeyStream is AES-CTR from iv with two bits cleared, RFC 5297, section 2.5.
// They let the counter be 64 bits wide: it cannot overflow from there.
func (c *Cipher) xorKeyStream(dst, src []byte, iv *block) {
	ctr, stream := new(block), new(block)
	defer clear(stream[:]) // tells a plaintext whose ciphertext is known
	*ctr = *iv
	ctr[8] &= 0x7f
	ctr[12] &= 0x7f
	low := binary.BigEndian.Uint64(ctr[8:])
	for len(src) > 0 {
		c.enc.Encrypt(stream[:], ctr[:])
		n := subtle.XORBytes(dst, src, stream[:])
		dst, src = dst[n:], src[n:]
		low++
		binary.BigEndian.PutUint64(ctr[8:], low)
	}
}

// double multiplies by x in GF(2^128), in constant time.
func double(b *block) {
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	carry := hi >> 63
	binary.BigEndian.PutUint64(b[:8], hi<<1|lo>>63)
	binary.BigEndian.PutUint64(b[8:], lo<<1^carry*0x87)
}

// xor xors b, at most a block, onto the start of a.
func xor(a *block, b []byte) {
	subtle.XORBytes(a[:], a[:], b)
}

// xorAt xors as much of b as fits onto a from an offset on.
func xorAt(a *block, at int, b []byte) {
	subtle.XORBytes(a[at:], a[at:], b)
}
