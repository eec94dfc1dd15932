package policy

// Policies are all that apply to a request. Nil and empty ones do not.
type Policies struct {
	// Resource is the policy of the resource: the key policy, or of sts:AssumeRole
	// the role's trust policy. Nil is for actions on resources that have none.
	Resource *Document
	// Identity are the policies attached to the caller, in line and managed.
	Identity []*Document
	// Boundary is the caller's permissions boundary.
	Boundary *Document
	// Session are the policies passed to AssumeRole. One of them must allow what the
	// session does.
	Session []*Document
	// Grant is how the grants on the key cover the request.
	Grant Grant
}

// Grant is how a key's grants cover a request. Whether they do (operation, constraints,
// tokens) is decided elsewhere, what it is worth here.
type Grant int

const (
	// NoGrant covers it.
	NoGrant Grant = iota
	// GrantToAccount is one whose grantee is the caller's account. As for a key policy
	// that names the account, the account's own policies decide.
	GrantToAccount
	// GrantToRole is one whose grantee is the caller's role. As for a key policy that
	// names the role, the role's boundary and the session policies limit it.
	GrantToRole
	// GrantToPrincipal is one whose grantee is the caller itself.
	GrantToPrincipal
)

// Evaluate decides a request. In this order ("How AWS enforcement code logic evaluates
// requests to allow or deny access", "Cross-account policy evaluation logic", "Key policies
// in AWS KMS", "Default key policy"):
//
//  1. A Deny that applies, in any of the policies, denies.
//  2. Without a resource policy the caller's own policies decide: an identity policy
//     must allow, and so must the boundary and a session policy where there are any. The
//     account root needs no identity policy.
//  3. A resource policy that allows the caller itself, or "*", allows.
//  4. One that allows the caller's role allows what boundary and session policies do.
//  5. One that allows the caller's account leaves it to the caller's own policies, as in 2.
//  6. A grant to the caller allows, one to its role as in 4, one to its account as in 5.
//  7. Everything else is denied.
//
// From another account than the resource's, 3 and 4 are as 5: both sides must allow. A
// grant to somebody needs no policy of the other account ("Allowing users in other
// accounts to use a KMS key"). A caller without an account is in another one, except a service, for
// which the resource policy alone decides.
//
// Evaluate does not change its arguments and may run concurrently.
func Evaluate(r *Request, p *Policies) Decision {
	e := evaluation{request: r, policies: p}
	if denied := e.explicitDeny(); denied.Statement != nil {
		return denied
	}
	return e.decide()
}

// evaluation is one Evaluate at work.
type evaluation struct {
	request  *Request
	policies *Policies

	// What explicitDeny saw allowed on its way.
	resource, identity, boundary, session verdict
}

// verdict has the first statements of a policy that apply.
type verdict struct {
	document                *Document
	deny                    *Statement
	byAccount, byRole, self *Statement // that allow
}

func (e *evaluation) evaluate(d *Document) verdict {
	v := verdict{document: d}
	for _, c := range d.covering(&e.request.Principal, e.request.Action, e.policies.Boundary != nil) {
		s := &d.statements[c.statement]
		found := &v.self
		switch c.reach {
		case byAccount:
			found = &v.byAccount
		case byRole:
			found = &v.byRole
		}
		if s.Effect == Allow && *found != nil || !s.applies(e.request) {
			continue // one that allows is enough
		}
		if s.Effect == Deny {
			v.deny = s
			return v
		}
		*found = s
	}
	return v
}

// explicitDeny looks through all policies. The result has a Statement if one denies.
func (e *evaluation) explicitDeny() Decision {
	look := func(d *Document, t PolicyType, keep *verdict) Decision {
		v := e.evaluate(d)
		if v.deny != nil {
			return Decision{ExplicitDeny, t, d, v.deny}
		}
		if keep.self == nil {
			*keep = v
		}
		return Decision{}
	}
	p := e.policies
	if p.Resource != nil {
		if d := look(p.Resource, resourceType(p), &e.resource); d.Statement != nil {
			return d
		}
	}
	for _, doc := range p.Identity {
		if d := look(doc, IdentityBased, &e.identity); d.Statement != nil {
			return d
		}
	}
	if p.Boundary != nil {
		if d := look(p.Boundary, PermissionsBoundary, &e.boundary); d.Statement != nil {
			return d
		}
	}
	for _, doc := range p.Session {
		if d := look(doc, SessionPolicy, &e.session); d.Statement != nil {
			return d
		}
	}
	return Decision{}
}

// decide is for what no policy denies.
func (e *evaluation) decide() Decision {
	p, v := e.policies, &e.resource
	byResource := func(s *Statement) Decision { return Decision{Allowed, resourceType(p), p.Resource, s} }
	limits := e.limits()
	denial := Decision{Outcome: ImplicitDeny, Policy: resourceType(p)}

	own := false // whether the caller's own policies decide
	switch {
	case e.crossAccount() && e.request.Principal.Type != Service:
		own = v.self != nil || v.byRole != nil || v.byAccount != nil
	case p.Resource == nil:
		own = true
	case v.self != nil:
		return byResource(v.self)
	case v.byRole != nil && limits.Outcome == Allowed:
		return byResource(v.byRole)
	case v.byRole != nil:
		denial = limits
	default:
		own = v.byAccount != nil
	}
	if own {
		if denial = e.own(limits); denial.Outcome == Allowed {
			return denial
		}
	}
	switch {
	case p.Grant == GrantToPrincipal, p.Grant == GrantToRole && limits.Outcome == Allowed:
		return Decision{Outcome: Allowed, Policy: GrantPolicy}
	case p.Grant == GrantToRole:
		return limits
	case p.Grant == GrantToAccount:
		if denial = e.own(limits); denial.Outcome == Allowed {
			return Decision{Outcome: Allowed, Policy: GrantPolicy}
		}
	}
	return denial
}

// crossAccount tells whether the resource is in another account than the caller.
func (e *evaluation) crossAccount() bool {
	account := e.request.Principal.Account
	if e.policies.Resource == nil && e.request.ResourceAccount == "" {
		return false
	}
	return account == "" || account != e.request.ResourceAccount
}

// own is what the caller's own policies say: an identity policy within the limits.
func (e *evaluation) own(limits Decision) Decision {
	switch {
	case e.request.Principal.Type == Account:
		if limits.Outcome == Allowed {
			return Decision{Outcome: Allowed, Policy: AccountRoot}
		}
	case e.identity.self == nil:
		return Decision{Outcome: ImplicitDeny, Policy: IdentityBased}
	case limits.Outcome == Allowed:
		return Decision{Allowed, IdentityBased, e.identity.document, e.identity.self}
	}
	return limits
}

// limits are the permissions boundary and the session policies: what they do not
// allow is denied, what they allow is not yet allowed.
func (e *evaluation) limits() Decision {
	switch {
	case e.policies.Boundary != nil && e.boundary.self == nil:
		return Decision{Outcome: ImplicitDeny, Policy: PermissionsBoundary}
	case len(e.policies.Session) > 0 && e.session.self == nil:
		return Decision{Outcome: ImplicitDeny, Policy: SessionPolicy}
	}
	return Decision{Outcome: Allowed}
}
