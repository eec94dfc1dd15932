// Package posixacl is the arithmetic of POSIX access control lists, as the
// kernel's fs/posix_acl.c does it: what a default ACL makes of a new file's
// mode, and what chmod makes of an access ACL. It reads and writes the value of
// the attributes system.posix_acl_access and system.posix_acl_default.
//
// A FUSE file system that stores ACLs in sealed attributes must do this itself:
// the kernel checks access by what it is told and leaves inheritance to it.
package posixacl

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The names of the attributes.
const (
	AccessName  = "system.posix_acl_access"
	DefaultName = "system.posix_acl_default"
)

// Tags of entries, in the order they must have in a list.
const (
	UserObj  = 0x01
	User     = 0x02
	GroupObj = 0x04
	Group    = 0x08
	Mask     = 0x10
	Other    = 0x20
)

const (
	version    = 2
	headerSize = 4
	entrySize  = 8
	noID       = 1<<32 - 1 // of entries that name nobody
)

var (
	// ErrInvalid is what the kernel answers EINVAL to.
	ErrInvalid = errors.New("invalid access control list")
	// ErrVersion is what the kernel answers EOPNOTSUPP to.
	ErrVersion = errors.New("unknown version of access control list")
)

// Entry grants permissions (read 4, write 2, execute 1).
type Entry struct {
	Tag  uint16
	Perm uint16
	ID   uint32 // of User and Group; ignored in the others
}

// ACL is a valid list: Parse and the functions here return no other.
type ACL []Entry

// Parse parses and validates an attribute's value. A list without entries is
// nil: setting it means to remove the ACL.
func Parse(b []byte) (ACL, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalid, len(b))
	}
	if v := binary.LittleEndian.Uint32(b); v != version {
		return nil, fmt.Errorf("%w: %d", ErrVersion, v)
	}
	b = b[headerSize:]
	if len(b)%entrySize != 0 {
		return nil, fmt.Errorf("%w: %d bytes of entries", ErrInvalid, len(b))
	}
	if len(b) == 0 {
		return nil, nil
	}
	acl := make(ACL, 0, len(b)/entrySize)
	for ; len(b) > 0; b = b[entrySize:] {
		e := Entry{
			Tag:  binary.LittleEndian.Uint16(b),
			Perm: binary.LittleEndian.Uint16(b[2:]),
			ID:   binary.LittleEndian.Uint32(b[4:]),
		}
		if e.Tag != User && e.Tag != Group {
			e.ID = noID
		}
		acl = append(acl, e)
	}
	if err := acl.valid(); err != nil {
		return nil, err
	}
	return acl, nil
}

// Marshal returns the attribute's value.
func (a ACL) Marshal() []byte {
	b := make([]byte, 0, headerSize+len(a)*entrySize)
	b = binary.LittleEndian.AppendUint32(b, version)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.Tag)
		b = binary.LittleEndian.AppendUint16(b, e.Perm)
		b = binary.LittleEndian.AppendUint32(b, e.ID)
	}
	return b
}

// valid is posix_acl_valid: owner, users, owning group, groups, mask, others,
// in this order, with a mask wherever a user or group is named.
func (a ACL) valid() error {
	next, needsMask := uint16(UserObj), false
	for i, e := range a {
		ok := e.Perm&^7 == 0
		switch e.Tag {
		case UserObj:
			ok = ok && next == UserObj
			next = User
		case User:
			ok = ok && next == User && e.ID != noID
			needsMask = true
		case GroupObj:
			ok = ok && next == User
			next = Group
		case Group:
			ok = ok && next == Group && e.ID != noID
			needsMask = true
		case Mask:
			ok = ok && next == Group
			next = Other
		case Other:
			ok = ok && (next == Other || next == Group && !needsMask)
			next = 0
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("%w: entry %d: %+v", ErrInvalid, i, e)
		}
	}
	if next != 0 {
		return fmt.Errorf("%w: it ends without an entry for others", ErrInvalid)
	}
	return nil
}
