// Package seal protects what the key service stores: each record under the root
// key, and the root key under a key file or a passphrase.
package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"

	"kmsfs.dev/kmsfs/internal/secret"
)

// KeyLen is the length of the root key and of what it is wrapped under.
const KeyLen = chacha20poly1305.KeySize

// ErrRecord is a record that was edited, moved, or sealed under another key.
var ErrRecord = errors.New("the record was changed or was sealed under another root key")

// What begins the associated data of a record; its name follows and is the rest,
// so that no two names share an encoding.
const (
	recordAD = "kmsfs keysvc record v2\x00"
	// legacyAD is of records from before stores had a manifest. They are read
	// for ever and never written: who drops the manifest from a store, so that
	// it looks like one of that time, would have to drop all newer records too.
	legacyAD = "kmsfs keysvc record v1\x00"
)

// digestInfo derives the key of Digest from the root key.
const digestInfo = "kmsfs keysvc record digest v1"

// Records seals records under the root key. The names are stored in the clear.
type Records struct {
	root *secret.Buffer

	mu     sync.Mutex // guards digest
	digest hash.Hash  // HMAC-SHA256 under a key of its own
}

// NewRecords takes root over; Close frees it.
func NewRecords(root *secret.Buffer) (*Records, error) {
	key, err := secret.HKDF(root.Bytes(), nil, []byte(digestInfo), sha256.Size)
	if err != nil {
		root.Free()
		return nil, err
	}
	defer key.Free()
	return &Records{root: root, digest: hmac.New(sha256.New, key.Bytes())}, nil
}

// Seal encrypts value as the record called name.
func (r *Records) Seal(name string, value []byte) ([]byte, error) {
	return sealUnder(r.root.Bytes(), recordAD+name, value)
}

// Open appends the value of the record called name to dst.
func (r *Records) Open(dst []byte, name string, sealed []byte) ([]byte, error) {
	v, err := openUnder(dst, r.root.Bytes(), recordAD+name, sealed)
	if err != nil {
		v, err = openUnder(dst, r.root.Bytes(), legacyAD+name, sealed)
	}
	if err != nil {
		return nil, ErrRecord
	}
	return v, nil
}

// Check tells whether Open opens a record, for who does not want its value, and
// whether it is one from before stores had a manifest.
func (r *Records) Check(name string, sealed []byte) (authentic, legacy bool, err error) {
	buf, err := secret.New(len(sealed) + 1) // it may be key material
	if err != nil {
		return false, false, err
	}
	defer buf.Free()
	if _, err := openUnder(buf.Bytes()[:0], r.root.Bytes(), recordAD+name, sealed); err == nil {
		return true, false, nil
	}
	if _, err := openUnder(buf.Bytes()[:0], r.root.Bytes(), legacyAD+name, sealed); err == nil {
		return true, true, nil
	}
	return false, false, nil
}

// Digest is a keyed digest of a record as it is stored. Nobody without the root
// key can tell anything about digests, whatever records he has seen.
func (r *Records) Digest(name string, sealed []byte) (sum [sha256.Size]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.digest.Reset()
	// The length keeps the end of a name apart from the record's beginning.
	r.digest.Write(binary.AppendUvarint(nil, uint64(len(name))))
	r.digest.Write([]byte(name))
	r.digest.Write(sealed)
	r.digest.Sum(sum[:0])
	return sum
}

// Close wipes the root key.
func (r *Records) Close() {
	r.root.Free()
	secret.WipeObject(r.digest)
}

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
