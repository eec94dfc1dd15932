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
	k, err := s.resolveKey(in.TargetKeyID)
	if err != nil {
		return nil, err
	}
	return s.onAlias(caller, kmsapi.OpCreateAlias, in.AliasName, []*key{k}, func() error {
		if s.index.alias(in.AliasName) != nil {
			return errorf(kmsapi.CodeAlreadyExists, "An alias with the name %s already exists", aliasARN(in.AliasName))
		}
		if err := s.roomForAlias(k); err != nil {
			return err
		}
		now := s.now()
		return s.putAlias(&alias{Schema: recordSchema, Name: in.AliasName, TargetKeyID: k.record.ID, CreatedAt: now, UpdatedAt: now})
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
	old, from, err := s.aliasAndKey(in.AliasName)
	if err != nil {
		return nil, err
	}
	to, err := s.resolveKey(in.TargetKeyID)
	if err != nil {
		return nil, err
	}
	if err := s.permitted(access{caller: caller, action: kmsapi.OpUpdateAlias, key: from, anyState: true}); err != nil {
		return nil, err
	}
	return s.onAlias(caller, kmsapi.OpUpdateAlias, in.AliasName, []*key{to}, func() error {
		if from != to {
			if err := s.roomForAlias(to); err != nil {
				return err
			}
		}
		a := *old
		a.TargetKeyID, a.UpdatedAt = to.record.ID, s.now()
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
	_, k, err := s.aliasAndKey(in.AliasName)
	if err != nil {
		return nil, err
	}
	return s.onAlias(caller, kmsapi.OpDeleteAlias, in.AliasName, []*key{k}, func() error {
		if err := s.db.Update(func(tx store.SealedTx) error { return tx.Delete(in.AliasName) }); err != nil {
			return err
		}
		s.index.deleteAlias(in.AliasName)
		return nil
	})
}

// ListAliases returns a page of all aliases, or of one key's.
func (s *Service) ListAliases(_ context.Context, caller Caller, in *kmsapi.ListAliasesInput) (*kmsapi.ListAliasesOutput, error) {
	var v violations
	v.optionalText(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.number(in.Limit, "limit", 1, 100)
	v.optionalText(in.Marker, "marker", 1024)
	if err := v.err(); err != nil {
		return nil, err
	}
	only := ""
	if in.KeyID != nil {
		k, err := s.resolveKey(*in.KeyID)
		if err != nil {
			return nil, err
		}
		only = k.record.ID
	}
	out := &kmsapi.ListAliasesOutput{Aliases: []kmsapi.AliasListEntry{}}
	err := s.perform(access{caller: caller, action: kmsapi.OpListAliases}, func(materials) error {
		list, next, err := page(s.index.aliasList(only), func(a *alias) string { return a.Name }, in.Limit, 50, in.Marker)
		if err != nil {
			return err
		}
		for _, a := range list {
			out.Aliases = append(out.Aliases, kmsapi.AliasListEntry{
				AliasArn:        aliasARN(a.Name),
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

// onAlias performs an action on an alias and each of keys, then runs do.
func (s *Service) onAlias(caller Caller, action, name string, keys []*key, do func() error) (*kmsapi.Empty, error) {
	for _, k := range keys {
		if err := s.permitted(access{caller: caller, action: action, key: k}); err != nil {
			return nil, err
		}
	}
	err := s.perform(access{caller: caller, action: action, alias: aliasARN(name)}, func(materials) error { return do() })
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// permitted is perform for an access that is only a condition of another one.
func (s *Service) permitted(a access) error {
	return s.perform(a, func(materials) error { return nil })
}

func (s *Service) aliasAndKey(name string) (*alias, *key, error) {
	a := s.index.alias(name)
	if a == nil {
		return nil, nil, errorf(kmsapi.CodeNotFound, "Alias %s is not found.", aliasARN(name))
	}
	k, err := s.keyNamed(a.TargetKeyID)
	return a, k, err
}

func (s *Service) roomForAlias(k *key) error {
	if len(s.index.aliasList(k.record.ID)) >= kmsapi.MaxAliasesPerKey {
		return errorf(kmsapi.CodeLimitExceeded, "The number of aliases for key %s has reached its limit of %d.", k.arn, kmsapi.MaxAliasesPerKey)
	}
	return nil
}

func (s *Service) putAlias(a *alias) error {
	if err := s.db.Update(func(tx store.SealedTx) error { return putRecord(tx, a.Name, a) }); err != nil {
		return err
	}
	s.index.setAlias(a)
	return nil
}
