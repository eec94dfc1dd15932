package audit

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Head is a checkpoint, by its place and its line's hash: what the service keeps
// sealed to notice that its log was cut off or put back.
type Head struct {
	Sequence uint64 `json:"sequence"`
	Hash     Hash   `json:"hash"`
}

// Why a checkpoint was made.
const (
	reasonOpen     = "open"     // the log was opened
	reasonPeriodic = "periodic" // lines or time have passed
	reasonRotate   = "rotate"   // the segment is complete
	reasonClose    = "close"    // the log was closed
)

// reasonCode is a reason in the signed message; 0 is none.
func reasonCode(reason string) byte {
	switch reason {
	case reasonOpen:
		return 1
	case reasonPeriodic:
		return 2
	case reasonRotate:
		return 3
	case reasonClose:
		return 4
	}
	return 0
}

// checkpoint is the member that makes a line a checkpoint.
type checkpoint struct {
	Version   int       `json:"version"`
	Reason    string    `json:"reason"`
	Time      time.Time `json:"time"`
	Durable   uint64    `json:"durable"`
	KeyID     Hash      `json:"keyId"`
	Signature string    `json:"signature"`
}

// checkpointLine is a whole line.
type checkpointLine struct {
	Checkpoint *checkpoint `json:"kmsfsCheckpoint"`
	Chain      *Chain      `json:"kmsfs"`
}

const checkpointVersion = 1

// checkpointStart begins every checkpoint's line and no record's.
var checkpointStart = []byte(`{"kmsfsCheckpoint":`)

// IsCheckpoint tells a checkpoint's line from a record's.
func IsCheckpoint(line []byte) bool { return bytes.HasPrefix(line, checkpointStart) }

// keyID names a public key.
func keyID(key ed25519.PublicKey) Hash { return sha256.Sum256(key) }

// message is what is signed. Every member has a fixed length.
func (c *checkpoint) message(at link) []byte {
	b := []byte("kmsfs audit checkpoint v1\x00")
	b = append(b, c.KeyID[:]...)
	b = binary.BigEndian.AppendUint64(b, at.sequence)
	b = append(b, at.previous[:]...)
	b = binary.BigEndian.AppendUint64(b, c.Durable)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixNano()))
	return append(b, reasonCode(c.Reason))
}

// signer makes checkpoints.
type signer struct {
	crypto.Signer
	public ed25519.PublicKey
	id     Hash
}

func newSigner(s crypto.Signer) (signer, error) {
	if s == nil {
		return signer{}, errors.New("audit: no signer")
	}
	public, ok := s.Public().(ed25519.PublicKey)
	if !ok || len(public) != ed25519.PublicKeySize {
		return signer{}, fmt.Errorf("audit: the signer's key is a %T, not Ed25519", s.Public())
	}
	return signer{s, public, keyID(public)}, nil
}

// append appends the checkpoint that has the place at, and moves that on.
func (s signer) append(b []byte, at *link, reason string, now time.Time, durable uint64) ([]byte, error) {
	c := checkpoint{Version: checkpointVersion, Reason: reason, Time: now.UTC().Round(0), Durable: durable, KeyID: s.id}
	sig, err := s.Sign(nil, c.message(*at), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("audit: sign a checkpoint: %w", err)
	}
	c.Signature = base64url.EncodeToString(sig)
	line, err := c.line(*at)
	if err != nil {
		return nil, err
	}
	at.follow(line)
	return append(b, line...), nil
}

// line is the checkpoint's line, newline included.
func (c *checkpoint) line(at link) ([]byte, error) {
	line, err := json.Marshal(checkpointLine{c, &Chain{at.sequence, at.previous}})
	if err != nil {
		return nil, fmt.Errorf("audit: encode a checkpoint: %w", err)
	}
	return append(line, '\n'), nil
}

var (
	errForm      = errors.New("not a checkpoint as this version writes it")
	errVersion   = errors.New("a checkpoint of a version that this kmsfs does not know")
	errOtherKey  = errors.New("a checkpoint made with another key")
	errSignature = errors.New("a checkpoint whose signature is wrong")
)

// parseCheckpoint returns the checkpoint of a line (newline included) and its
// place, if key has signed it.
func parseCheckpoint(line []byte, key ed25519.PublicKey) (*checkpoint, link, error) {
	var l checkpointLine
	if err := json.Unmarshal(line, &l); err != nil || l.Checkpoint == nil || l.Chain == nil {
		return nil, link{}, errForm
	}
	c, at := l.Checkpoint, link{l.Chain.Sequence, l.Chain.Previous}
	if c.Version != checkpointVersion {
		return nil, link{}, errVersion
	}
	sig, err := base64url.DecodeString(c.Signature)
	if err != nil || reasonCode(c.Reason) == 0 {
		return nil, link{}, errForm
	}
	// Only what a writer writes: one signature must not have several lines.
	if again, err := c.line(at); err != nil || !bytes.Equal(again, line) {
		return nil, link{}, errForm
	}
	if c.KeyID != keyID(key) {
		return nil, link{}, errOtherKey
	}
	if !ed25519.Verify(key, c.message(at), sig) {
		return nil, link{}, errSignature
	}
	return c, at, nil
}

// headOf is the Head of the checkpoint line at a place.
func headOf(at link, line []byte) Head { return Head{at.sequence, sha256.Sum256(line)} }
