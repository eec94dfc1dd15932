package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// HKDF returns n bytes of HKDF-SHA256 (RFC 5869) of key in locked memory. It
// equals crypto/hkdf.Key, which leaves the pseudorandom key and, inside hash
// states, key itself behind on the heap: this wipes both.
func HKDF(key, salt, info []byte, n int) (*Buffer, error) {
	if n > 255*sha256.Size {
		return nil, fmt.Errorf("secret: HKDF-SHA256 cannot make %d bytes", n)
	}
	out, err := New(n)
	if err != nil {
		return nil, err
	}
	ScrubStack()       // grows the stack now: a copy of it would keep what it held
	defer ScrubStack() // Sum works on a copy of the hash, which has key in it
	scratch := make([]byte, 2*sha256.Size)
	defer Wipe(scratch)
	prk, block := scratch[:sha256.Size], scratch[sha256.Size:sha256.Size]

	extract := hmac.New(sha256.New, salt)
	extract.Write(key)
	extract.Sum(prk[:0])
	WipeObject(extract)

	for i, done := 1, 0; done < n; i++ {
		expand := hmac.New(sha256.New, prk)
		expand.Write(block) // of the round before: none in the first
		expand.Write(info)
		expand.Write([]byte{byte(i)})
		block = expand.Sum(block[:0])
		WipeObject(expand)
		done += copy(out.data[done:], block)
	}
	return out, nil
}
