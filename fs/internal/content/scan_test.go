package content

import (
	"testing"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/internal/secret/secrettest"
)

// A file's keys are in memory as often as its Cipher holds them, and not at all
// after Wipe: no call leaves a copy behind.
func TestNoCopiesOfTheKeys(t *testing.T) {
	eachCipher(t, func(t *testing.T, like *Cipher) {
		key, masked := secrettest.Key(t, DataKeySize)
		info := append([]byte("kmsfs v1 content"), byte(like.alg), 1, 0)
		pageKey, err := secret.HKDF(key.Bytes(), testFile[:], info, 32)
		if err != nil {
			t.Fatal(err)
		}
		maskedPage := secrettest.Mask(pageKey.Bytes())
		pageKey.Free()
		c, err := NewCipher(like.alg, like.geom, testFile, key.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		key.Free()
		page, dst := make([]byte, PageSize), make([]byte, PageSize)
		for i := range 500 {
			// Epochs come and go, so that page keys are dropped too.
			mustSeal(t, c, page, 1, uint16(i%(maxAEADs+2)), text(10), true)
			if _, _, err := c.Open(dst, page, 1, 100); err != nil {
				t.Fatal(err)
			}
		}
		mustSeal(t, c, page, 1, 1, text(10), true)
		mustSeal(t, c, page, 1, 0, text(10), true)
		// One in locked memory, one as the key of the first epoch.
		if n := secrettest.Copies(t, 0, masked); n != 2 {
			t.Errorf("%d copies of the data key in use", n)
		}
		if n := secrettest.Copies(t, 0, maskedPage); n != 1 {
			t.Errorf("%d copies of a page key in use", n)
		}
		c.Wipe()
		if n := secrettest.Copies(t, 0, masked) + secrettest.Copies(t, 0, maskedPage); n != 0 {
			t.Errorf("%d copies of the keys after Wipe", n)
		}
	})
}
