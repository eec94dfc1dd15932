package keysvc

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// CreateGrant lets a principal use a key. The grant counts at once, with or without
// its token.
func (s *Service) CreateGrant(_ context.Context, caller Caller, in *kmsapi.CreateGrantInput) (*kmsapi.CreateGrantOutput, error) {
	operations, constraint, err := checkCreateGrant(in)
	if err != nil {
		return nil, err
	}
	if err := s.knownTokens(in.GrantTokens); err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	a, err := s.accessKey(caller, kmsapi.OpCreateGrant, in.KeyID)
	if err != nil {
		return nil, err
	}
	g := grant.Grant{Name: deref(in.Name), Operations: operations, Constraint: constraint, Issuer: caller.Account, CreatedAt: s.now()}
	a.grant, a.context = &g, constraint.Pairs
	a.conditions = func(c *policy.Context) { describeNewGrant(c, &a.caller, in, &g) }
	var out *kmsapi.CreateGrantOutput
	err = s.perform(a, func(materials) error {
		if err := operationsFit(operations, a.key); err != nil {
			return err
		}
		if g.Grantee, err = s.grantPrincipal(in.GranteePrincipal); err != nil {
			return err
		}
		if in.RetiringPrincipal != nil {
			if g.Retiring, err = s.grantPrincipal(*in.RetiringPrincipal); err != nil {
				return err
			}
		}
		made, err := s.makeGrant(a.key, g, in.DryRun)
		if err != nil {
			return err
		}
		out = &kmsapi.CreateGrantOutput{GrantID: made.ID, GrantToken: made.NewToken(a.key.bytes)}
		return nil
	})
	return out, err
}

// makeGrant stores a new grant on k, unless there is one of the same name that says the
// same: then the request is a repetition.
func (s *Service) makeGrant(k *key, g grant.Grant, dry bool) (*grant.Grant, error) {
	made := k.life.grants.Same(&g)
	if made == nil && k.life.grants.Len() >= kmsapi.MaxGrantsPerKey {
		return nil, errorf(kmsapi.CodeLimitExceeded, "The number of grants for key %s has reached its limit of %d.", k.arn, kmsapi.MaxGrantsPerKey)
	}
	if dry {
		return nil, dryRun()
	}
	if made != nil {
		return made, nil
	}
	made = grant.New(g)
	return made, s.putGrant(k, made)
}

// checkCreateGrant checks all that can be known without the key.
func checkCreateGrant(in *kmsapi.CreateGrantInput) (o grant.Operations, c grant.Constraint, err error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.grantPrincipal(&in.GranteePrincipal, "granteePrincipal")
	v.grantPrincipal(in.RetiringPrincipal, "retiringPrincipal")
	if in.Operations == nil {
		v.add("null", "operations", "Member must not be null")
	}
	o, unknown := grant.OperationsOf(in.Operations...)
	if unknown != "" {
		v.add("'["+strings.Join(in.Operations, ", ")+"]'", "operations",
			"Member must satisfy constraint: [Member must satisfy enum value set: ["+strings.Join(grant.OperationNames(), ", ")+"]]")
	}
	v.grantName(in.Name)
	v.tokens(in.GrantTokens)
	if err := v.err(); err != nil {
		return o, c, err
	}
	switch {
	case o == 0:
		return o, c, errorf(kmsapi.CodeValidation, "A grant must contain at least one operation.")
	case slices.Equal(o.Names(), []string{grant.CreateGrant}):
		return o, c, errorf(kmsapi.CodeValidation, "Grants must not contain only the CreateGrant operation.")
	}
	c, err = checkConstraints(in.Constraints)
	return o, c, err
}

// checkConstraints makes the constraint of a grant. AWS takes one kind at most, and
// counts one that is empty.
func checkConstraints(in *kmsapi.GrantConstraints) (c grant.Constraint, err error) {
	if in == nil {
		return c, nil
	}
	if in.EncryptionContextSubset != nil && in.EncryptionContextEquals != nil {
		return c, errorf(kmsapi.CodeValidation, "More than one constraint supplied")
	}
	c = grant.NewConstraint(in.EncryptionContextSubset, in.EncryptionContextEquals)
	if len(c.Pairs) > kmsapi.MaxGrantConstraintPairs {
		return c, errorf(kmsapi.CodeValidation, "A grant constraint can include up to %d encryption context pairs.", kmsapi.MaxGrantConstraintPairs)
	}
	for _, value := range c.Pairs {
		if utf8.RuneCountInString(value) > kmsapi.MaxGrantConstraintValue {
			return c, errorf(kmsapi.CodeValidation, "The encryption context value in a grant constraint cannot exceed %d characters.", kmsapi.MaxGrantConstraintValue)
		}
	}
	return c, nil
}

// operationsFit refuses operations of other kinds of keys.
func operationsFit(o grant.Operations, k *key) error {
	if other := o &^ grant.Symmetric(); other != 0 {
		return errorf(kmsapi.CodeValidation, "Operation %s is not supported by a key with KeySpec %s and KeyUsage %s.",
			other.Names()[0], k.record.Spec, k.record.Usage)
	}
	return nil
}

var (
	grantPrincipalPattern = regexp.MustCompile(`^[\w+=,.@:/-]+$`)
	grantNamePattern      = regexp.MustCompile(`^[a-zA-Z0-9:/_-]+$`)
)

func (v *violations) grantPrincipal(value *string, member string) {
	v.pattern(value, member, 256, grantPrincipalPattern)
}

func (v *violations) grantName(value *string) { v.pattern(value, "name", 256, grantNamePattern) }

// grantID checks the shape of a grant's id.
func (v *violations) grantID(value string) { v.text(value, "grantId", 128) }

// pattern is optionalText for a member with a pattern.
func (v *violations) pattern(value *string, member string, limit int, p *regexp.Regexp) {
	if value == nil {
		return
	}
	v.text(*value, member, limit)
	if *value != "" && !p.MatchString(*value) {
		v.add(quoted(*value), member, "Member must satisfy regular expression pattern: "+p.String())
	}
}

// knownTokens refuses grant tokens that are none. Grants count without them; and one of
// a grant to somebody else is of no use, but no error either.
func (s *Service) knownTokens(tokens []string) error {
	for _, t := range tokens {
		if _, g := s.grantOfToken(t); g == nil {
			return invalidGrantToken()
		}
	}
	return nil
}

// grantOfToken finds the grant that a token names; nil is none.
func (s *Service) grantOfToken(token string) (*key, *grant.Grant) {
	t, ok := grant.ParseToken(token)
	if !ok {
		return nil, nil
	}
	k := s.index.keyOfBlob(t.KeyID)
	if k == nil {
		return nil, nil
	}
	if g := k.life.grants.Get(t.GrantID); g != nil && g.Verify(t) {
		return k, g
	}
	return nil, nil
}

func invalidGrantToken() error {
	return &kmsapi.Error{Code: kmsapi.CodeInvalidGrantToken, Message: "The grant token is not valid."}
}

// grantPrincipal is whom a grant names by an ARN, and who exists.
func (s *Service) grantPrincipal(arn string) (grant.Principal, error) {
	p, ok := policy.ParsePrincipal(arn)
	if ok && p.Kind != policy.UniqueIDPrincipal && arn != p.Account {
		if id, exists := s.bindIDs()(p); exists {
			return grant.Principal{ARN: arn, ID: principalID(p, id)}, nil
		}
	}
	return grant.Principal{}, invalidPrincipal(arn)
}

func invalidPrincipal(arn string) error {
	return errorf(kmsapi.CodeInvalidArn, "ARN does not refer to a valid principal: %s", arn)
}

// principalID is what a grant knows a principal by: its unique id, or if it has none, as
// accounts and services, what it is called.
func principalID(p policy.NamedPrincipal, unique string) string {
	switch {
	case unique != "":
		return unique
	case p.Kind == policy.AccountPrincipal:
		return p.Account
	}
	return p.Value
}
