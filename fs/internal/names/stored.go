package names

import "strings"

// IsLong tells whether a stored name is a hash, whose name is in a sidecar.
func IsLong(stored string) bool {
	hash, ok := strings.CutPrefix(stored, longPrefix)
	if !ok || len(hash) != hashLen {
		return false
	}
	sum, err := encoding.DecodeString(hash)
	return err == nil && encoding.EncodedLen(len(sum)) == len(hash)
}

// SidecarOf returns the name of the sidecar of a long stored name.
func SidecarOf(longStored string) string {
	return sidecarPrefix + strings.TrimPrefix(longStored, longPrefix)
}

// IsReserved tells whether an entry of a ciphertext directory belongs to the
// format itself and stands for no name.
func IsReserved(stored string) bool {
	return strings.HasPrefix(stored, reservedPrefix) && !strings.HasPrefix(stored, longPrefix)
}

// LinkRecord returns the name of the name record of a stored name, which is at
// most 255 bytes like every name here.
func LinkRecord(stored string) string {
	return linkPrefix + strings.TrimPrefix(stored, reservedPrefix)
}
