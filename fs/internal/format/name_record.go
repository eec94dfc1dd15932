package format

import (
	"fmt"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/names"
)

// Kind is what a name in a NameRecord stands for.
type Kind uint8

const (
	KindFile    Kind = 1
	KindDir     Kind = 2
	KindSymlink Kind = 3
	KindSpecial Kind = 4 // FIFO, socket or device
)

const (
	maxNameEntries = 2
	// MaxRecordPath bounds a path in a name record, so that two entries fit the
	// target of a symlink.
	MaxRecordPath = 1024
)

// NameRecord is the target of kmsfs.ln.NAME: what may be found under a name
// besides what is bound to it by its own header. Two entries occur while a
// rename replaces one object by another.
type NameRecord struct {
	Entries []NameEntry
}

// NameEntry is one object a name may stand for.
type NameEntry struct {
	Object     names.ID
	Kind       Kind
	Permanent  bool   // an extra hard link or a special file: no rename's trace
	Mode       uint32 // of a special file: its S_IFMT bits
	Rdev       uint64 // of a device
	CMin, CMax uint64 // the binding counters of the object that the entry covers
	WrappedKey []byte // of a file: its data key, wrapped under Path
	Path       string
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
	case e.CMin > e.CMax:
		return fmt.Errorf("name record: counters %d to %d", e.CMin, e.CMax)
	case len(e.WrappedKey) > MaxWrappedKey || len(e.Path) > MaxRecordPath:
		return fmt.Errorf("name record: wrapped key of %d bytes and path of %d: %w", len(e.WrappedKey), len(e.Path), ErrTooLarge)
	case len(e.WrappedKey) != 0 && e.Kind != KindFile || e.Path != "" && len(e.WrappedKey) == 0:
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
func (s *Sealer) SealName(dir names.ID, tag names.Tag, rec NameRecord) (string, error) {
	if err := rec.check(); err != nil {
		return "", err
	}
	b := []byte{byte(len(rec.Entries))}
	for _, e := range rec.Entries {
		b = append(b, e.Object[:]...)
		b = append(b, byte(e.Kind), flags(e.Permanent))
		b = le.AppendUint32(b, e.Mode)
		b = le.AppendUint64(b, e.Rdev)
		b = le.AppendUint64(b, e.CMin)
		b = le.AppendUint64(b, e.CMax)
		b = le.AppendUint16(b, uint16(len(e.WrappedKey)))
		b = append(b, e.WrappedKey...)
		b = le.AppendUint16(b, uint16(len(e.Path)))
		b = append(b, e.Path...)
	}
	return s.sealTarget(ad(adName, dir[:], tag[:]), b)
}

// OpenName is the inverse of SealName.
func (s *Sealer) OpenName(dir names.ID, tag names.Tag, target string) (NameRecord, error) {
	b, err := s.openTarget(ad(adName, dir[:], tag[:]), target)
	if err != nil {
		return NameRecord{}, fmt.Errorf("name record: %w", err)
	}
	r := reader{b: b}
	count := r.u8()
	rec := NameRecord{}
	for i := uint8(0); i < count && !r.bad; i++ {
		e := NameEntry{Object: r.id(), Kind: Kind(r.u8())}
		e.Permanent = r.flag()
		e.Mode, e.Rdev = r.u32(), r.u64()
		e.CMin, e.CMax = r.u64(), r.u64()
		if w := r.bytes(int(r.u16()), MaxWrappedKey); len(w) > 0 {
			e.WrappedKey = w
		}
		e.Path = string(r.bytes(int(r.u16()), MaxRecordPath))
		rec.Entries = append(rec.Entries, e)
	}
	if !r.done() || rec.check() != nil {
		return NameRecord{}, fmt.Errorf("name record: %w", ErrCorrupt)
	}
	return rec, nil
}
