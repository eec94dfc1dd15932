package keysvc

import (
	"strconv"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// grantFor tells how the grants on a's key cover it, and by which one.
func (s *Service) grantFor(a *access) (policy.Grant, string) {
	if a.key == nil {
		return policy.NoGrant, ""
	}
	caller := granteeOf(&a.caller.Principal)
	var g *grant.Grant
	var reach grant.Reach
	switch grants := &a.key.life.grants; a.action {
	case kmsapi.OpCreateGrant:
		g, reach = grants.FindParent(caller, a.grant)
	case kmsapi.OpRetireGrant:
		g, reach = a.grant, retiredBy(a.grant, a.key.record.Account, caller)
	default:
		g, reach = grants.Find(caller, a.action, a.context)
	}
	switch reach {
	case grant.Direct:
		return policy.GrantToPrincipal, g.ID
	case grant.ByRole:
		return policy.GrantToRole, g.ID
	case grant.ByAccount:
		return policy.GrantToAccount, g.ID
	}
	return policy.NoGrant, ""
}

// retiredBy tells how a caller is one of those who may retire g: the retiring
// principal, the grantee if the operations include it, the account that created the grant
// and the one that owns the key ("Retiring and revoking grants").
func retiredBy(g *grant.Grant, owner string, c grant.Caller) grant.Reach {
	reach := max(g.Retiring.Reach(c), grant.Principal{ID: g.Issuer}.Reach(c), grant.Principal{ID: owner}.Reach(c))
	if g.Operations.Has(grant.RetireGrant) {
		reach = max(reach, g.Grantee.Reach(c))
	}
	return reach
}

// granteeOf is a principal by the ids that principalID gave it.
func granteeOf(p *policy.Principal) grant.Caller {
	switch p.Type {
	case policy.Account:
		return grant.Caller{Self: p.Account}
	case policy.User, policy.AssumedRole:
		return grant.Caller{Self: p.UniqueID, Role: p.RoleID, Account: p.Account}
	case policy.FederatedUser, policy.Service:
		return grant.Caller{Self: p.ARN, Account: p.Account}
	}
	return grant.Caller{}
}

// describeNewGrant sets the condition keys of CreateGrant. Those of the encryption
// context are the constraint's ("AWS KMS condition keys").
func describeNewGrant(c *policy.Context, caller *Caller, in *kmsapi.CreateGrantInput, g *grant.Grant) {
	describeService(c, caller)
	c.Set("kms:GranteePrincipal", in.GranteePrincipal)
	if in.RetiringPrincipal != nil {
		c.Set("kms:RetiringPrincipal", *in.RetiringPrincipal)
	}
	if g.Constraint.Kind != grant.Unconstrained {
		c.Set("kms:GrantConstraintType", string(g.Constraint.Kind))
	}
	c.SetList("kms:GrantOperations", g.Operations.Names())
}

// describeService tells whether a service asks on the caller's behalf.
func describeService(c *policy.Context, caller *Caller) {
	c.Set("kms:GrantIsForAWSResource", strconv.FormatBool(caller.ViaService != ""))
}
