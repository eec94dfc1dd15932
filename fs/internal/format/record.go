package format

import (
	"crypto/subtle"
	"fmt"

	"kmsfs.dev/kmsfs/fs/internal/names"
)

// DirRecord is the target of the symlink kmsfs.dir in every directory: its ID,
// under which its names are encrypted, and its place.
//
// It is kept to 44 sealed bytes, 59 characters: ext4 stores a target of less
// than 60 inside the inode, and making, replacing and removing such a symlink
// costs a tenth of one that needs a block. So it has 12 bytes of the ID and of
// the tag each, and no parent: the tag is a pseudorandom function of the
// parent's ID and the name, and thus names the place by itself. Passing a
// directory off as another's child takes a place with the same 96 bits of tag.
// Who has no names key cannot look for one, and that any two of 2^20 directories
// happen to have the same has probability 2^-57.
type DirRecord struct {
	ID        names.ID  // of names.NewDirID: its last 4 bytes are zero
	Tag       names.Tag // zero in the root's; of others, the first 12 bytes are kept
	Counter   uint32    // at most MaxDirCounter
	HasXattrs bool      // the directory has a sealed set of extended attributes
	Plain     bool      // no regular file in it has one, or a second name
}

// MaxDirCounter is the largest counter of a DirRecord.
const MaxDirCounter = 1<<30 - 1

const (
	dirTagSize   = 12
	dirHasXattrs = 1 << 31 // beside the counter
	dirPlain     = 1 << 30
)

// IsRoot tells whether the directory is the volume's root.
func (d *DirRecord) IsRoot() bool {
	return d.Tag == names.Tag{}
}

// At tells whether the directory belongs where a name has that tag.
func (d *DirRecord) At(tag names.Tag) bool {
	return subtle.ConstantTimeCompare(d.Tag[:dirTagSize], tag[:dirTagSize]) == 1
}

// SealDir returns the target of the symlink that stores d.
func (s *Sealer) SealDir(d *DirRecord) string {
	if !isZero(d.ID[names.DirIDSize:]) {
		panic("format: the ID is no directory's") // it would be cut short
	}
	if d.Counter > MaxDirCounter {
		panic("format: counter of a directory out of range")
	}
	last := d.Counter
	if d.HasXattrs {
		last |= dirHasXattrs
	}
	if d.Plain {
		last |= dirPlain
	}
	b := make([]byte, 0, names.DirIDSize+dirTagSize+4)
	b = append(b, d.ID[:names.DirIDSize]...)
	b = append(b, d.Tag[:dirTagSize]...)
	b = le.AppendUint32(b, last)
	return s.sealTarget(ad(adDir), b)
}

// OpenDir is the inverse of SealDir, but for the last 4 bytes of the tag, which
// are zero. That the record is this directory's is for At to tell.
func (s *Sealer) OpenDir(target string) (*DirRecord, error) {
	b, err := s.openTarget(ad(adDir), target)
	if err != nil {
		return nil, fmt.Errorf("directory record: %w", err)
	}
	r := reader{b: b}
	d := &DirRecord{}
	copy(d.ID[:], r.take(names.DirIDSize))
	copy(d.Tag[:], r.take(dirTagSize))
	last := r.u32()
	d.Counter, d.HasXattrs, d.Plain = last&MaxDirCounter, last&dirHasXattrs != 0, last&dirPlain != 0
	if !r.done() {
		return nil, fmt.Errorf("directory record: %w", ErrCorrupt)
	}
	return d, nil
}

// SettledRecord is the target of kmsfs.settled in the root: every file whose
// generation is below Settled is settled, and Next is the first generation of
// the next session.
type SettledRecord struct {
	Settled, Next uint64
}

// SealSettled returns the target of the symlink that stores r.
func (s *Sealer) SealSettled(root names.ID, r *SettledRecord) string {
	if r.Settled > r.Next {
		panic(fmt.Sprintf("format: settled %d after next %d", r.Settled, r.Next))
	}
	b := le.AppendUint64(make([]byte, 0, 16), r.Settled)
	b = le.AppendUint64(b, r.Next)
	return s.sealTarget(ad(adSettled, root[:]), b)
}

// OpenSettled is the inverse of SealSettled.
func (s *Sealer) OpenSettled(root names.ID, target string) (*SettledRecord, error) {
	b, err := s.openTarget(ad(adSettled, root[:]), target)
	if err != nil {
		return nil, fmt.Errorf("settled record: %w", err)
	}
	r := reader{b: b}
	rec := &SettledRecord{Settled: r.u64(), Next: r.u64()}
	if !r.done() || rec.Settled > rec.Next {
		return nil, fmt.Errorf("settled record: %w", ErrCorrupt)
	}
	return rec, nil
}
