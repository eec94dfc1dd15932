package policy

import "strings"

// A Decision is the answer to a request, and what it rests on.
type Decision struct {
	Outcome Outcome
	// Policy is the kind of policy that allowed or denied, or of an implicit denial the
	// kind that would have had to allow.
	Policy PolicyType
	// Document and Statement are what decided. They are nil for an implicit denial, a
	// grant and the account root.
	Document  *Document
	Statement *Statement
}

// Allowed tells whether the request may proceed.
func (d Decision) Allowed() bool { return d.Outcome == Allowed }

// Outcome is an answer. The zero value denies.
type Outcome int

const (
	ImplicitDeny Outcome = iota // nothing allows
	ExplicitDeny                // a Deny statement applies
	Allowed
)

func (o Outcome) String() string {
	return [...]string{"implicit deny", "explicit deny", "allow"}[o]
}

// PolicyType is a kind of policy as AWS's error messages call it.
type PolicyType int

const (
	ResourceBased PolicyType = iota
	RoleTrust
	IdentityBased
	PermissionsBoundary
	SessionPolicy
	GrantPolicy // a grant of the key; allows only
	AccountRoot // the account's root user, who needs no policy; allows only
)

func (t PolicyType) String() string {
	return [...]string{
		"resource-based policy", "role trust policy", "identity-based policy", "permissions boundary", "session policy", "grant", "account root",
	}[t]
}

// resourceType is what the policy of the resource is called.
func resourceType(p *Policies) PolicyType {
	if p.Resource != nil && p.Resource.kind == TrustPolicy {
		return RoleTrust
	}
	return ResourceBased
}

// Message is the message of AWS's AccessDeniedException for a denied request, and
// empty for an allowed one
// ("Troubleshoot access denied error messages", examples):
//
//	User: ARN is not authorized to perform: kms:Decrypt on resource: ARN because no identity-based policy allows the kms:Decrypt action
//	User: ARN is not authorized to perform: kms:Decrypt on resource: ARN with an explicit deny in a resource-based policy
func (d Decision) Message(r *Request) string {
	if d.Allowed() {
		return ""
	}
	caller := r.Principal.ARN
	if caller == "" {
		caller = "anonymous"
	}
	m := "User: " + caller + " is not authorized to perform: " + r.Action + " on resource: " + r.Resource
	name := d.Policy.String()
	if d.Outcome == ImplicitDeny {
		return m + " because no " + name + " allows the " + r.Action + " action"
	}
	article := "a "
	switch {
	case d.Policy == RoleTrust:
		article = "the "
	case strings.HasPrefix(name, "i"):
		article = "an "
	}
	return m + " with an explicit deny in " + article + name
}

// DefaultKeyPolicy is the policy of a key that was created without one: the account,
// and through it IAM policies, may do everything ("Default key policy").
func DefaultKeyPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::` + account + `:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}
