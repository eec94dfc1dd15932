package keysvc

import (
	"context"
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const reservedAliases = "alias/aws/"

// checkAliasName applies the rules beyond the shape of the member.
func checkAliasName(name string) error {
	rest, ok := strings.CutPrefix(name, aliasPrefix)
	switch {
	case !ok:
		return errorf(kmsapi.CodeValidation, `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case rest == "":
		return errorf(kmsapi.CodeInvalidAliasName, "%s is not a valid alias name", name)
	case strings.Contains(rest, ":"):
		return errorf(kmsapi.CodeInvalidAliasName, "%s contains invalid characters for an alias", name)
	case strings.HasPrefix(name, reservedAliases), name == "alias/aws":
		return &kmsapi.Error{Code: kmsapi.CodeNotAuthorized}
	}
	return nil
}

func checkAlias(in *kmsapi.AliasInput) error {
	var v violations
	v.aliasName(in.AliasName)
	v.text(in.TargetKeyID, "targetKeyId", kmsapi.MaxKeyID)
	if err := v.err(); err != nil {
		return err
	}
	if err := checkAliasName(in.AliasName); err != nil {
		return err
	}
	if strings.HasPrefix(in.TargetKeyID, aliasPrefix) || strings.Contains(in.TargetKeyID, ":alias/") {
		return errorf(kmsapi.CodeValidation, "Aliases must refer to keys. Not aliases")
	}
	return nil
}

// CreateAlias gives a key another name. It is authorized on the alias and on
// the key.
func (s *Service) CreateAlias(_ context.Context, caller Caller, in *kmsapi.AliasInput) (*kmsapi.Empty, error) {
	if err := checkAlias(in); err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	a, err := s.accessKey(caller, kmsapi.OpCreateAlias, in.TargetKeyID)
	if err != nil {
		return nil, err
	}
	n := keyName{caller.Account, in.AliasName}
	return s.onAlias(a, n, func() error {
		if s.index.alias(n) != nil {
			return errorf(kmsapi.CodeAlreadyExists, "An alias with the name %s already exists", n.arn())
		}
		if err := s.roomForAlias(a.key); err != nil {
			return err
		}
		now := s.now()
		return s.putAlias(&alias{Schema: recordSchema, Account: n.account, Name: n.name, TargetKeyID: a.key.record.ID, CreatedAt: now, UpdatedAt: now})
	})
}

// UpdateAlias points an alias at another key. It is authorized on the alias, on
// the key it leaves and on the key it goes to.
func (s *Service) UpdateAlias(_ context.Context, caller Caller, in *kmsapi.AliasInput) (*kmsapi.Empty, error) {
	if err := checkAlias(in); err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	old, from, err := s.accessThroughAlias(caller, kmsapi.OpUpdateAlias, in.AliasName)
	if err != nil {
		return nil, err
	}
	to, err := s.accessKey(caller, kmsapi.OpUpdateAlias, in.TargetKeyID)
	if err != nil {
		return nil, err
	}
	from.anyState = true
	if err := s.permitted(from); err != nil {
		return nil, err
	}
	return s.onAlias(to, old.key(), func() error {
		if from.key != to.key {
			if err := s.roomForAlias(to.key); err != nil {
				return err
			}
		}
		a := *old
		a.TargetKeyID, a.UpdatedAt = to.key.record.ID, s.now()
		return s.putAlias(&a)
	})
}

// DeleteAlias removes a name. The key stays.
func (s *Service) DeleteAlias(_ context.Context, caller Caller, in *kmsapi.DeleteAliasInput) (*kmsapi.Empty, error) {
	var v violations
	v.aliasName(in.AliasName)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := checkAliasName(in.AliasName); err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	old, a, err := s.accessThroughAlias(caller, kmsapi.OpDeleteAlias, in.AliasName)
	if err != nil {
		return nil, err
	}
	return s.onAlias(a, old.key(), func() error {
		if err := s.db.Update(func(tx store.SealedTx) error { return tx.Delete(old.recordName()) }); err != nil {
			return err
		}
		s.index.deleteAlias(old.key())
		return nil
	})
}

// ListAliases returns a page of the aliases of the caller's account, or of one
// key's.
func (s *Service) ListAliases(_ context.Context, caller Caller, in *kmsapi.ListAliasesInput) (*kmsapi.ListAliasesOutput, error) {
	var v violations
	v.optionalText(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.number(in.Limit, "limit", 1, 100)
	v.optionalText(in.Marker, "marker", 1024)
	if err := v.err(); err != nil {
		return nil, err
	}
	var only *key
	if in.KeyID != nil {
		a, err := s.accessKey(caller, kmsapi.OpListAliases, *in.KeyID)
		if err != nil {
			return nil, err
		}
		if a.key.record.Account != caller.Account {
			return nil, hiddenKey(caller, a.name(), a.key.arn)
		}
		only = a.key
	}
	out := &kmsapi.ListAliasesOutput{Aliases: []kmsapi.AliasListEntry{}}
	err := s.perform(access{caller: caller, action: kmsapi.OpListAliases}, func(materials) error {
		list, next, err := page(s.index.aliasList(caller.Account, only), func(a *alias) string { return a.Name }, in.Limit, 50, in.Marker)
		if err != nil {
			return err
		}
		for _, a := range list {
			out.Aliases = append(out.Aliases, kmsapi.AliasListEntry{
				AliasArn:        a.key().arn(),
				AliasName:       a.Name,
				CreationDate:    epochSeconds(a.CreatedAt),
				LastUpdatedDate: epochSeconds(a.UpdatedAt),
				TargetKeyID:     a.TargetKeyID,
			})
		}
		out.NextMarker, out.Truncated = next, next != ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// onAlias performs an action on a key and then on an alias of it, with do.
func (s *Service) onAlias(a access, n keyName, do func() error) (*kmsapi.Empty, error) {
	if err := s.permitted(a); err != nil {
		return nil, err
	}
	err := s.perform(access{caller: a.caller, action: a.action, alias: n.arn()}, func(materials) error { return do() })
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// permitted is perform for an access that is only a condition of another one.
func (s *Service) permitted(a access) error {
	return s.perform(a, func(materials) error { return nil })
}

// accessThroughAlias is an access to the key that an alias of the caller's
// account points at.
func (s *Service) accessThroughAlias(caller Caller, action, name string) (*alias, access, error) {
	n := keyName{caller.Account, name}
	al := s.index.alias(n)
	if al == nil {
		return nil, access{}, errorf(kmsapi.CodeNotFound, "Alias %s is not found.", n.arn())
	}
	a, err := s.accessKey(caller, action, al.TargetKeyID)
	return al, a, err
}

func (s *Service) roomForAlias(k *key) error {
	if len(s.index.aliasesOf(k.record.ID)) >= kmsapi.MaxAliasesPerKey {
		return errorf(kmsapi.CodeLimitExceeded, "The number of aliases for key %s has reached its limit of %d.", k.arn, kmsapi.MaxAliasesPerKey)
	}
	return nil
}

func (s *Service) putAlias(a *alias) error {
	if err := s.db.Update(func(tx store.SealedTx) error { return putRecord(tx, a.recordName(), a) }); err != nil {
		return err
	}
	s.index.setAlias(a)
	return nil
}
