package kmsapi

// DefaultPolicyName is the name of every key's only policy.
const DefaultPolicyName = "default"

type GetKeyPolicyInput struct {
	KeyID      string  `json:"KeyId"`
	PolicyName *string `json:",omitempty"`
}

type GetKeyPolicyOutput struct {
	Policy     string
	PolicyName string
}

type PutKeyPolicyInput struct {
	BypassPolicyLockoutSafetyCheck bool   `json:",omitempty"`
	KeyID                          string `json:"KeyId"`
	Policy                         string
	PolicyName                     *string `json:",omitempty"`
}

type ListKeyPoliciesInput struct {
	KeyID  string  `json:"KeyId"`
	Limit  *int    `json:",omitempty"`
	Marker *string `json:",omitempty"`
}

type ListKeyPoliciesOutput struct {
	NextMarker  string `json:",omitempty"`
	PolicyNames []string
	Truncated   bool
}

// PolicyCheck is what was found out about a policy that was not sent.
type PolicyCheck struct {
	PolicyType string // key, identity or trust
	Faults     []PolicyFault
}

// PolicyFault is one thing that is wrong with a policy's text. Line and column
// count from 1.
type PolicyFault struct {
	Line, Column int
	Message      string
}
