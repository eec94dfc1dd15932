// Package blob is CiphertextBlob v1: how the key service wraps a data key or
// another short plaintext under a KMS key.
//
//	offset size
//	 0      1   version, 1
//	 1     16   key id: the bytes of the KMS key's UUID, the same in every region
//	17     16   key-material id: the first half of the material's 32-byte id
//	33     32   salt, random
//	65     32   key commitment
//	97   1..4096 ciphertext, AES-256-GCM
//	...    16   tag
//
// A 32-byte data key makes a blob of 145 bytes.
//
// The encryption key and the commitment are the two halves of
// HKDF-SHA256(material, salt, "kmsfs CiphertextBlob v1", 64). The salt is 256
// random bits and used once, so each blob has a key of its own: the nonce is
// zero and the number of blobs under one KMS key has no practical limit.
// The commitment makes a blob open under one key only: AES-GCM alone lets one
// ciphertext be valid under two keys that its maker chose.
//
// The associated data are the first 65 bytes and then the encryption context,
// its pairs sorted by key, each key and value preceded by its length. The
// header has a fixed length, so the encoding as a whole is injective:
// {"ab":"c"} and {"a":"bc"} differ.
package blob

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const (
	version1  = kmsapi.BlobVersion
	saltAt    = kmsapi.BlobRefLen
	saltLen   = 32
	headerLen = saltAt + saltLen
	commitLen = 32
	fixedLen  = headerLen + commitLen
	tagLen    = 16
	info      = "kmsfs CiphertextBlob v1"

	// MaxPlaintext is AWS's limit of what Encrypt takes.
	MaxPlaintext = 4096
	// MinLen and MaxLen bound what Seal makes: it wraps no empty plaintext.
	MinLen = fixedLen + 1 + tagLen
	MaxLen = fixedLen + MaxPlaintext + tagLen
	// MaterialLen is the length of a KMS key's material.
	MaterialLen = 32
)

// ErrInvalid is every way in which a blob does not open. It does not say which:
// a caller who could tell a forged tag from a wrong context would have an oracle.
var ErrInvalid = errors.New("blob: ciphertext, key or encryption context is wrong")

// Ref says which key material a blob is wrapped under.
type Ref = kmsapi.BlobRef

// Parse returns the key and the material that b names. Nothing of it is
// authenticated before Open.
func Parse(b []byte) (Ref, error) {
	r, ok := kmsapi.ParseBlob(b)
	if !ok || len(b) < MinLen || len(b) > MaxLen {
		return Ref{}, ErrInvalid
	}
	return r, nil
}

// Seal wraps plaintext (1 to MaxPlaintext bytes) under material.
func Seal(ref Ref, material, plaintext []byte, context map[string]string) ([]byte, error) {
	var salt [saltLen]byte
	rand.Read(salt[:]) // never fails: crypto/rand aborts the process instead
	return seal(ref, material, plaintext, context, salt)
}

func seal(ref Ref, material, plaintext []byte, context map[string]string, salt [saltLen]byte) ([]byte, error) {
	if len(plaintext) < 1 || len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("blob: plaintext of %d bytes: 1 to %d", len(plaintext), MaxPlaintext)
	}
	out := make([]byte, fixedLen, fixedLen+len(plaintext)+tagLen)
	out[0] = version1
	copy(out[1:], ref.KeyID[:])
	copy(out[17:], ref.MaterialID[:])
	copy(out[saltAt:], salt[:])
	err := withKeys(material, salt[:], func(aead cipher.AEAD, commitment []byte) error {
		copy(out[headerLen:], commitment)
		ad := associatedData(out[:headerLen], context)
		defer recycle(ad)
		out = aead.Seal(out, zeroNonce[:], plaintext, *ad)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Open returns the plaintext of b in locked memory, which the caller frees.
func Open(b, material []byte, context map[string]string) (*secret.Buffer, error) {
	if _, err := Parse(b); err != nil {
		return nil, err
	}
	buf, err := secret.New(len(b) - fixedLen - tagLen)
	if err != nil {
		return nil, err
	}
	err = withKeys(material, b[saltAt:headerLen], func(aead cipher.AEAD, commitment []byte) error {
		// Both checks run whatever the first one says, so that time does not
		// tell a wrong commitment from a wrong tag.
		committed := subtle.ConstantTimeCompare(commitment, b[headerLen:fixedLen])
		ad := associatedData(b[:headerLen], context)
		defer recycle(ad)
		_, err := aead.Open(buf.Bytes()[:0], zeroNonce[:], b[fixedLen:], *ad)
		if err != nil || committed != 1 {
			return ErrInvalid
		}
		return nil
	})
	if err != nil {
		buf.Free()
		return nil, err
	}
	return buf, nil
}

// zeroNonce is enough: a key is derived from a fresh random salt for each blob
// and seals one message.
var zeroNonce [12]byte

// withKeys derives a blob's key and commitment and erases them after use.
func withKeys(material, salt []byte, use func(cipher.AEAD, []byte) error) error {
	okm, err := derive(material, salt)
	if err != nil {
		return err
	}
	defer okm.Free()
	block, err := aes.NewCipher(okm.Bytes()[:32])
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	defer secret.WipeObject(block) // the expanded key lives on the heap
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	defer secret.WipeObject(aead)
	return use(aead, okm.Bytes()[32:okmLen])
}

// buffers are for associated data, one after the other.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func recycle(ad *[]byte) {
	if cap(*ad) <= 4<<10 {
		buffers.Put(ad)
	}
}

// associatedData appends the injective encoding of context to header.
func associatedData(header []byte, context map[string]string) *[]byte {
	p := buffers.Get().(*[]byte)
	ad := append((*p)[:0], header...)
	var room [8]string // for as many as most contexts have
	names := slices.AppendSeq(room[:0], maps.Keys(context))
	slices.Sort(names)
	for _, k := range names {
		ad = binary.LittleEndian.AppendUint32(ad, uint32(len(k)))
		ad = append(ad, k...)
		v := context[k]
		ad = binary.LittleEndian.AppendUint32(ad, uint32(len(v)))
		ad = append(ad, v...)
	}
	*p = ad
	return p
}
