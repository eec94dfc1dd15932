package kmsapi

// BlobRef says under what this project's key service has wrapped a CiphertextBlob.
type BlobRef struct {
	KeyID [16]byte // the bytes of the KMS key's UUID
	// MaterialID is the first half of the key material's 32-byte id, which is
	// new after each rotation.
	MaterialID [16]byte
}

const (
	// BlobVersion is the first byte of a CiphertextBlob.
	BlobVersion = 1
	// BlobRefLen is how long version and BlobRef are at its beginning, in bytes.
	BlobRefLen = 1 + 16 + 16
)

// ParseBlob reads the beginning of a CiphertextBlob. Nothing of it is authenticated
// before the key service opens the blob. ok is false for blobs of other key services,
// AWS's among them, which tell nothing.
func ParseBlob(b []byte) (ref BlobRef, ok bool) {
	if len(b) <= BlobRefLen || b[0] != BlobVersion {
		return ref, false
	}
	copy(ref.KeyID[:], b[1:17])
	copy(ref.MaterialID[:], b[17:BlobRefLen])
	return ref, true
}
