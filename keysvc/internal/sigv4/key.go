package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"

	"kmsfs.dev/kmsfs/internal/secret"
)

// derive sets key to the signing key of a secret for a scope:
//
//	HMAC(HMAC(HMAC(HMAC("AWS4"+secret, date), region), service), "aws4_request")
//
// What it computes on the way is wiped.
func derive(key *[sha256.Size]byte, secretAccessKey []byte, s Scope) {
	secret.ScrubStack()       // grows the stack now: a copy of it would keep what it held
	defer secret.ScrubStack() // Sum works on a copy of the hash, which has the key in it
	first := make([]byte, 0, len("AWS4")+len(secretAccessKey))
	first = append(append(first, "AWS4"...), secretAccessKey...)
	defer secret.Wipe(first)
	sum(key, first, []byte(s.Date))
	sum(key, key[:], []byte(s.Region))
	sum(key, key[:], []byte(s.Service))
	sum(key, key[:], []byte(terminator))
}

// sum sets mac to HMAC-SHA256(key, msg). They may be the same memory. Nothing else
// keeps the key.
func sum(mac *[sha256.Size]byte, key, msg []byte) {
	h := hmac.New(sha256.New, key)
	h.Write(msg)
	h.Sum(mac[:0])
	secret.WipeObject(h)
}
