package keysvc

import (
	"context"
	"slices"
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// keyGrant is a grant and its key.
type keyGrant struct {
	key *key
	*grant.Grant
}

// name orders grants, first by key.
func (g keyGrant) name() string { return g.key.record.ID + "/" + g.ID }

// ListGrants returns a page of the grants on a key, all or those of one grantee.
func (s *Service) ListGrants(_ context.Context, caller Caller, in *kmsapi.ListGrantsInput) (*kmsapi.ListGrantsOutput, error) {
	var v violations
	v.number(in.Limit, "limit", 1, 100)
	v.optionalText(in.Marker, "marker", 1024)
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.optionalText(in.GrantID, "grantId", 128)
	v.grantPrincipal(in.GranteePrincipal, "granteePrincipal")
	if err := v.err(); err != nil {
		return nil, err
	}
	if in.GrantID != nil {
		if err := checkGrantID(*in.GrantID); err != nil {
			return nil, err
		}
	}
	a, err := s.accessKey(caller, kmsapi.OpListGrants, in.KeyID)
	if err != nil {
		return nil, err
	}
	a.conditions = func(c *policy.Context) { describeService(c, &a.caller) }
	var out *kmsapi.ListGrantsOutput
	err = s.perform(a, func(materials) error {
		keep := func(g *grant.Grant) bool { return in.GrantID == nil || g.ID == *in.GrantID }
		if in.GranteePrincipal != nil {
			of, err := s.principalOfGrants(*in.GranteePrincipal)
			if err != nil {
				return err
			}
			wanted := keep
			keep = func(g *grant.Grant) bool { return g.Grantee.ID == of && wanted(g) }
		}
		out, err = s.grantsPage(grantsOf(a.key, keep), in.Limit, in.Marker)
		return err
	})
	return out, err
}

// ListRetirableGrants returns a page of the grants, on keys of any account, that have a
// principal as their retiring principal.
func (s *Service) ListRetirableGrants(_ context.Context, caller Caller, in *kmsapi.ListRetirableGrantsInput) (*kmsapi.ListGrantsOutput, error) {
	var v violations
	v.number(in.Limit, "limit", 1, 100)
	v.optionalText(in.Marker, "marker", 1024)
	v.grantPrincipal(&in.RetiringPrincipal, "retiringPrincipal")
	if err := v.err(); err != nil {
		return nil, err
	}
	p, ok := policy.ParsePrincipal(in.RetiringPrincipal)
	if !ok {
		return nil, invalidPrincipal(in.RetiringPrincipal)
	}
	var out *kmsapi.ListGrantsOutput
	a := access{caller: caller, action: kmsapi.OpListRetirableGrants, principal: &p}
	err := s.perform(a, func(materials) error {
		of, err := s.principalOfGrants(in.RetiringPrincipal)
		if err != nil {
			return err
		}
		var list []keyGrant
		for _, k := range s.index.allKeys() {
			list = append(list, grantsOf(k, func(g *grant.Grant) bool { return g.Retiring.ID == of })...)
		}
		slices.SortFunc(list, func(a, b keyGrant) int { return strings.Compare(a.name(), b.name()) })
		out, err = s.grantsPage(list, in.Limit, in.Marker)
		return err
	})
	return out, err
}

// principalOfGrants is a principal to look for: an ARN, or the unique id that is
// listed in its place when the principal is no more.
func (s *Service) principalOfGrants(name string) (id string, err error) {
	if p, ok := policy.ParsePrincipal(name); ok && p.Kind == policy.UniqueIDPrincipal {
		return name, nil
	}
	p, err := s.grantPrincipal(name)
	return p.ID, err
}

func grantsOf(k *key, keep func(*grant.Grant) bool) []keyGrant {
	found := k.life.grants.List(keep)
	list := make([]keyGrant, len(found))
	for i, g := range found {
		list[i] = keyGrant{k, g}
	}
	return list
}

func (s *Service) grantsPage(list []keyGrant, limit *int, marker *string) (*kmsapi.ListGrantsOutput, error) {
	list, next, err := page(list, keyGrant.name, limit, 50, marker)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListGrantsOutput{Grants: make([]kmsapi.GrantListEntry, len(list)), NextMarker: next, Truncated: next != ""}
	for i, g := range list {
		out.Grants[i] = s.grantEntry(g)
	}
	return out, nil
}

func (s *Service) grantEntry(g keyGrant) kmsapi.GrantListEntry {
	e := kmsapi.GrantListEntry{
		CreationDate:      epochSeconds(g.CreatedAt),
		GrantID:           g.ID,
		GranteePrincipal:  s.principalName(g.Grantee),
		IssuingAccount:    "arn:aws:iam::" + g.Issuer + ":root",
		KeyID:             g.key.arn,
		Name:              g.Name,
		Operations:        g.Operations.Names(),
		RetiringPrincipal: s.principalName(g.Retiring),
	}
	switch g.Constraint.Kind {
	case grant.Subset:
		e.Constraints = &kmsapi.GrantConstraints{EncryptionContextSubset: g.Constraint.Pairs}
	case grant.Equals:
		e.Constraints = &kmsapi.GrantConstraints{EncryptionContextEquals: g.Constraint.Pairs}
	}
	return e
}

// principalName is a principal's ARN, or its unique id if it is not any more the one
// whom the ARN names.
func (s *Service) principalName(p grant.Principal) string {
	if p.ARN == "" {
		return ""
	}
	if now, err := s.grantPrincipal(p.ARN); err != nil || now.ID != p.ID {
		return p.ID
	}
	return p.ARN
}
