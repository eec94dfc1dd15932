package store

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// The manifest is a sealed record that every transaction writes: how many
// records there are, the sum of their digests, and the number of the transaction.
// Each record is bound to its name by its seal; the manifest binds them to each
// other. What adds, drops or puts back any of them by itself changes the sum.
//
// The sum is the XOR of keyed digests, an incremental hash of a set: a
// transaction pays for the records that it changes and for no other. That is as
// hard to forge as the digests are to guess, because nobody sees sums or digests
// (the manifest is sealed) and no record is in the set twice (its name is part
// of it, its nonce is random).
//
// A database whose files are put back to an older state as a whole, or lose
// their newest parts, has the manifest of then. So the number of the last
// transaction is also kept elsewhere (Mark), written after each commit and
// before it is acknowledged.

// manifestName begins with a byte that no other record's name does.
const manifestName = "\x00manifest"

type manifest struct {
	number  uint64 // of the last transaction; the first is 1
	records uint64
	sum     [sha256.Size]byte
}

const manifestLen = 1 + 8 + 8 + sha256.Size

// manifestSchema is the first byte. An unknown one is refused.
const manifestSchema = 1

func (m *manifest) marshal() []byte {
	b := []byte{manifestSchema}
	b = binary.BigEndian.AppendUint64(b, m.number)
	b = binary.BigEndian.AppendUint64(b, m.records)
	return append(b, m.sum[:]...)
}

func (m *manifest) parse(b []byte) error {
	if len(b) != manifestLen || b[0] != manifestSchema {
		return errors.New("the manifest is of another version: use a newer kmsfs")
	}
	m.number = binary.BigEndian.Uint64(b[1:])
	m.records = binary.BigEndian.Uint64(b[9:])
	copy(m.sum[:], b[17:])
	return nil
}

// add and drop note that a record is or is not there any more.
func (m *manifest) add(digest [sha256.Size]byte) {
	subtle.XORBytes(m.sum[:], m.sum[:], digest[:])
	m.records++
}

func (m *manifest) drop(digest [sha256.Size]byte) {
	subtle.XORBytes(m.sum[:], m.sum[:], digest[:])
	m.records--
}

// readManifest returns the manifest, or ErrNotFound.
func readManifest(t Tx, s Sealer) (m manifest, err error) {
	sealed, err := t.Get(manifestName)
	if err != nil {
		return m, err
	}
	value, err := s.Open(nil, manifestName, sealed)
	if err != nil {
		return m, changed("the manifest of the records was changed")
	}
	return m, m.parse(value)
}

func writeManifest(t Tx, s Sealer, m manifest) error {
	sealed, err := s.Seal(manifestName, m.marshal())
	if err != nil {
		return fmt.Errorf("seal the manifest: %w", err)
	}
	return t.Set(manifestName, sealed)
}
