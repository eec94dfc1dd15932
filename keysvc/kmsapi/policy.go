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
