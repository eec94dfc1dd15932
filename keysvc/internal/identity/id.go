package identity

import "crypto/rand"

// The prefixes of unique ids ("IAM identifiers", understanding unique ID prefixes).
const (
	userIDPrefix      = "AIDA"
	roleIDPrefix      = "AROA"
	policyIDPrefix    = "ANPA"
	accessKeyIDPrefix = "AKIA"
)

// base32 is what ids are written in after the prefix.
const base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// newID returns prefix and random characters, so many that no two ids are ever
// the same: 85 bits for 17.
func newID(prefix string, random int) string {
	b := make([]byte, random)
	rand.Read(b)
	for i := range b {
		b[i] = base32[b[i]%byte(len(base32))] // 256 is a multiple of 32
	}
	return prefix + string(b)
}

// Lengths after the prefix, as AWS's.
const (
	entityIDRandom    = 17
	accessKeyIDRandom = 16
)
