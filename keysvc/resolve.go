package keysvc

import (
	"strings"

	"github.com/google/uuid"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const aliasPrefix = "alias/"

// keyName is what a KeyId names: a key or an alias of an account.
type keyName struct {
	account string
	name    string // of a key its id, of an alias alias/...
}

func (n keyName) isAlias() bool { return strings.HasPrefix(n.name, aliasPrefix) }

func (n keyName) arn() string {
	if n.isAlias() {
		return aliasARN(n.account, n.name)
	}
	return keyARN(n.account, n.name)
}

// accessNamed is an access to the key that keyID names: a key id, a key ARN, an
// alias name or an alias ARN. Of a key in another account that does not exist
// the caller learns no more than of one that does not let it in.
func (s *Service) accessNamed(caller Caller, action, keyID string) (access, error) {
	a := access{caller: caller, action: action}
	n, err := parseKeyID(caller.Account, keyID)
	if err != nil {
		return a, err
	}
	if n.isAlias() {
		a.requestAlias = n.name
	}
	if a.key, err = s.lookup(caller.Account, n); err != nil && n.account != caller.Account {
		err = hiddenKey(caller, a.name(), n.arn())
	}
	return a, err
}

// accessKey is accessNamed for the actions that take no alias.
func (s *Service) accessKey(caller Caller, action, keyID string) (access, error) {
	if n, err := parseKeyID(caller.Account, keyID); err == nil && n.isAlias() {
		return access{}, errorf(kmsapi.CodeInvalidArn, "Invalid keyId '%s'", keyID)
	}
	return s.accessNamed(caller, action, keyID)
}

// lookup finds a key. An AWS managed key of the account that nobody has asked for yet
// is made.
func (s *Service) lookup(account string, n keyName) (*key, error) {
	id := n.name
	if n.isAlias() {
		al := s.index.alias(n)
		if al == nil && n.account == account && isManagedAlias(n.name) {
			return s.managedKey(n.account, n.name)
		}
		if al == nil {
			return nil, errorf(kmsapi.CodeNotFound, "Alias %s is not found.", n.arn())
		}
		id = al.TargetKeyID
	}
	if k := s.index.key(id); k != nil && k.record.Account == n.account {
		return k, nil
	}
	if !plausibleKeyID(id) {
		return nil, errorf(kmsapi.CodeNotFound, "Invalid keyId '%s'", id)
	}
	return nil, errorf(kmsapi.CodeNotFound, "Key '%s' does not exist", keyARN(n.account, id))
}

func plausibleKeyID(id string) bool {
	if rest, ok := strings.CutPrefix(id, "mrk-"); ok {
		return len(rest) == 32 && strings.Trim(rest, "0123456789abcdef") == ""
	}
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

// parseKeyID takes an ARN of this region apart. Everything else is a name in the
// account.
func parseKeyID(account, keyID string) (keyName, error) {
	if !strings.HasPrefix(keyID, "arn:") {
		return keyName{account, keyID}, nil
	}
	rest, isKMS := strings.CutPrefix(keyID, "arn:aws:kms:")
	region, rest, ok1 := strings.Cut(rest, ":")
	owner, resource, ok2 := strings.Cut(rest, ":")
	if !isKMS || !ok1 || !ok2 {
		return keyName{}, errorf(kmsapi.CodeInvalidArn, "Invalid arn %s", keyID)
	}
	name, isKey := strings.CutPrefix(resource, "key/")
	if isKey == strings.HasPrefix(name, aliasPrefix) {
		return keyName{}, errorf(kmsapi.CodeInvalidArn, "Invalid arn %s", keyID)
	}
	if region != Region {
		return keyName{}, errorf(kmsapi.CodeNotFound, "Invalid arn %s", region)
	}
	if !isAccount(owner) {
		return keyName{}, errorf(kmsapi.CodeNotFound, "Key '%s' does not exist", keyID)
	}
	return keyName{owner, name}, nil
}

// isAccount tells what is the number of an account.
func isAccount(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }
