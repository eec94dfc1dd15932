package format

import (
	"fmt"
	"slices"
	"strings"

	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/fs/internal/siv"
)

const (
	maxXattrName = 255     // XATTR_NAME_MAX
	maxXattrSet  = 1 << 16 // XATTR_SIZE_MAX, of the one backing attribute
)

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// XattrSet is all the extended attributes of one object, sorted by name.
type XattrSet []Xattr

func (x XattrSet) find(name string) (int, bool) {
	return slices.BinarySearchFunc(x, name, func(a Xattr, name string) int { return strings.Compare(a.Name, name) })
}

// Get returns the value of an attribute.
func (x XattrSet) Get(name string) (value []byte, ok bool) {
	if i, ok := x.find(name); ok {
		return x[i].Value, true
	}
	return nil, false
}

// With returns a set in which name has value. x is unchanged.
func (x XattrSet) With(name string, value []byte) XattrSet {
	i, ok := x.find(name)
	x = slices.Clone(x)
	if ok {
		x[i].Value = value
		return x
	}
	return slices.Insert(x, i, Xattr{name, value})
}

// Without returns a set without name. x is unchanged.
func (x XattrSet) Without(name string) XattrSet {
	i, ok := x.find(name)
	if !ok {
		return x
	}
	return slices.Delete(slices.Clone(x), i, i+1)
}

func (x XattrSet) check() error {
	size, last := siv.Overhead, ""
	for _, a := range x {
		if len(a.Name) > maxXattrName || strings.Contains(a.Name, "\x00") || a.Name <= last {
			return fmt.Errorf("extended attributes: %q after %q", a.Name, last)
		}
		last = a.Name
		size += 2 + len(a.Name) + 4 + len(a.Value)
		if size > maxXattrSet {
			return fmt.Errorf("extended attributes: %w", ErrTooLarge)
		}
	}
	return nil
}

// SealXattrs returns the value of the backing attribute that stores x, or
// ErrTooLarge. The object's ID as associated data keeps it from serving another
// object.
func (s *Sealer) SealXattrs(object names.ID, x XattrSet) ([]byte, error) {
	if err := x.check(); err != nil {
		return nil, err
	}
	var b []byte
	for _, a := range x {
		b = le.AppendUint16(b, uint16(len(a.Name)))
		b = append(b, a.Name...)
		b = le.AppendUint32(b, uint32(len(a.Value)))
		b = append(b, a.Value...)
	}
	return s.xattrs.Seal(ad(adXattrs, object[:]), b), nil
}

// OpenXattrs is the inverse of SealXattrs.
func (s *Sealer) OpenXattrs(object names.ID, sealed []byte) (XattrSet, error) {
	b, err := s.xattrs.Open(ad(adXattrs, object[:]), sealed)
	if err != nil || len(sealed) > maxXattrSet {
		return nil, fmt.Errorf("extended attributes: %w", ErrCorrupt)
	}
	var x XattrSet
	r := reader{b: b}
	for len(r.b) > 0 {
		name := string(r.bytes(int(r.u16()), maxXattrName))
		x = append(x, Xattr{name, r.bytes(int(r.u32()), maxXattrSet)})
	}
	if !r.done() || x.check() != nil {
		return nil, fmt.Errorf("extended attributes: %w", ErrCorrupt)
	}
	return x, nil
}
