package format

import (
	"fmt"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/names"
)

// What an entry of a NameRecord stands for.
const (
	KindFile    = 1
	KindDir     = 2
	KindSymlink = 3
	KindSpecial = 4 // FIFO, socket or device
)

const (
	maxNameEntries = 2
	// MaxRecordPath bounds a path in a name record, so that two entries fit the
	// target of a symlink.
	MaxRecordPath = 1024
)

// NameRecord is the target of kmsfs.ln.NAME: what may be found under a name
// besides what is bound to it by its own header or record. Two entries occur
// while one object replaces another.
type NameRecord struct {
	Entries []NameEntry
}

// NameEntry is one object a name may stand for.
type NameEntry struct {
	ID      names.ID
	Kind    uint8
	Mode    uint32 // of a special file: its S_IFMT bits
	Rdev    uint64 // of a device
	Wrapped []byte // of a file: its data key, wrapped under Path
	Path    string
}

func (e *NameEntry) check() error {
	special, device := false, false
	switch e.Mode {
	case unix.S_IFCHR, unix.S_IFBLK:
		special, device = true, true
	case unix.S_IFIFO, unix.S_IFSOCK:
		special = true
	case 0:
	default:
		return fmt.Errorf("name record: mode %#o", e.Mode)
	}
	switch {
	case e.Kind < KindFile || e.Kind > KindSpecial:
		return fmt.Errorf("name record: unknown kind %d", e.Kind)
	case special != (e.Kind == KindSpecial):
		return fmt.Errorf("name record: mode %#o of kind %d", e.Mode, e.Kind)
	case e.Rdev != 0 && !device:
		return fmt.Errorf("name record: device number of no device")
	case len(e.Wrapped) > MaxWrappedKey || len(e.Path) > MaxRecordPath:
		return fmt.Errorf("name record: wrapped key of %d bytes and path of %d: %w", len(e.Wrapped), len(e.Path), ErrTooLarge)
	case len(e.Wrapped) != 0 && e.Kind != KindFile || e.Path != "" && len(e.Wrapped) == 0:
		return fmt.Errorf("name record: a wrapped key or path that is no file's")
	}
	return nil
}

func (r *NameRecord) check() error {
	if len(r.Entries) < 1 || len(r.Entries) > maxNameEntries {
		return fmt.Errorf("name record: %d entries", len(r.Entries))
	}
	for i := range r.Entries {
		if err := r.Entries[i].check(); err != nil {
			return err
		}
	}
	return nil
}

// SealName returns the target of the symlink that stores rec for the name with
// that tag in dir.
func (s *Sealer) SealName(dir names.ID, tag names.Tag, rec *NameRecord) (string, error) {
	if err := rec.check(); err != nil {
		return "", err
	}
	b := []byte{byte(len(rec.Entries))}
	for _, e := range rec.Entries {
		b = append(b, e.ID[:]...)
		b = append(b, e.Kind)
		b = le.AppendUint32(b, e.Mode)
		b = le.AppendUint64(b, e.Rdev)
		b = le.AppendUint16(b, uint16(len(e.Wrapped)))
		b = append(b, e.Wrapped...)
		b = le.AppendUint16(b, uint16(len(e.Path)))
		b = append(b, e.Path...)
	}
	return s.sealTarget(ad(adName, dir[:], tag[:]), b), nil
}

// OpenName is the inverse of SealName.
func (s *Sealer) OpenName(dir names.ID, tag names.Tag, target string) (*NameRecord, error) {
	b, err := s.openTarget(ad(adName, dir[:], tag[:]), target)
	if err != nil {
		return nil, fmt.Errorf("name record: %w", err)
	}
	r := reader{b: b}
	count := r.u8()
	rec := &NameRecord{}
	for i := uint8(0); i < count && !r.bad; i++ {
		e := NameEntry{ID: r.id(), Kind: r.u8(), Mode: r.u32(), Rdev: r.u64()}
		if w := r.bytes(int(r.u16()), MaxWrappedKey); len(w) > 0 {
			e.Wrapped = w
		}
		e.Path = string(r.bytes(int(r.u16()), MaxRecordPath))
		rec.Entries = append(rec.Entries, e)
	}
	if !r.done() || rec.check() != nil {
		return nil, fmt.Errorf("name record: %w", ErrCorrupt)
	}
	return rec, nil
}
