package keysvc

import (
	"strings"

	"github.com/google/uuid"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const aliasPrefix = "alias/"

// resolve finds the key that a KeyId names: a key id, a key ARN, an alias name
// or an alias ARN.
func (s *Service) resolve(keyID string) (*key, error) {
	name, err := localName(keyID)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, aliasPrefix) {
		a := s.index.alias(name)
		if a == nil {
			return nil, errorf(kmsapi.CodeNotFound, "Alias %s is not found.", aliasARN(name))
		}
		name = a.TargetKeyID
	}
	return s.keyNamed(name)
}

// resolveKey is resolve for the actions that take no alias.
func (s *Service) resolveKey(keyID string) (*key, error) {
	name, err := localName(keyID)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, aliasPrefix) {
		return nil, errorf(kmsapi.CodeInvalidArn, "Invalid keyId '%s'", keyID)
	}
	return s.keyNamed(name)
}

func (s *Service) keyNamed(id string) (*key, error) {
	if k := s.index.key(id); k != nil {
		return k, nil
	}
	if !plausibleKeyID(id) {
		return nil, errorf(kmsapi.CodeNotFound, "Invalid keyId '%s'", id)
	}
	return nil, errorf(kmsapi.CodeNotFound, "Key '%s' does not exist", keyARN(id))
}

func plausibleKeyID(id string) bool {
	if rest, ok := strings.CutPrefix(id, "mrk-"); ok {
		return len(rest) == 32 && strings.Trim(rest, "0123456789abcdef") == ""
	}
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

// localName strips an ARN of this account and region from a KeyId.
func localName(keyID string) (string, error) {
	if !strings.HasPrefix(keyID, "arn:") {
		return keyID, nil
	}
	p := strings.SplitN(keyID, ":", 6)
	if len(p) != 6 || p[1] != "aws" || p[2] != "kms" {
		return "", errorf(kmsapi.CodeInvalidArn, "Invalid arn %s", keyID)
	}
	name, isKey := strings.CutPrefix(p[5], "key/")
	if !isKey && !strings.HasPrefix(name, aliasPrefix) {
		return "", errorf(kmsapi.CodeInvalidArn, "Invalid arn %s", keyID)
	}
	if isKey && strings.HasPrefix(name, aliasPrefix) {
		return "", errorf(kmsapi.CodeInvalidArn, "Invalid arn %s", keyID)
	}
	if p[3] != Region {
		return "", errorf(kmsapi.CodeNotFound, "Invalid arn %s", p[3])
	}
	if p[4] != Account {
		return "", errorf(kmsapi.CodeNotFound, "Key '%s' does not exist", keyID)
	}
	return name, nil
}
