package format

import (
	"fmt"
	"strings"

	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/fs/internal/siv"
)

// symlinkFields precede the target: ID, parent and tag.
const symlinkFields = 3 * 16

// MaxSymlink is the longest target whose sealed form is a target Linux stores.
const MaxSymlink = maxTarget*6/8 - siv.Overhead - symlinkFields // 3007

// Symlink is a user's symlink, in the target of the backing one.
type Symlink struct {
	ID     names.ID
	Parent names.ID
	Tag    names.Tag
	Target string
}

func (l *Symlink) check() error {
	switch {
	case len(l.Target) > MaxSymlink:
		return fmt.Errorf("symlink target of %d bytes: %w", len(l.Target), ErrTooLarge)
	case l.Target == "", strings.Contains(l.Target, "\x00"):
		return fmt.Errorf("symlink target is empty or holds a NUL")
	}
	return nil
}

// SealSymlink returns the target of the backing symlink. It fails with
// ErrTooLarge for targets beyond MaxSymlink.
func (s *Sealer) SealSymlink(l *Symlink) (string, error) {
	if err := l.check(); err != nil {
		return "", err
	}
	b := make([]byte, 0, symlinkFields+len(l.Target))
	b = append(b, l.ID[:]...)
	b = append(b, l.Parent[:]...)
	b = append(b, l.Tag[:]...)
	b = append(b, l.Target...)
	return s.sealTarget(ad(adSymlink), b), nil
}

// OpenSymlink is the inverse of SealSymlink. Parent and Tag tell where the link
// belongs; whether it is there is for the caller to check.
func (s *Sealer) OpenSymlink(backing string) (*Symlink, error) {
	b, err := s.openTarget(ad(adSymlink), backing)
	if err != nil {
		return nil, fmt.Errorf("symlink: %w", err)
	}
	r := reader{b: b}
	l := &Symlink{ID: r.id(), Parent: r.id(), Tag: r.tag()}
	l.Target = string(r.take(len(r.b)))
	if !r.done() || l.check() != nil {
		return nil, fmt.Errorf("symlink: %w", ErrCorrupt)
	}
	return l, nil
}

// SymlinkLength returns the length of the target sealed in a backing target of
// that length, as st_size reports it: no key is needed. It is !ok for lengths
// that SealSymlink does not produce.
func SymlinkLength(backing int) (n int, ok bool) {
	raw := encoding.DecodedLen(max(backing, 0))
	n = raw - siv.Overhead - symlinkFields
	return n, n >= 1 && n <= MaxSymlink && encoding.EncodedLen(raw) == backing
}
