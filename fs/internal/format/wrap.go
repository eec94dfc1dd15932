package format

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"kmsfs.dev/kmsfs/internal/secret"
)

const (
	dataKeySize = 32
	wrapKeySize = 32 // AES-256

	// WrappedKeySize is the length of what WrapKey returns: nonce, key, tag.
	WrappedKeySize = 12 + dataKeySize + 16
)

// WrapKey seals a file's data key under the volume key, for volumes whose KMS
// key wraps only that: nonce | AES-256-GCM(key of the file, data key). The file
// ID, in that key and as associated data, keeps a wrapped key from serving
// another file.
func (s *Sealer) WrapKey(fileID [16]byte, dataKey []byte) ([]byte, error) {
	if len(dataKey) != dataKeySize {
		return nil, fmt.Errorf("format: data key of %d bytes, need %d", len(dataKey), dataKeySize)
	}
	var wrapped []byte
	err := s.withWrapAEAD(fileID, func(aead cipher.AEAD) {
		wrapped = aead.Seal(nil, nil, dataKey, ad(adWrap, fileID[:]))
	})
	return wrapped, err
}

// UnwrapKey is the inverse of WrapKey. The caller wipes the result.
func (s *Sealer) UnwrapKey(fileID [16]byte, wrapped []byte) ([]byte, error) {
	if len(wrapped) != WrappedKeySize {
		return nil, fmt.Errorf("wrapped data key: %w", ErrCorrupt)
	}
	var key []byte
	var openErr error
	err := s.withWrapAEAD(fileID, func(aead cipher.AEAD) {
		key, openErr = aead.Open(nil, nil, wrapped, ad(adWrap, fileID[:]))
	})
	if err != nil {
		return nil, err
	}
	if openErr != nil {
		return nil, fmt.Errorf("wrapped data key: %w", ErrCorrupt)
	}
	return key, nil
}

// withWrapAEAD calls f with the cipher that wraps data keys of one file, and
// wipes it. Each file has its own wrapping key, so that nobody has to count the
// random nonces: one key is good for 2^32 of them, and no file's data key is
// wrapped more than a few times.
func (s *Sealer) withWrapAEAD(fileID [16]byte, f func(cipher.AEAD)) error {
	wrap := s.wrap.Bytes()
	if wrap == nil { // HKDF would take it for an empty key
		panic("format: use of a Sealer after Wipe")
	}
	key, err := secret.HKDF(wrap, fileID[:], []byte(infoWrap), wrapKeySize)
	if err != nil {
		return err
	}
	defer key.Free()
	block, err := aes.NewCipher(key.Bytes())
	if err != nil {
		return fmt.Errorf("format: %w", err)
	}
	defer secret.WipeObject(block) // the AEAD has a copy
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return fmt.Errorf("format: %w", err)
	}
	defer secret.WipeObject(aead)
	f(aead)
	return nil
}
