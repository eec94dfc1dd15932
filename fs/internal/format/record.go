package format

import (
	"fmt"

	"kmsfs.dev/kmsfs/fs/internal/names"
)

// DirRecord is the target of the symlink kmsfs.dir in every directory: its ID,
// under which its names are encrypted, and where it belongs.
type DirRecord struct {
	ID        names.ID
	Parent    names.ID  // zero in the root's
	Tag       names.Tag // zero in the root's
	Counter   uint64
	HasXattrs bool
}

// IsRoot tells whether the directory is the volume's root.
func (d *DirRecord) IsRoot() bool {
	return d.Parent == names.ID{} && d.Tag == names.Tag{}
}

// SealDir returns the target of the symlink that stores d.
func (s *Sealer) SealDir(d *DirRecord) string {
	b := make([]byte, 0, 64)
	b = append(b, d.ID[:]...)
	b = append(b, d.Parent[:]...)
	b = append(b, d.Tag[:]...)
	b = le.AppendUint64(b, d.Counter)
	b = append(b, flags(d.HasXattrs))
	return s.sealTarget(ad(adDir), b)
}

// OpenDir is the inverse of SealDir. That the record is this directory's is for
// its parent to tell.
func (s *Sealer) OpenDir(target string) (*DirRecord, error) {
	b, err := s.openTarget(ad(adDir), target)
	if err != nil {
		return nil, fmt.Errorf("directory record: %w", err)
	}
	r := reader{b: b}
	d := &DirRecord{ID: r.id(), Parent: r.id(), Tag: r.tag(), Counter: r.u64()}
	d.HasXattrs = r.flag()
	if !r.done() {
		return nil, fmt.Errorf("directory record: %w", ErrCorrupt)
	}
	return d, nil
}

// SettledRecord is the target of kmsfs.settled in the root: every file with a
// generation up to Settled has been settled, and Next is the volume's next one.
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

// flags packs what every record with flags has: one bit.
func flags(bit0 bool) byte {
	if bit0 {
		return 1
	}
	return 0
}

// flag is the inverse of flags.
func (r *reader) flag() bool {
	f := r.u8()
	if f > 1 {
		r.bad = true
	}
	return f == 1
}
