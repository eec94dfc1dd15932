package keysvc

import (
	"context"
	"errors"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// inAccount is the caller as the root user of an account. The superuser and the owner
// of the service are that of every account, and must say so where an account's
// policies decide.
func inAccount(c Caller, account string) (Caller, error) {
	switch {
	case !identity.IsAccount(account):
		return c, errorf(kmsapi.CodeValidation, "%s is not an account: 12 digits.", account)
	case c.Account == account:
		return c, nil
	case c.Peer == nil || !isAccountRoot(c):
		return c, errorf(kmsapi.CodeAccessDenied, "User: %s is not the root user of account %s", c.ARN, account)
	}
	c.Principal = accountRoot(account)
	return c, nil
}

// accountRoot is the root user of an account.
func accountRoot(account string) policy.Principal {
	return policy.Principal{Type: policy.Account, ARN: "arn:aws:iam::" + account + ":root", Account: account}
}

// identityProtocol is how the CLI asks for IAM's actions.
func identityProtocol() jsonProtocol {
	return jsonProtocol{"iam", kmsapi.IdentityTargetPrefix, identityActions()}
}

// identityActions are IAM's as far as this service has them.
func identityActions() map[string]action {
	m := map[string]action{
		kmsapi.OpCreateUser:     as((*Service).CreateUser),
		kmsapi.OpListUsers:      as((*Service).ListUsers),
		kmsapi.OpCreateRole:     as((*Service).CreateRole),
		kmsapi.OpListRoles:      as((*Service).ListRoles),
		kmsapi.OpUpdateRole:     as((*Service).UpdateRole),
		kmsapi.OpUpdateTrust:    as((*Service).UpdateAssumeRolePolicy),
		kmsapi.OpCreateAccess:   as((*Service).CreateAccessKey),
		kmsapi.OpListAccess:     as((*Service).ListAccessKeys),
		kmsapi.OpUpdateAccess:   as((*Service).UpdateAccessKey),
		kmsapi.OpDeleteAccess:   as((*Service).DeleteAccessKey),
		kmsapi.OpCreatePolicy:   as((*Service).CreatePolicy),
		kmsapi.OpGetPolicy:      as((*Service).GetPolicy),
		kmsapi.OpListPolicies:   as((*Service).ListPolicies),
		kmsapi.OpDeletePolicy:   as((*Service).DeletePolicy),
		kmsapi.OpCreateVersion:  as((*Service).CreatePolicyVersion),
		kmsapi.OpGetVersion:     as((*Service).GetPolicyVersion),
		kmsapi.OpListVersions:   as((*Service).ListPolicyVersions),
		kmsapi.OpDefaultVersion: as((*Service).SetDefaultPolicyVersion),
		kmsapi.OpDeleteVersion:  as((*Service).DeletePolicyVersion),
	}
	for _, kind := range []identity.Kind{identity.User, identity.Role} {
		on(m, kind, kmsapi.OpGet, (*Service).getEntity)
		on(m, kind, kmsapi.OpDelete, (*Service).deleteEntity)
		on(m, kind, kmsapi.OpTag, (*Service).tagEntity)
		on(m, kind, kmsapi.OpUntag, (*Service).untagEntity)
		on(m, kind, kmsapi.OpListTags, (*Service).listEntityTags)
		on(m, kind, kmsapi.OpAttach, (*Service).attachPolicy)
		on(m, kind, kmsapi.OpDetach, (*Service).detachPolicy)
		on(m, kind, kmsapi.OpListAttached, (*Service).listAttached)
		on(m, kind, kmsapi.OpPutInline, (*Service).putInline)
		on(m, kind, kmsapi.OpGetInline, (*Service).getInline)
		on(m, kind, kmsapi.OpDeleteInline, (*Service).deleteInline)
		on(m, kind, kmsapi.OpListInline, (*Service).listInline)
		on(m, kind, kmsapi.OpPutBoundary, (*Service).putBoundary)
		on(m, kind, kmsapi.OpDeleteBoundary, (*Service).deleteBoundary)
	}
	return m
}

// subject is the user or role that an action is on, and who asks.
type subject struct {
	caller Caller
	kind   identity.Kind
	name   string
	action string // as a policy writes it, iam:...
	// conditions adds the condition keys of the request's other parameters.
	conditions func(*policy.Context)
}

// given is sub with a parameter that policies may have conditions on.
func (sub subject) given(key, value string) subject {
	sub.conditions = func(c *policy.Context) { c.Set(key, value) }
	return sub
}

// on adds the action on users or on roles of which there is one for either.
func on[In interface{ Name(kind string) string }, Out any](m map[string]action, kind identity.Kind, op func(kind string) string, method func(*Service, subject, *In) (*Out, error)) {
	name := op(kind.Title())
	m[name] = as(func(s *Service, _ context.Context, caller Caller, in *In) (*Out, error) {
		sub := subject{caller: caller, kind: kind, name: (*in).Name(kind.Title()), action: iamAction(name)}
		if name == kmsapi.OpGet(kmsapi.KindUser) && sub.name == "" {
			sub.name = caller.Username // whoever asks
		}
		var v violations
		v.entityName(kind, sub.name)
		if err := v.err(); err != nil {
			return nil, err
		}
		return method(s, sub, in)
	})
}

// iamAction is an action as a policy writes it.
func iamAction(op string) string { return "iam:" + op }

// onEntity performs an action on a user or a role. That there is none is told only to
// those who may do it.
func (s *Service) onEntity(sub subject, do func(*identity.Entity) error) error {
	e := s.identities.Find(sub.kind, sub.caller.Account, sub.name)
	asked := e
	if e == nil {
		asked = &identity.Entity{Kind: sub.kind, Account: sub.caller.Account, Path: "/", Name: sub.name}
	}
	conditions := func(c *policy.Context) {
		describeEntity(c, asked)
		if sub.conditions != nil {
			sub.conditions(c)
		}
	}
	return s.performIAM(sub.caller, sub.action, asked.ARN(), conditions, func() error {
		if e == nil {
			return identity.NoSuch(sub.kind, sub.name)
		}
		return do(e)
	})
}

// changeEntity is onEntity for an action that changes it. No other change happens
// between the look at the entity and the return.
func (s *Service) changeEntity(sub subject, change func(*identity.Entity) (*identity.Entity, error)) (*kmsapi.Empty, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	err := s.onEntity(sub, func(e *identity.Entity) error {
		changed, err := change(e)
		if err != nil || changed == e {
			return err
		}
		return s.putEntity(changed, nil)
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// performIAM performs an action on what IAM calls arn.
func (s *Service) performIAM(caller Caller, action, arn string, conditions func(*policy.Context), do func() error) error {
	a := access{caller: caller, action: action, entity: arn, conditions: func(c *policy.Context) {
		c.Set("aws:ResourceAccount", identity.AccountIn(arn))
		if conditions != nil {
			conditions(c)
		}
	}}
	return s.perform(a, func(materials) error { return do() })
}

// describeEntity sets what conditions may ask about a user or a role.
func describeEntity(c *policy.Context, e *identity.Entity) {
	for _, t := range e.Tags {
		c.Set("aws:ResourceTag/"+t.Key, t.Value)
		c.Set("iam:ResourceTag/"+t.Key, t.Value)
	}
	if e.Boundary != "" {
		c.Set(boundaryCondition, e.Boundary)
	}
}

// The condition keys of IAM's actions that this service has.
const (
	boundaryCondition = "iam:PermissionsBoundary"
	policyCondition   = "iam:PolicyARN"
)

// checkPolicy refuses a text that is no policy, with all that is wrong with it.
func checkPolicy(kind policy.Kind, text string) (*policy.Document, error) {
	d, err := policy.Parse(kind, []byte(text))
	if err != nil {
		return nil, malformed("Syntax errors in policy", err)
	}
	return d, nil
}

// malformed is IAM's refusal of a policy's text.
func malformed(what string, err error) error {
	var faults policy.Faults
	if !errors.As(err, &faults) {
		return err
	}
	return errorf(kmsapi.CodeMalformedDocument, "%s: %s", what, faults.Error())
}
