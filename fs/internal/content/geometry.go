// Package content is the page cipher of file content and the arithmetic of
// where a plaintext byte lives. It does no I/O and knows no file system.
//
// A backing file is a sequence of ciphertext pages of PageSize bytes. Each page
// stands alone: it is written whole, sealed under a fresh random nonce, and
// authenticates its file, its index, its key epoch, how many bytes of it are
// used and whether it is the last. The first HeaderSize bytes of page 0 are the
// file header, which is package format's.
//
//	data | tag 16 | zeros | mark u16 | key epoch u16 | nonce
//
// The tag follows the data directly, as Go's AEADs write it, so that sealing
// and opening copy nothing. The zeros exist only in the geometry of block
// images.
package content

import "fmt"

const (
	PageSize   = 4096
	HeaderSize = 512 // at the start of page 0

	// MaxLength bounds plaintext lengths: 64 PiB. Every page number then fits
	// the 48 bits of a hole extent, and every backing size an int64.
	MaxLength = 1 << 56
)

// Algorithm is how a volume's pages are sealed.
type Algorithm uint8

const (
	AES256GCM         Algorithm = 1
	XChaCha20Poly1305 Algorithm = 2
)

// AlgorithmByName returns the algorithm that a volume's configuration names.
func AlgorithmByName(name string) (Algorithm, error) {
	switch name {
	case "AES-256-GCM":
		return AES256GCM, nil
	case "XChaCha20-Poly1305":
		return XChaCha20Poly1305, nil
	}
	return 0, fmt.Errorf("content: unknown algorithm %q", name)
}

// GeometryKind is how a volume's plaintext is cut into pages.
type GeometryKind uint8

const (
	Files GeometryKind = 1
	// BlockImage holds 7 whole 512-byte sectors in a page (6 in page 0), so
	// that no sector of a block image straddles two pages and tears.
	BlockImage GeometryKind = 2
)

const (
	tagSize   = 16
	fieldSize = 4 // mark and epoch
	finalMark = 0x8000
	blockData = 7 * 512
)

func (a Algorithm) nonceSize() int {
	if a == XChaCha20Poly1305 {
		return 24
	}
	return 12
}

// Geometry maps plaintext offsets to pages. It is constant in a volume.
type Geometry struct {
	kind  GeometryKind
	data  int // bytes of plaintext in a page
	data0 int // in page 0
}

// GeometryFor returns the geometry of an algorithm and a kind.
func GeometryFor(alg Algorithm, kind GeometryKind) (Geometry, error) {
	if alg != AES256GCM && alg != XChaCha20Poly1305 {
		return Geometry{}, fmt.Errorf("content: unknown algorithm %d", alg)
	}
	switch kind {
	case Files:
		data := PageSize - tagSize - fieldSize - alg.nonceSize()
		return Geometry{kind: kind, data: data, data0: data - HeaderSize}, nil
	case BlockImage:
		return Geometry{kind: kind, data: blockData, data0: blockData - HeaderSize}, nil
	}
	return Geometry{}, fmt.Errorf("content: unknown geometry %d", kind)
}

// Kind returns the kind as file headers store it.
func (g Geometry) Kind() uint8 { return uint8(g.kind) }

// DataIn returns how many bytes of plaintext a page holds when full.
func (g Geometry) DataIn(page int64) int {
	if page == 0 {
		return g.data0
	}
	return g.data
}

// dataAt returns where the data of a page begins in it.
func dataAt(index int64) int {
	if index == 0 {
		return HeaderSize
	}
	return 0
}

// Data returns the data area of the 4096 bytes of a page, where Seal finds and
// Open leaves plaintext without a copy.
func (g Geometry) Data(page []byte, index int64) []byte {
	at, n := dataAt(index), g.DataIn(index)
	return page[at : at+n : at+n]
}

// Locate returns the page that holds the plaintext byte at off, at most
// MaxLength, and the byte's place in the page's data.
func (g Geometry) Locate(off int64) (page int64, in int) {
	if off < int64(g.data0) {
		return 0, int(off)
	}
	off -= int64(g.data0)
	return 1 + off/int64(g.data), int(off % int64(g.data))
}

// Start returns the plaintext offset of the first byte of a page.
func (g Geometry) Start(page int64) int64 {
	if page == 0 {
		return 0
	}
	return int64(g.data0) + (page-1)*int64(g.data)
}

// FinalPage returns the last page of a file of length bytes and how many bytes
// of it are used. An empty file has an empty page 0; otherwise the last page
// holds at least one byte, and is full when the length is a page's end.
func (g Geometry) FinalPage(length int64) (page int64, used int) {
	if length == 0 {
		return 0, 0
	}
	page, in := g.Locate(length - 1)
	return page, in + 1
}

// BackingSize returns the st_size of the backing file of length bytes: its
// pages, and then as many bytes as the last page uses. That tail is never
// written; it tells the length to whoever has no key.
func (g Geometry) BackingSize(length int64) int64 {
	page, used := g.FinalPage(length)
	return (page+1)*PageSize + int64(used)
}

// LengthFromSize is the inverse of BackingSize; !ok for a size that it never
// returns, such as that of a file without a page.
func (g Geometry) LengthFromSize(stSize int64) (length int64, ok bool) {
	pages, used := stSize/PageSize, int(stSize%PageSize)
	// With more pages than that, Start might overflow.
	if stSize < PageSize || pages > MaxLength/int64(g.data0) {
		return 0, false
	}
	page := pages - 1
	if used > g.DataIn(page) || used == 0 && page > 0 {
		return 0, false
	}
	length = g.Start(page) + int64(used)
	return length, length <= MaxLength
}
