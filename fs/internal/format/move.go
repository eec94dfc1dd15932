package format

import (
	"fmt"
	"slices"

	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/fs/internal/siv"
)

// MoveXattr is the extended attribute that stores a MoveRecord.
const MoveXattr = "user.kmsfs.mv"

const maxMoveTags = 2

// MoveRecord is an attribute of an object that is being renamed: it allows the
// object at these places too, as long as the counter of its own binding (in the
// header of a file, the record of a directory) is lower.
//
// It is kept to 57 bytes, with two tags, because an inode of ext4 (256 bytes by
// default) has room for 64 under that name: an attribute in a block of its own
// would cost most of what the rename does.
type MoveRecord struct {
	Counter uint64
	Tags    []names.Tag // of the names where it may be: 1 or 2
}

// Allows tells whether the object may be where a name has that tag.
func (m *MoveRecord) Allows(tag names.Tag) bool {
	return slices.Contains(m.Tags, tag) // tags are public: they begin stored names
}

// SealMove returns the value of the attribute that stores m. The object's ID as
// associated data keeps it from moving another object.
func (s *Sealer) SealMove(object names.ID, m *MoveRecord) []byte {
	if len(m.Tags) < 1 || len(m.Tags) > maxMoveTags {
		panic(fmt.Sprintf("format: move record with %d places", len(m.Tags)))
	}
	b := make([]byte, 0, movePlain(maxMoveTags))
	b = le.AppendUint64(b, m.Counter)
	b = append(b, byte(len(m.Tags)))
	for _, t := range m.Tags {
		b = append(b, t[:]...)
	}
	return s.records.Seal(ad(adMove, object[:]), b)
}

// OpenMove is the inverse of SealMove.
func (s *Sealer) OpenMove(object names.ID, sealed []byte) (*MoveRecord, error) {
	if len(sealed) > movePlain(maxMoveTags)+siv.Overhead {
		return nil, fmt.Errorf("move record: %w", ErrCorrupt)
	}
	b, err := s.records.Open(ad(adMove, object[:]), sealed)
	if err != nil {
		return nil, fmt.Errorf("move record: %w", ErrCorrupt)
	}
	r := reader{b: b}
	m := &MoveRecord{Counter: r.u64()}
	count := r.u8()
	if count < 1 || count > maxMoveTags {
		return nil, fmt.Errorf("move record: %w", ErrCorrupt)
	}
	for range count {
		m.Tags = append(m.Tags, r.tag())
	}
	if !r.done() {
		return nil, fmt.Errorf("move record: %w", ErrCorrupt)
	}
	return m, nil
}

// movePlain is the length of a record of n places before it is sealed.
func movePlain(n int) int {
	return 8 + 1 + n*len(names.Tag{})
}
