package keysvc

import (
	"errors"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
)

// errNoAccessKey says that there is no active access key of that id.
var errNoAccessKey = errors.New("the access key does not exist or is not active")

// principalByAccessKey is the user whose active access key has the id. The answer is of
// this moment: a signature that was good a moment ago does not bring back a user who
// was deleted since.
func (s *Service) principalByAccessKey(id string) (policy.Principal, error) {
	e, k, ok := s.identities.AccessKey(id)
	if !ok || !k.Active {
		return policy.Principal{}, errNoAccessKey
	}
	return e.Principal(), nil
}

// useSecret calls use with the secret of an active access key, which lies in locked
// memory and is wiped when use returns. It is a sigv4.Lookup.
func (s *Service) useSecret(id string, use func(secret []byte)) (found bool, err error) {
	if err := s.begin(); err != nil {
		return false, err
	}
	defer s.running.Done()
	if _, k, ok := s.identities.AccessKey(id); !ok || !k.Active {
		return false, nil
	}
	buf, err := secret.New(accessKeySecretLen)
	if err != nil {
		return false, err
	}
	defer buf.Free()
	err = s.db.View(func(tx store.SealedTx) error {
		_, err := tx.Get(buf.Bytes()[:0], secretRecordName(id))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil // deleted since we looked
	}
	if err != nil {
		return false, err
	}
	use(buf.Bytes())
	return true, nil
}

// effective is what a user, or the role of a session, has: attached and inline policies,
// a permissions boundary, tags. They are of this moment, and the policies are kept
// compiled.
func (s *Service) effective(p *policy.Principal) *identity.Effective {
	switch p.Type {
	case policy.User:
		return s.identities.Effective(p.UniqueID)
	case policy.AssumedRole:
		return s.identities.Effective(p.RoleID)
	}
	return s.identities.Effective("") // the account root has nothing
}

// bindIDs says which principals that a policy names exist, and which unique ids they
// have. identity.Bind uses it for a policy that is put; what was put before is
// loaded with the ids it was bound to then (identity.Bound).
func (s *Service) bindIDs() policy.Resolver { return s.identities.Resolve }
