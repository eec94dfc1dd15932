// Package seal protects what the key service stores: each record under the root
// key, and the root key under a key file or a passphrase.
package seal

import (
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"kmsfs.dev/kmsfs/internal/secret"
)

// KeyLen is the length of the root key and of what it is wrapped under.
const KeyLen = chacha20poly1305.KeySize

// ErrRecord is a record that was edited, moved, or sealed under another key.
var ErrRecord = errors.New("the record was changed or was sealed under another root key")

// recordAD begins the associated data of a record; its name follows and is the
// rest, so that no two names share an encoding.
const recordAD = "kmsfs keysvc record v1\x00"

// Records seals records under the root key. The names are stored in the clear.
type Records struct {
	root *secret.Buffer
}

// NewRecords takes root over; Close frees it.
func NewRecords(root *secret.Buffer) *Records { return &Records{root: root} }

// Seal encrypts value as the record called name.
func (r *Records) Seal(name string, value []byte) ([]byte, error) {
	return sealUnder(r.root.Bytes(), recordAD+name, value)
}

// Open appends the value of the record called name to dst.
func (r *Records) Open(dst []byte, name string, sealed []byte) ([]byte, error) {
	v, err := openUnder(dst, r.root.Bytes(), recordAD+name, sealed)
	if err != nil {
		return nil, ErrRecord
	}
	return v, nil
}

// Close wipes the root key.
func (r *Records) Close() { r.root.Free() }

// sealUnder is XChaCha20-Poly1305: its 192-bit nonces may be random for any
// number of records under one key. The cipher's copy of the key is wiped.
func sealUnder(key []byte, ad string, plaintext []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer secret.WipeObject(aead)
	out := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plaintext)+aead.Overhead())
	rand.Read(out)
	return aead.Seal(out, out, plaintext, []byte(ad)), nil
}

func openUnder(dst, key []byte, ad string, sealed []byte) ([]byte, error) {
	if len(sealed) < chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead {
		return nil, ErrRecord
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer secret.WipeObject(aead)
	nonce, ct := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	return aead.Open(dst, nonce, ct, []byte(ad))
}
