package posixacl

import "slices"

const permBits = 0o777

// EquivMode returns the permission bits that a file with this access ACL shows,
// and whether they say all of it, so that no ACL need be stored.
func (a ACL) EquivMode() (perm uint32, equiv bool) {
	for _, e := range a {
		if e.Tag == UserObj {
			perm |= uint32(e.Perm) << 6
		} else if e.Tag == Other {
			perm |= uint32(e.Perm)
		}
	}
	if class := a.groupClass(); class != nil {
		perm |= uint32(class.Perm) << 3
	}
	return perm, a.minimal()
}

// Create returns what a new file gets in a directory with the default ACL def:
// its access ACL, nil if the mode says all of it, and its mode. The umask plays
// no part: where there is a default ACL it replaces the umask. (A new directory
// also inherits def itself.)
func Create(def ACL, mode uint32) (ACL, uint32) {
	acl, perm := slices.Clone(def), mode&permBits
	limit := func(e *Entry, shift int) {
		e.Perm &= uint16(perm >> shift & 7)
		perm &^= (7 &^ uint32(e.Perm)) << shift
	}
	for i := range acl {
		if acl[i].Tag == UserObj {
			limit(&acl[i], 6)
		} else if acl[i].Tag == Other {
			limit(&acl[i], 0)
		}
	}
	if class := acl.groupClass(); class != nil {
		limit(class, 3)
	}
	mode = mode&^permBits | perm
	if acl.minimal() {
		return nil, mode
	}
	return acl, mode
}

// Chmod returns what chmod(mode) makes of an access ACL: the bits of the group
// go to the mask, which bounds every named user and group, if there is one.
func Chmod(acl ACL, mode uint32) ACL {
	acl = slices.Clone(acl)
	for i := range acl {
		if acl[i].Tag == UserObj {
			acl[i].Perm = uint16(mode >> 6 & 7)
		} else if acl[i].Tag == Other {
			acl[i].Perm = uint16(mode & 7)
		}
	}
	if class := acl.groupClass(); class != nil {
		class.Perm = uint16(mode >> 3 & 7)
	}
	return acl
}

// groupClass returns the entry that the group bits of a mode stand for: the
// mask, or without one the owning group.
func (a ACL) groupClass() *Entry {
	var class *Entry
	for i := range a {
		if a[i].Tag == Mask || a[i].Tag == GroupObj {
			class = &a[i] // the mask comes last
		}
	}
	return class
}

// minimal tells whether the ACL has only the entries that a mode has.
func (a ACL) minimal() bool {
	for _, e := range a {
		if e.Tag == User || e.Tag == Group || e.Tag == Mask {
			return false
		}
	}
	return true
}
