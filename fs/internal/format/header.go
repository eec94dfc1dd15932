package format

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/fs/internal/siv"
)

const (
	// HeaderSize is the length of a file header, the start of page 0.
	HeaderSize = 512

	magic         = "KMSFSv1\n"
	headerVersion = 1
	headerMAC     = HeaderSize - sha256.Size // offset, and the length of what it covers
	headerVar     = 136                      // wrapped key, sealed path, hole extents
	headerVarSize = headerMAC - headerVar    // 344

	MaxWrappedKey = 256
	MaxHoles      = 8
	extentSize    = 12
	// maxKeyAndPath leaves room for two hole extents whatever the path.
	maxKeyAndPath = 320

	// maxDurable is content.MaxLength: no longer file exists.
	maxDurable = 1 << 56

	flagXattrs      = 1 << 0
	flagKeyInRecord = 1 << 1
)

// Header is what a file says about itself, authenticated under the volume key,
// so that it can be rewritten without the file's data key.
type Header struct {
	Algorithm   uint8 // as in package content
	Geometry    uint8
	HasXattrs   bool   // the file has a sealed set of extended attributes
	KeyInRecord bool   // WrappedKey and Path are in the name's record instead
	Epoch       uint16 // the newest key epoch of any page
	FileID      [16]byte
	WriteCount  uint32 // of the epoch, in units of 2^24 expected page writes
	Generation  uint64
	Durable     uint64 // the length known to be on disk
	Counter     uint64 // of the binding: with Parent and Tag, where the file is
	Parent      names.ID
	Tag         names.Tag
	WrappedKey  []byte
	Path        string // the path in WrappedKey's encryption context; "" if none
	Holes       []Extent

	sealed sealedPath // as it was last read or written
}

// sealedPath keeps what a header's path is sealed as: headers are written far
// more often than paths change.
type sealedPath struct {
	id     [16]byte
	path   string
	sealed []byte
}

// Extent is a run of pages that may be absent.
type Extent struct{ First, Count int64 }

// maxPage bounds the end of an extent, whose numbers are stored in 48 bits.
const maxPage = 1<<48 - 1

// PathFits tells whether a header holds a wrapped key of that length and path.
// If not, both go into a name record.
func PathFits(wrapped int, path string) bool {
	return wrapped <= MaxWrappedKey && wrapped+sealedPathLen(path) <= maxKeyAndPath
}

// HoleCapacity returns how many extents fit beside the key and path: 2 to 8.
func (h *Header) HoleCapacity() int {
	room := headerVarSize - len(h.WrappedKey) - sealedPathLen(h.Path)
	return min(max(room/extentSize, 0), MaxHoles)
}

func sealedPathLen(path string) int {
	if path == "" {
		return 0
	}
	return len(path) + siv.Overhead
}

// check tells why h is no header, for what MarshalHeader is given and for what
// ParseHeader found alike.
func (h *Header) check() error {
	switch {
	case h.Algorithm != 1 && h.Algorithm != 2:
		return fmt.Errorf("header: unknown algorithm %d", h.Algorithm)
	case h.Geometry != 1 && h.Geometry != 2:
		return fmt.Errorf("header: unknown geometry %d", h.Geometry)
	case h.Durable > maxDurable:
		return fmt.Errorf("header: durable length %d", h.Durable)
	case h.KeyInRecord && (len(h.WrappedKey) != 0 || h.Path != ""):
		return fmt.Errorf("header: a key, and one in a record")
	case !h.KeyInRecord && len(h.WrappedKey) == 0:
		return fmt.Errorf("header: no wrapped key")
	case !PathFits(len(h.WrappedKey), h.Path):
		return fmt.Errorf("header: wrapped key of %d bytes and path of %d: %w", len(h.WrappedKey), len(h.Path), ErrTooLarge)
	case len(h.Holes) > h.HoleCapacity():
		return fmt.Errorf("header: %d holes, room for %d: %w", len(h.Holes), h.HoleCapacity(), ErrTooLarge)
	}
	next := int64(0) // the first page an extent may begin with
	for _, e := range h.Holes {
		if e.First < next || e.First >= maxPage || e.Count < 1 || e.Count > maxPage-e.First {
			return fmt.Errorf("header: holes %v are not sorted, disjoint and apart", h.Holes)
		}
		next = e.First + e.Count + 1
	}
	return nil
}

// MarshalHeader writes h to the first HeaderSize bytes of dst. It keeps in h what
// its path is sealed as.
func (s *Sealer) MarshalHeader(dst []byte, h *Header) error {
	if len(dst) < HeaderSize {
		return fmt.Errorf("header: %d bytes of room", len(dst))
	}
	if err := h.check(); err != nil {
		return err
	}
	path := s.sealPath(h)
	b := dst[:HeaderSize]
	clear(b)
	copy(b, magic)
	b[8], b[9], b[10] = headerVersion, h.Algorithm, h.Geometry
	if h.HasXattrs {
		b[11] |= flagXattrs
	}
	if h.KeyInRecord {
		b[11] |= flagKeyInRecord
	}
	le.PutUint16(b[12:], h.Epoch)
	copy(b[16:32], h.FileID[:])
	le.PutUint32(b[32:], h.WriteCount)
	le.PutUint64(b[40:], h.Generation)
	le.PutUint64(b[48:], h.Durable)
	le.PutUint64(b[56:], h.Counter)
	copy(b[64:80], h.Parent[:])
	copy(b[80:96], h.Tag[:])
	le.PutUint16(b[96:], uint16(len(h.WrappedKey)))
	le.PutUint16(b[98:], uint16(len(path)))
	b[100] = uint8(len(h.Holes))
	at := headerVar
	at += copy(b[at:], h.WrappedKey)
	at += copy(b[at:], path)
	for _, e := range h.Holes {
		putU48(b[at:], e.First)
		putU48(b[at+6:], e.Count)
		at += extentSize
	}
	sum := s.header.sum(adHeader, b[:headerMAC])
	copy(b[headerMAC:], sum[:])
	return nil
}

// sealPath is how the header stores its path: not at all, if it has none.
func (s *Sealer) sealPath(h *Header) []byte {
	if h.Path == "" {
		return nil
	}
	if c := &h.sealed; c.sealed == nil || c.path != h.Path || c.id != h.FileID {
		*c = sealedPath{h.FileID, h.Path, s.records.Seal(ad(adPath, h.FileID[:]), []byte(h.Path))}
	}
	return h.sealed.sealed
}

// ParseHeader parses the first HeaderSize bytes of a file: ErrNeverWritten for
// zeros, ErrCorrupt for all else that MarshalHeader does not write.
func (s *Sealer) ParseHeader(src []byte) (*Header, error) {
	if len(src) != HeaderSize {
		return nil, fmt.Errorf("header of %d bytes: %w", len(src), ErrCorrupt)
	}
	if isZero(src) {
		return nil, fmt.Errorf("header: %w", ErrNeverWritten)
	}
	// Nothing is looked at before the MAC: an error that told which field is
	// wrong would be about bytes that anyone can have written.
	if sum := s.header.sum(adHeader, src[:headerMAC]); !hmac.Equal(src[headerMAC:], sum[:]) {
		return nil, fmt.Errorf("header does not authenticate: %w", ErrCorrupt)
	}
	h, ok := s.parseHeader(src)
	if !ok || h.check() != nil {
		return nil, fmt.Errorf("header holds what no writer writes: %w", ErrCorrupt)
	}
	return h, nil
}

// parseHeader reads the fields and checks that the bytes between them are zero.
func (s *Sealer) parseHeader(b []byte) (*Header, bool) {
	wrapped, path, holes := int(le.Uint16(b[96:])), int(le.Uint16(b[98:])), int(b[100])
	at := headerVar
	end := at + wrapped + path + holes*extentSize
	flags := b[11]
	if string(b[:8]) != magic || b[8] != headerVersion || flags&^(flagXattrs|flagKeyInRecord) != 0 ||
		le.Uint16(b[14:]) != 0 || le.Uint32(b[36:]) != 0 || !isZero(b[101:headerVar]) ||
		end > headerMAC || !isZero(b[end:headerMAC]) {
		return nil, false
	}
	h := &Header{
		Algorithm:   b[9],
		Geometry:    b[10],
		HasXattrs:   flags&flagXattrs != 0,
		KeyInRecord: flags&flagKeyInRecord != 0,
		Epoch:       le.Uint16(b[12:]),
		FileID:      [16]byte(b[16:]),
		WriteCount:  le.Uint32(b[32:]),
		Generation:  le.Uint64(b[40:]),
		Durable:     le.Uint64(b[48:]),
		Counter:     le.Uint64(b[56:]),
		Parent:      names.ID(b[64:]),
		Tag:         names.Tag(b[80:]),
	}
	if wrapped > 0 {
		h.WrappedKey = append([]byte(nil), b[at:at+wrapped]...)
		at += wrapped
	}
	if path > 0 {
		plain, err := s.records.Open(ad(adPath, h.FileID[:]), b[at:at+path])
		if err != nil || len(plain) == 0 { // no path is stored as no bytes
			return nil, false
		}
		h.Path = string(plain)
		h.sealed = sealedPath{h.FileID, h.Path, bytes.Clone(b[at : at+path])}
		at += path
	}
	if holes > 0 {
		h.Holes = make([]Extent, 0, holes)
	}
	for range holes {
		h.Holes = append(h.Holes, Extent{u48(b[at:]), u48(b[at+6:])})
		at += extentSize
	}
	return h, true
}

func putU48(b []byte, v int64) {
	le.PutUint16(b, uint16(v))
	le.PutUint32(b[2:], uint32(v>>16))
}

func u48(b []byte) int64 {
	return int64(le.Uint16(b)) | int64(le.Uint32(b[2:]))<<16
}

func isZero(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] { // much of a header is zero
		if le.Uint64(b) != 0 {
			return false
		}
	}
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
