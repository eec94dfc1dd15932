package keysvc

import (
	"maps"

	"kmsfs.dev/kmsfs/internal/secret"
)

// remade is what a ReEncrypt of a batch has made, kept for the Decrypt that follows:
// a mount moves a file's data key to its new path and opens it there. What was sealed
// a moment ago need not be opened to be known. The Decrypt is authorized, refused and
// recorded as any other.
type remade struct {
	blob      []byte
	key       *key
	material  material
	context   map[string]string
	plaintext *secret.Buffer // a copy
}

// keep makes r of a blob that was just sealed, in the place of what it was.
func (r *remade) keep(blob []byte, k *key, mat material, context map[string]string, plaintext []byte) error {
	copied, err := secret.New(len(plaintext))
	if err != nil {
		return err
	}
	copy(copied.Bytes(), plaintext)
	r.drop()
	*r = remade{blob, k, mat, context, copied}
	return nil
}

// opens reports whether opening b under k and context would give r's plaintext: b is
// the very slice that was sealed, under the same key and the same pairs.
func (r *remade) opens(b []byte, k *key, context map[string]string) bool {
	return r != nil && r.plaintext != nil && r.key == k &&
		len(b) == len(r.blob) && &b[0] == &r.blob[0] && maps.Equal(context, r.context)
}

// drop wipes the plaintext and leaves nothing.
func (r *remade) drop() {
	r.plaintext.Free()
	*r = remade{}
}
