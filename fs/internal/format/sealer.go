// Package format is everything a volume stores beside names and pages: file
// headers, metadata records, extended attributes and the configuration, byte
// for byte. fs/FORMAT.md is its specification.
//
// A [Sealer] holds the volume's keys. Its parsers accept only what its writers
// emit: whatever parses, marshals to the same bytes again.
package format

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/fs/internal/siv"
	"kmsfs.dev/kmsfs/internal/secret"
)

// VolumeKeySize is the length of a volume key, from which every other key of
// the volume that is not a file's data key is derived.
const VolumeKeySize = 64

var (
	// ErrCorrupt is what this volume's writer did not write, or not there.
	ErrCorrupt = errors.New("corrupt")
	// ErrNeverWritten is a header of zeros: a file whose creation was cut short.
	ErrNeverWritten = errors.New("never written")
	// ErrTooLarge is a symlink target or a set of extended attributes that
	// does not fit where it is stored.
	ErrTooLarge = errors.New("too large to store")
)

// The info strings of HKDF. Each key has one use, so that no ciphertext of one
// kind can pass for another's.
const (
	infoNames   = "kmsfs v1 names"
	infoHeader  = "kmsfs v1 header"
	infoRecords = "kmsfs v1 records"
	infoXattrs  = "kmsfs v1 xattrs"
	infoWrap    = "kmsfs v1 wrap"
	infoConfig  = "kmsfs v1 config"
)

// Associated data and MAC prefixes.
const (
	adHeader  = "kmsfs v1 header"
	adPath    = "kmsfs v1 path"
	adWrap    = "kmsfs v1 wrap"
	adDir     = "kmsfs v1 dir"
	adSettled = "kmsfs v1 settled"
	adName    = "kmsfs v1 name"
	adSymlink = "kmsfs v1 symlink"
	adXattrs  = "kmsfs v1 xattrs"
	adMove    = "kmsfs v1 move"
	adConfig  = "kmsfs v1 config"
)

// Sealer holds the keys of one volume for all but names and pages. It is safe
// for concurrent use until Wipe.
type Sealer struct {
	header  *macs
	names   *secret.Buffer
	wrap    *secret.Buffer
	records *siv.Cipher
	xattrs  *siv.Cipher
}

// NewSealer derives the keys from volumeKey, which stays the caller's to wipe.
func NewSealer(volumeKey []byte) (*Sealer, error) {
	s := &Sealer{}
	header, err := subkey(volumeKey, infoHeader, sha256.Size)
	if err != nil {
		return nil, err
	}
	defer header.Free()
	if s.header, err = newMACs(header.Bytes()); err != nil {
		return nil, err
	}
	for _, k := range []struct {
		to   **secret.Buffer
		info string
		size int
	}{{&s.names, infoNames, names.KeySize}, {&s.wrap, infoWrap, wrapKeySize}} {
		if *k.to, err = subkey(volumeKey, k.info, k.size); err != nil {
			s.Wipe()
			return nil, err
		}
	}
	for _, c := range []struct {
		to   **siv.Cipher
		info string
	}{{&s.records, infoRecords}, {&s.xattrs, infoXattrs}} {
		key, err := subkey(volumeKey, c.info, siv.KeySize)
		if err == nil {
			*c.to, err = siv.New(key.Bytes())
			key.Free()
		}
		if err != nil {
			s.Wipe()
			return nil, err
		}
	}
	return s, nil
}

// Names returns a cipher of the volume's file names, the caller's to wipe.
func (s *Sealer) Names() (*names.Cipher, error) {
	return names.New(s.names.Bytes())
}

// Wipe erases the keys. The sealer must not be used again.
func (s *Sealer) Wipe() {
	if s == nil {
		return
	}
	s.header.wipe()
	s.names.Free()
	s.wrap.Free()
	s.records.Wipe()
	s.xattrs.Wipe()
}

func subkey(volumeKey []byte, info string, n int) (*secret.Buffer, error) {
	if len(volumeKey) != VolumeKeySize {
		return nil, fmt.Errorf("format: volume key of %d bytes, need %d", len(volumeKey), VolumeKeySize)
	}
	return secret.HKDF(volumeKey, nil, []byte(info), n)
}

// ad joins a label and parts of fixed length, and so is injective.
func ad(label string, parts ...[]byte) []byte {
	b := []byte(label)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// encoding refuses stray bits, but skips newlines: unseal compares lengths.
var encoding = base64.RawURLEncoding.Strict()

// maxTarget is the longest symlink target Linux stores (PATH_MAX without NUL).
const maxTarget = 4095

// sealTarget seals a record as a symlink target. Every record's own limits keep
// it within maxTarget.
func (s *Sealer) sealTarget(ad, record []byte) string {
	return encoding.EncodeToString(s.records.Seal(ad, record))
}

// openTarget is the inverse of sealTarget, for its only encoding.
func (s *Sealer) openTarget(ad []byte, target string) ([]byte, error) {
	if len(target) > maxTarget {
		return nil, ErrCorrupt
	}
	sealed, err := encoding.DecodeString(target)
	if err != nil || encoding.EncodedLen(len(sealed)) != len(target) {
		return nil, ErrCorrupt
	}
	record, err := s.records.Open(ad, sealed)
	if err != nil {
		return nil, ErrCorrupt
	}
	return record, nil
}
