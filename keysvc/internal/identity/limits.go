package identity

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Quotas ("IAM and AWS STS quotas"), the defaults of those that can be raised.
const (
	MaxUsers             = 5000 // per account
	MaxRoles             = 1000
	MaxPolicies          = 1500
	MaxAccessKeys        = 2 // per user
	MaxAttached          = 10
	MaxVersions          = 5 // per managed policy
	MaxTags              = 50
	MaxPolicySize        = 6144  // characters of a managed policy
	MaxUserInlineSize    = 2048  // of all inline policies of a user together
	MaxRoleInlineSize    = 10240 // and of a role
	MaxTrustSize         = 2048
	MaxName              = 64 // of a user or a role
	MaxPolicyName        = 128
	MaxPath              = 512
	MinSession           = 3600 // seconds
	MaxSession           = 43200
	defaultSession       = MinSession
	MaxRoleDescription   = 1000
	MaxPolicyDescription = 1000
)

func errorf(code, format string, args ...any) error {
	return &kmsapi.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// quota is the refusal of what would be more than a quota allows.
func quota(name string, limit int) error {
	return errorf(kmsapi.CodeEntityLimitExceeded, "Cannot exceed quota for %s: %d", name, limit)
}

// size is a policy's as IAM counts it: without white space.
func size(text string) int {
	return utf8.RuneCountInString(text) - strings.Count(text, " ") - strings.Count(text, "\t") -
		strings.Count(text, "\n") - strings.Count(text, "\r")
}

// Title is the kind as AWS's messages and quotas have it: User, Role.
func (k Kind) Title() string {
	if k == Role {
		return kmsapi.KindRole
	}
	return kmsapi.KindUser
}

// NoSuch is the refusal of an entity that does not exist.
func NoSuch(kind Kind, name string) error {
	return errorf(kmsapi.CodeNoSuchEntity, "The %s with name %s cannot be found.", kind, name)
}

// NoSuchPolicy is the refusal of a managed policy that does not exist.
func NoSuchPolicy(arn string) error {
	return errorf(kmsapi.CodeNoSuchEntity, "Policy %s was not found.", arn)
}

// NoSuchAccessKey is the refusal of an access key that the user does not have.
func NoSuchAccessKey(id string) error {
	return errorf(kmsapi.CodeNoSuchEntity, "The Access Key with id %s cannot be found.", id)
}
