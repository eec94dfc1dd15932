package keysvc

import (
	"sync"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// perform authorizes a, checks that the key's state permits it, and then calls
// use with the key's material, which is not wiped before use returns. Every
// action of the service passes through here, each item of a batch by itself.
func (s *Service) perform(a access, use func(materials) error) error {
	c := a.caller.call
	if c == nil {
		return errUnaudited
	}
	c.uses(&a)
	if err := s.begin(); err != nil {
		return err
	}
	defer s.running.Done()
	if err := s.settle(); err != nil {
		return err
	}
	if err := s.authorize(&a); err != nil {
		return err
	}
	if a.byGrant != "" {
		c.allowedBy(a.byGrant)
	}
	if a.key == nil {
		return use(materials{call: c})
	}
	if !a.key.life.hold() {
		return errorf(kmsapi.CodeNotFound, "Key '%s' does not exist", a.key.arn)
	}
	defer a.key.life.release()
	if !a.anyState {
		if err := a.key.permits(a.action); err != nil {
			return err
		}
	}
	if err := use(materials{a.key, a.action, c}); err != nil {
		return err
	}
	s.noteUse(&a)
	return nil
}

// evaluation is a question to the policies. It is used again, for its memory.
type evaluation struct {
	service  *Service
	access   access // a copy: what is kept in a pool is on the heap
	request  policy.Request
	policies policy.Policies
}

var evaluations = sync.Pool{New: func() any { return new(evaluation) }}

// release gives e back.
func (e *evaluation) release() {
	e.service, e.access = nil, access{}
	e.request.Context.Reset()
	evaluations.Put(e)
}

// authorize asks the key policy and the caller's identity-based policies.
func (s *Service) authorize(a *access) error {
	if a.key != nil && a.key.record.Account != a.caller.Account && !crossesAccounts(a.action) {
		return hiddenKey(a.caller, a.name(), a.key.arn)
	}
	e := evaluations.Get().(*evaluation)
	defer e.release()
	d := s.decide(a, e)
	if d.Allowed() {
		return nil
	}
	if a.key != nil && a.key.record.Account != a.caller.Account && d.Policy == policy.ResourceBased {
		if a.byBlob {
			return errorf(kmsapi.CodeAccessDenied, "The ciphertext refers to a customer master key that does not exist, "+
				"does not exist in this region, or you are not allowed to access.")
		}
		return hiddenKey(a.caller, a.name(), a.key.arn)
	}
	return &kmsapi.Error{Code: kmsapi.CodeAccessDenied, Message: d.Message(&e.request)}
}

// hiddenKey is the answer about a key of another account that the caller is not
// let in to: the same whether or not it exists.
func hiddenKey(c Caller, action, arn string) error {
	return errorf(kmsapi.CodeAccessDenied, "User: %s is not authorized to perform: %s on resource: %s because the resource does not exist in this Region, "+
		"no resource-based policies allow access, or a resource-based policy explicitly denies access", c.ARN, action, arn)
}

// decide evaluates everything that applies to a, and leaves the question in e.
func (s *Service) decide(a *access, e *evaluation) policy.Decision {
	p := &e.policies
	*p = policy.Policies{}
	own := s.effective(&a.caller.Principal)
	p.Identity, p.Boundary = own.Policies, own.Boundary
	if a.caller.Type == policy.User {
		a.caller.Tags = own.Tags // the connection may be older than they are
	}
	r := &e.request
	r.Principal, r.Action, r.Resource = a.caller.Principal, a.name(), a.resource()
	r.ResourceAccount = identity.AccountIn(a.entity) // "" of none
	if a.key != nil {
		p.Resource, r.ResourceAccount = a.key.policy, a.key.record.Account
	}
	switch {
	case a.action == kmsapi.OpRetireGrant:
		p.Resource = new(policy.Document) // the grant decides, a key policy has no say
	case a.principal != nil:
		r.ResourceAccount = a.principal.Account
	}
	e.service, e.access = s, *a
	r.Context.DescribedBy(e, p)
	d := policy.Evaluate(r, p)
	if d.Outcome != policy.ImplicitDeny {
		return d
	}
	// Grants only add: they are looked at when nothing else allows.
	grant, id := s.grantFor(a)
	if grant == policy.NoGrant {
		return d
	}
	p.Grant = grant
	if d = policy.Evaluate(r, p); d.Allowed() {
		a.byGrant = id
	}
	return d
}

// isAccountRoot tells whether the caller is the root user of this machine's
// account.
func isAccountRoot(c Caller) bool { return c.Type == policy.Account && c.Account == Account }

// materials gives access to a key's material. Only perform makes a useful one;
// it is valid until perform returns.
type materials struct {
	key    *key
	action string
	call   *call // notes which are used
}

// current is the material that encrypts.
func (m materials) current() material {
	return m.key.materials[len(m.key.materials)-1]
}

// named finds the material of a blob: old ones decrypt for ever.
func (m materials) named(short [16]byte) (material, bool) {
	for _, mat := range m.key.materials {
		if mat.short == short {
			return mat, true
		}
	}
	return material{}, false
}

// material is one of a key's key materials.
type material struct {
	id    string   // 64 hexadecimal digits, AWS's KeyMaterialId
	short [16]byte // the first half of the id, as in a CiphertextBlob
	bytes *secret.Buffer
}
