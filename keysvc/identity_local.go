package keysvc

import (
	"fmt"
	"strconv"
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
)

// localUsers are the users of this machine: IAM users under the path local/ of the
// service's account, each named by its number, who exist without a record.
type localUsers struct{ owner uint32 }

// Named implements identity.Implicit.
func (l localUsers) Named(account, name string) *identity.Entity {
	uid, ok := parseUID(name)
	if account != Account || !ok || !l.isUser(uid) {
		return nil
	}
	return localUser(uid)
}

// parseUID reads a user's number, written as localUser writes it.
func parseUID(name string) (uint32, bool) {
	uid, err := strconv.ParseUint(name, 10, 32)
	return uint32(uid), err == nil && strconv.FormatUint(uid, 10) == name
}

func localUser(uid uint32) *identity.Entity {
	return &identity.Entity{
		Kind: identity.User, ID: localUserID(uid),
		Account: Account, Path: localPath, Name: strconv.FormatUint(uint64(uid), 10),
	}
}

// WithID implements identity.Implicit.
func (l localUsers) WithID(id string) *identity.Entity {
	if len(id) != len(localUserID(0)) {
		return nil
	}
	uid, err := strconv.ParseUint(id[len(localUserPrefix):], 16, 32)
	if err != nil || localUserID(uint32(uid)) != id {
		return nil
	}
	return l.Named(Account, strconv.FormatUint(uid, 10))
}

// isUser tells users from those who are the account root, and from -1, which is
// nobody's number.
func (l localUsers) isUser(uid uint32) bool { return uid != 0 && uid != l.owner && uid != ^uint32(0) }

// LocalUserARN is what a user of this machine is called.
func LocalUserARN(uid uint32) string { return localUser(uid).ARN() }

// localPath is the IAM path of the users of this machine.
const localPath = "/local/"

// localUserID is 21 characters as any unique id of a user, and like no random one,
// which has no 0.
func localUserID(uid uint32) string { return fmt.Sprintf("%s%09X", localUserPrefix, uid) }

const localUserPrefix = "AIDALOCALUID"

// isLocalUser tells the users of this machine from those that CreateUser made.
func isLocalUser(e *identity.Entity) bool { return strings.HasPrefix(e.ID, localUserPrefix) }
