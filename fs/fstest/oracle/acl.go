package oracle

import "encoding/binary"

// acl makes an extended attribute with a POSIX ACL, from a few shapes: one
// that is only a mode, one with users and groups, and ones that are no ACL.
func acl(seed uint64) []byte {
	type entry struct {
		tag, perm uint16
		id        uint32
	}
	const (
		userObj, user, groupObj, group, mask, other = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
		nobody                                      = 0xffffffff
	)
	perm := func(shift uint) uint16 { return uint16(seed>>shift) & 7 }
	var entries []entry
	switch seed % 6 {
	case 0: // only a mode
		entries = []entry{{userObj, perm(8), nobody}, {groupObj, perm(11), nobody}, {other, perm(14), nobody}}
	case 1, 2, 3:
		entries = []entry{
			{userObj, perm(8), nobody}, {user, perm(11), 61001}, {groupObj, perm(14), nobody},
			{group, perm(17), 62001}, {mask, perm(20), nobody}, {other, perm(23), nobody},
		}
	case 4: // a user without a mask is not valid
		entries = []entry{
			{userObj, 7, nobody}, {user, 7, 61001}, {groupObj, 5, nobody}, {other, 0, nobody},
		}
	case 5: // empty: removes the ACL
	}
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}
