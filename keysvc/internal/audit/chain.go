package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
)

// Hash is the SHA-256 of a line, its newline included. Its text is unpadded
// base64url.
type Hash [sha256.Size]byte

var base64url = base64.RawURLEncoding.Strict()

const hashTextLen = (sha256.Size*8 + 5) / 6

// AppendText appends the hash's text.
func (h Hash) AppendText(b []byte) ([]byte, error) { return base64url.AppendEncode(b, h[:]), nil }

// MarshalText is AppendText.
func (h Hash) MarshalText() ([]byte, error) { return h.AppendText(nil) }

func (h Hash) String() string { return base64url.EncodeToString(h[:]) }

// UnmarshalText accepts only what MarshalText makes.
func (h *Hash) UnmarshalText(text []byte) error {
	var raw [sha256.Size + 2]byte
	if len(text) != hashTextLen {
		return errors.New("audit: a hash has 43 characters")
	}
	n, err := base64url.Decode(raw[:], text)
	if err != nil || n != len(h) {
		return errors.New("audit: a hash is unpadded base64url")
	}
	copy(h[:], raw[:])
	return nil
}

// recordStart begins every record's line.
var recordStart = []byte(`{"eventVersion":`)

// link is the place of the next line in the chain.
type link struct {
	sequence uint64
	previous Hash
}

// genesis is the place of a log's first line.
func genesis(key ed25519.PublicKey) link {
	return link{1, sha256.Sum256(append([]byte("kmsfs audit log v1\x00"), key...))}
}

// appendTo ends the line that begins at b[start:], which becomes the link's.
func (k *link) appendTo(b []byte, start int) []byte {
	b = k.appendSuffix(b)
	k.follow(b[start:])
	return b
}

func (k *link) appendSuffix(b []byte) []byte {
	b = append(b, `,"kmsfs":{"sequence":`...)
	b = strconv.AppendUint(b, k.sequence, 10)
	b = append(b, `,"previous":"`...)
	b = base64url.AppendEncode(b, k.previous[:])
	return append(b, "\"}}\n"...)
}

// suffixLen is more than appendSuffix appends.
const suffixLen = 112

// follow moves to the place after line.
func (k *link) follow(line []byte) {
	k.sequence++
	k.previous = sha256.Sum256(line)
}

// fits says whether line has this place. Its bytes are compared with what a
// writer puts there, not parsed.
func (k *link) fits(line []byte) bool {
	var b [suffixLen]byte
	return bytes.HasSuffix(line, k.appendSuffix(b[:0]))
}
