// Package policy is the policy language of IAM and KMS, and its evaluation. It
// answers one question: may this caller do this, on this, now? It knows policies and
// requests only; where they come from, and what grants and key states say, is the
// service's.
//
// [Parse] reads a policy and compiles it; [Document.Bind] ties it to the principals
// that exist; [Evaluate] decides a [Request] under the [Policies] that apply to it, and
// the [Decision] says which statement it rests on and what AWS's error message would be.
//
//	document, err := policy.Parse(policy.KeyPolicy, text)
//	...
//	document, err = document.Bind(ids)
//	...
//	decision := policy.Evaluate(&request, &policy.Policies{Resource: document, Identity: attached})
//
// Promises: a malformed policy is an error with line and column, never a panic; a
// policy that is accepted means one thing; the value of a variable is never a
// pattern; nothing is allowed that no statement or grant allows; evaluating takes time in
// proportion to the sizes of the policies and of the request. Where AWS's documentation
// leaves a question open, the answer here is the one that allows less; each such place
// says so.
//
// # Glossary
//
// Statement: who (Principal), may or must not (Effect), do what (Action), on what
// (Resource), when (Condition). NotPrincipal, NotAction and NotResource are everything
// but what they list.
//
// Resource-based policy: attached to what it protects, and therefore with principals. A
// key policy is a KMS key's, a role trust policy a role's (who may assume it).
//
// Identity-based policy: attached to a user or a role, and about what these may do.
//
// Permissions boundary and session policy: identity-based policies that allow nothing
// by themselves; what they do not allow, the caller may not do. The former is attached to a
// user or a role, the latter passed to AssumeRole.
//
// Explicit deny: a Deny statement that applies. It wins always. Implicit deny: nothing
// allows.
//
// Account principal: arn:aws:iam::ACCOUNT:root in a policy. It stands for the account: the
// statement delegates, what it allows becomes effective for those whom the account's
// identity-based policies allow it. The account's root user is covered directly.
//
// Condition key: a fact about the request (aws:SourceIp, kms:EncryptionContext:NAME).
// Single-valued keys have one value, multivalued ones (kms:EncryptionContextKeys,
// aws:TagKeys) a set, and need a set operator: ForAllValues, true if every value of the
// request satisfies the condition, also of none; ForAnyValue, true if one does.
//
// Policy variable: ${aws:username}, the value of a single-valued key, in Resource
// and in the values of String, Arn and Bool operators. Only in version 2012-10-17.
//
// Unique id: AIDA... of a user, AROA... of a role. Names come back, ids never do.
package policy
