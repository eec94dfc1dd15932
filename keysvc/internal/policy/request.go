package policy

// A Request is what somebody wants to do: the caller, the action, the resource,
// and the conditions it happens under.
type Request struct {
	Principal Principal
	// Action is the service and the action, as in "kms:Decrypt". Case does not matter.
	Action string
	// Resource is the resource's ARN, or "*" for an action that is on none.
	Resource string
	// ResourceAccount is the account that owns the resource. Empty, for an
	// action on no resource, is the caller's.
	ResourceAccount string
	// Context holds the condition keys. Evaluate adds nothing to it: see
	// [Context.SetPrincipal] for the caller's.
	Context Context
}

// A Principal is an authenticated caller.
type Principal struct {
	Type PrincipalType
	// ARN is what the caller is called: of an account root
	// arn:aws:iam::ACCOUNT:root, of a user arn:aws:iam::ACCOUNT:user/PATH/NAME, of a role's session
	// arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION. Of an AWS service it is the
	// service principal, as in ec2.amazonaws.com.
	ARN string
	// Account is the caller's account, 12 digits. A service has none.
	Account string
	// UniqueID is a user's AIDA..., a session's AROA...:SESSION. It is what a bound
	// policy names, so that a user created again under an old name inherits nothing.
	UniqueID string
	// Username is a user's name without its path.
	Username string
	// RoleARN and RoleID are a session's role: arn:aws:iam::ACCOUNT:role/PATH/NAME and AROA....
	RoleARN, RoleID string
	// Tags are the caller's tags, for aws:PrincipalTag.
	Tags map[string]string
}

// PrincipalType is a kind of caller, as aws:PrincipalType tells it.
type PrincipalType int

const (
	// Anonymous is nobody: only the principal "*" covers it. The zero value, so
	// that a caller who was forgotten has no rights.
	Anonymous PrincipalType = iota
	// Account is the root user of an account. No identity policies apply to it, and
	// none are needed; key policies do apply.
	Account
	// User is an IAM user.
	User
	// AssumedRole is a session of a role.
	AssumedRole
	// FederatedUser is a session of GetFederationToken.
	FederatedUser
	// Service is an AWS service acting on its own.
	Service
)

func (t PrincipalType) String() string {
	return [...]string{"Anonymous", "Account", "User", "AssumedRole", "FederatedUser", "AWSService"}[t]
}
