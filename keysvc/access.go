package keysvc

import (
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// access is one use of one resource by one caller: what the policies decide on
// and what an audit log records.
type access struct {
	caller Caller
	// action without its "kms:"; the service's own begin with "kmsfs:". ReEncrypt is two accesses: ReEncryptFrom on
	// the source key and ReEncryptTo on the destination key.
	action string
	// key is the key, or nil for an action that is on none.
	key *key
	// alias is the ARN of the alias when the resource is an alias.
	alias string
	// entity is the ARN of the user, the role or the managed policy when the resource
	// is IAM's.
	entity string
	// newKey is the ARN of a key that is about to be made, and has no policy yet.
	newKey string
	// requestAlias is the name of the alias by which the request names the key,
	// or "".
	requestAlias string
	// byBlob is set when nothing but a CiphertextBlob names the key.
	byBlob bool
	// grant is what CreateGrant is to create and RetireGrant to delete.
	grant *grant.Grant
	// principal is whose grants ListRetirableGrants is to list.
	principal *policy.NamedPrincipal
	// context is the request's encryption context, or the one that the constraint of
	// such a grant has.
	context map[string]string
	// conditions adds the condition keys of the request's other parameters.
	conditions func(*policy.Context)
	// byGrant is the id of the grant that allowed the access, once one has.
	byGrant string
	// anyState is set where the key's state does not matter although the action
	// has a rule for it: UpdateAlias may leave a key that is pending deletion.
	anyState bool
}

// name is the action as a policy writes it.
func (a *access) name() string {
	if strings.Contains(a.action, ":") {
		return a.action // one of ours
	}
	return "kms:" + a.action
}

func (a *access) resource() string {
	switch {
	case a.principal != nil:
		return a.principal.Value
	case a.alias != "":
		return a.alias
	case a.entity != "":
		return a.entity
	case a.key != nil:
		return a.key.arn
	case a.newKey != "":
		return a.newKey
	}
	return "*"
}

// The actions that ReEncrypt is authorized as.
const (
	reEncryptFrom = "ReEncryptFrom"
	reEncryptTo   = "ReEncryptTo"
)

// crossesAccounts tells the actions that may be on a key of another account
// (the AWS KMS API reference, "Cross-account use" of each). For the others such a
// key does not exist, whatever its policy says.
func crossesAccounts(action string) bool {
	switch action {
	case kmsapi.OpDecrypt, kmsapi.OpEncrypt, kmsapi.OpGenerateDataKey, kmsapi.OpGenerateDataKeyWithoutPlaintext,
		reEncryptFrom, reEncryptTo, kmsapi.OpCreateGrant, kmsapi.OpListGrants, kmsapi.OpRetireGrant, kmsapi.OpRevokeGrant, kmsapi.OpDescribeKey, kmsapi.OpGetKeyRotationStatus:
		return true
	}
	return false
}
