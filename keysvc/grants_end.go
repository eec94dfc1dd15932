package keysvc

import (
	"context"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// RevokeGrant deletes a grant by right of the key's policy.
func (s *Service) RevokeGrant(_ context.Context, caller Caller, in *kmsapi.RevokeGrantInput) (*kmsapi.Empty, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.grantID(in.GrantID)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := checkGrantID(in.GrantID); err != nil {
		return nil, err
	}
	conditions := func(c *policy.Context) { describeService(c, &caller) }
	err := s.changeKeyIf(caller, in.KeyID, kmsapi.OpRevokeGrant, conditions, func(k *key) error {
		g, err := k.grantNamed(in.GrantID)
		if err != nil {
			return err
		}
		return s.endGrant(caller, k, g, in.DryRun)
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// RetireGrant deletes a grant by right of the grant. The key's policy has no say.
func (s *Service) RetireGrant(_ context.Context, caller Caller, in *kmsapi.RetireGrantInput) (*kmsapi.Empty, error) {
	if err := checkRetireGrant(in); err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	a, err := s.accessGrant(caller, in)
	if err != nil {
		return nil, err
	}
	a.context = a.grant.Constraint.Pairs
	err = s.perform(a, func(materials) error { return s.endGrant(caller, a.key, a.grant, in.DryRun) })
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

func checkRetireGrant(in *kmsapi.RetireGrantInput) error {
	var v violations
	v.optionalText(in.GrantToken, "grantToken", 8192)
	v.optionalText(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.optionalText(in.GrantID, "grantId", 128)
	if err := v.err(); err != nil {
		return err
	}
	if byID := in.KeyID != nil && in.GrantID != nil; byID != (in.GrantToken == nil) || in.GrantToken != nil && (in.KeyID != nil || in.GrantID != nil) {
		return errorf(kmsapi.CodeValidation, "Specify either a grant token, or both a key ID and a grant ID.")
	}
	if in.GrantID != nil {
		return checkGrantID(*in.GrantID)
	}
	return nil
}

// accessGrant is an access to the grant that a request to retire it names.
func (s *Service) accessGrant(caller Caller, in *kmsapi.RetireGrantInput) (a access, err error) {
	if in.GrantToken != nil {
		a = access{caller: caller, action: kmsapi.OpRetireGrant}
		if a.key, a.grant = s.grantOfToken(*in.GrantToken); a.grant == nil {
			return a, invalidGrantToken()
		}
		return a, nil
	}
	if a, err = s.accessKey(caller, kmsapi.OpRetireGrant, *in.KeyID); err != nil {
		return a, err
	}
	if a.grant, err = a.key.grantNamed(*in.GrantID); err != nil && a.key.record.Account != caller.Account {
		err = hiddenKey(caller, a.name(), a.key.arn)
	}
	return a, err
}

// grantNamed finds a grant on the key.
func (k *key) grantNamed(id string) (*grant.Grant, error) {
	if g := k.life.grants.Get(id); g != nil {
		return g, nil
	}
	return nil, errorf(kmsapi.CodeNotFound, "Grant ID %s not found", id)
}

func checkGrantID(id string) error {
	if !grant.IsID(id) {
		return errorf(kmsapi.CodeInvalidGrantID, "Invalid grant ID %s", id)
	}
	return nil
}

// endGrant deletes a grant. Call it with changing held.
func (s *Service) endGrant(caller Caller, k *key, g *grant.Grant, dry bool) error {
	if dry {
		return dryRun()
	}
	if err := s.deleteGrants(k, []*grant.Grant{g}); err != nil {
		return err
	}
	s.log.Info("deleted a grant", "key", k.arn, "grant", g.ID, "principal", caller.ARN)
	return nil
}
