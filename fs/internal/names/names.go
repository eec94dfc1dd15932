// Package names encrypts file names. A name's ciphertext depends on nothing but
// the volume's names key, the directory's ID and the name, so that a lookup is
// one lookup in the ciphertext directory.
//
// A stored name is the base64url of raw = AES-SIV(names key, AD = directory ID,
// name). Names whose encoding would not leave room for the prefix of a name
// record are stored under a hash, with the encoding in a sidecar symlink.
// Whatever begins with "kmsfs." is not the encoding of a name: the alphabet has
// no dot.
package names

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"

	"kmsfs.dev/kmsfs/fs/internal/siv"
)

// ID identifies a directory (or any object); it is random.
type ID [16]byte

// DirIDSize is how many bytes of a directory's ID are random; the rest are zero
// and not stored, so that the record of a directory fits an inode of ext4. Two
// directories with the same ID would store equal names alike and could swap
// their entries. 96 bits suffice: of 2^20 directories two share an ID with
// probability 2^39 / 2^96 = 2^-57.
const DirIDSize = 12

// NewDirID returns the ID of a new directory.
func NewDirID() ID {
	var id ID
	rand.Read(id[:DirIDSize]) // never fails
	return id
}

// Tag is the synthetic IV of a name: a pseudorandom function of directory and
// name, by which headers and records are bound to the name they belong to.
type Tag [siv.Overhead]byte

const (
	KeySize = siv.KeySize

	MaxName   = 255 // NAME_MAX of Linux
	maxStored = 240 // "kmsfs.ln." + 240 and "kmsfs.new." + 240 still fit NAME_MAX

	reservedPrefix = "kmsfs."
	longPrefix     = "kmsfs.long."
	sidecarPrefix  = "kmsfs.name."
	linkPrefix     = "kmsfs.ln."
)

var (
	ErrTooLong = errors.New("name longer than 255 bytes")
	ErrInvalid = errors.New("name is empty, a dot or two, or holds a slash or a NUL")
	// ErrCorrupt is a stored name that Encrypt does not produce in this directory.
	ErrCorrupt = errors.New("stored name does not decrypt in this directory")
)

// encoding refuses stray bits in the last character. It still skips newlines:
// decode compares lengths.
var encoding = base64.RawURLEncoding.Strict()

var (
	hashLen   = encoding.EncodedLen(sha256.Size) // 43
	maxRaw    = encoding.DecodedLen(maxStored)   // 180: names of up to 164 bytes are short
	maxRawAll = MaxName + siv.Overhead           // 271
)

// Cipher encrypts the names of one volume. It is safe for concurrent use until Wipe.
type Cipher struct {
	siv    *siv.Cipher
	seed   maphash.Seed
	recent [recentNames]atomic.Pointer[recentName]
}

// recentNames is how many names a cipher remembers. The kernel asks for the
// same name several times in a row (LOOKUP and then CREATE, RENAME or UNLINK),
// and sealing it is what costs most of it.
const recentNames = 256

type recentName struct {
	dir    ID
	name   string
	stored Stored
}

// New copies key, KeySize bytes, which stays the caller's to wipe.
func New(key []byte) (*Cipher, error) {
	c, err := siv.New(key)
	if err != nil {
		return nil, fmt.Errorf("names: %w", err)
	}
	return &Cipher{siv: c, seed: maphash.MakeSeed()}, nil
}

// Wipe erases the key and forgets the names. The cipher must not be used again.
func (c *Cipher) Wipe() {
	if c != nil {
		c.siv.Wipe()
		clear(c.recent[:])
	}
}

// Stored tells where a name's object is in the ciphertext directory.
type Stored struct {
	Name          string
	Tag           Tag
	Sidecar       string // "" for short names
	SidecarTarget string
}

// Encrypt returns the stored form of a name of 1 to 255 bytes in dir.
func (c *Cipher) Encrypt(dir ID, name string) (Stored, error) {
	slot := &c.recent[(maphash.String(c.seed, name)^binary.LittleEndian.Uint64(dir[:]))%recentNames]
	if r := slot.Load(); r != nil && r.dir == dir && r.name == name {
		return r.stored, nil
	}
	if err := check(name); err != nil {
		return Stored{}, err
	}
	s := c.encrypt(dir, name)
	slot.Store(&recentName{dir, name, s})
	return s, nil
}

func (c *Cipher) encrypt(dir ID, name string) Stored {
	raw := c.siv.Seal(dir[:], []byte(name))
	s := Stored{Name: encoding.EncodeToString(raw), Tag: Tag(raw[:siv.Overhead])}
	if len(s.Name) > maxStored {
		s.SidecarTarget = s.Name
		hash := hashed(raw)
		s.Name, s.Sidecar = longPrefix+hash, sidecarPrefix+hash
	}
	return s
}

// Decrypt returns the name that Encrypt stores under a short stored name, or
// ErrCorrupt.
func (c *Cipher) Decrypt(dir ID, stored string) (string, Tag, error) {
	raw, err := decode(stored, siv.Overhead+1, maxRaw)
	if err != nil {
		return "", Tag{}, err
	}
	return c.open(dir, raw)
}

// DecryptLong is Decrypt for a hashed name and the target of its sidecar.
func (c *Cipher) DecryptLong(dir ID, stored, sidecarTarget string) (string, Tag, error) {
	raw, err := decode(sidecarTarget, maxRaw+1, maxRawAll)
	if err != nil {
		return "", Tag{}, err
	}
	// The tag in the target authenticates the name; the hash only tells that the
	// sidecar is this entry's and no other's. Both are public.
	if stored != longPrefix+hashed(raw) {
		return "", Tag{}, ErrCorrupt
	}
	return c.open(dir, raw)
}

func (c *Cipher) open(dir ID, raw []byte) (string, Tag, error) {
	name, err := c.siv.Open(dir[:], raw)
	if err != nil || check(string(name)) != nil {
		return "", Tag{}, ErrCorrupt
	}
	return string(name), Tag(raw[:siv.Overhead]), nil
}

func check(name string) error {
	switch {
	case len(name) > MaxName:
		return ErrTooLong
	case name == "", name == ".", name == "..", strings.ContainsAny(name, "/\x00"):
		return ErrInvalid
	}
	return nil
}

// decode accepts only the one encoding of min to max bytes.
func decode(s string, min, max int) ([]byte, error) {
	if len(s) < encoding.EncodedLen(min) || len(s) > encoding.EncodedLen(max) {
		return nil, ErrCorrupt
	}
	raw, err := encoding.DecodeString(s)
	if err != nil || encoding.EncodedLen(len(raw)) != len(s) {
		return nil, ErrCorrupt
	}
	return raw, nil
}

func hashed(raw []byte) string {
	sum := sha256.Sum256(raw)
	return encoding.EncodeToString(sum[:])
}
