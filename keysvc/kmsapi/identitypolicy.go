package kmsapi

import "time"

type AttachInput struct {
	EntityName
	PolicyArn string
}

type AttachedPolicy struct {
	PolicyName string
	PolicyArn  string
}

type ListAttachedOutput struct {
	AttachedPolicies []AttachedPolicy
	IsTruncated      bool
	Marker           string `json:",omitempty"`
}

type PutInlineInput struct {
	EntityName
	PolicyName     string
	PolicyDocument string
}

// InlineInput is the input of the actions on one inline policy.
type InlineInput struct {
	EntityName
	PolicyName string
}

type GetInlineOutput struct {
	EntityName
	PolicyName     string
	PolicyDocument string
}

type ListInlineOutput struct {
	PolicyNames []string
	IsTruncated bool
	Marker      string `json:",omitempty"`
}

type CreatePolicyInput struct {
	Description    string  `json:",omitempty"`
	Path           *string `json:",omitempty"`
	PolicyDocument string
	PolicyName     string
	Tags           []EntityTag `json:",omitempty"`
}

// ManagedPolicy is what IAM tells about a managed policy: its shape Policy.
type ManagedPolicy struct {
	PolicyName                    string
	PolicyID                      string `json:"PolicyId"`
	Arn                           string
	Path                          string
	DefaultVersionID              string `json:"DefaultVersionId"`
	AttachmentCount               int
	PermissionsBoundaryUsageCount int
	IsAttachable                  bool
	Description                   string `json:",omitempty"`
	CreateDate                    time.Time
	UpdateDate                    time.Time
	Tags                          []EntityTag `json:",omitempty"`
}

type PolicyOutput struct{ Policy ManagedPolicy }

// PolicyArnInput is the input of the actions that take a managed policy and
// nothing else.
type PolicyArnInput struct{ PolicyArn string }

type ListPoliciesInput struct {
	Marker       *string `json:",omitempty"`
	MaxItems     *int    `json:",omitempty"`
	OnlyAttached bool    `json:",omitempty"`
	PathPrefix   *string `json:",omitempty"`
}

type ListPoliciesOutput struct {
	Policies    []ManagedPolicy
	IsTruncated bool
	Marker      string `json:",omitempty"`
}

type CreateVersionInput struct {
	PolicyArn      string
	PolicyDocument string
	SetAsDefault   bool `json:",omitempty"`
}

// PolicyVersionInput is the input of the actions on one version.
type PolicyVersionInput struct {
	PolicyArn string
	VersionID string `json:"VersionId"`
}

// PolicyVersion is a version of a managed policy. Lists are without Document.
type PolicyVersion struct {
	Document         string `json:",omitempty"`
	VersionID        string `json:"VersionId"`
	IsDefaultVersion bool
	CreateDate       time.Time
}

type PolicyVersionOutput struct{ PolicyVersion PolicyVersion }

type ListVersionsInput struct {
	Marker    *string `json:",omitempty"`
	MaxItems  *int    `json:",omitempty"`
	PolicyArn string
}

type ListVersionsOutput struct {
	Versions    []PolicyVersion
	IsTruncated bool
	Marker      string `json:",omitempty"`
}

// The states of an access key.
const (
	AccessKeyActive   = "Active"
	AccessKeyInactive = "Inactive"
)

// AccessKeyInput is the input of CreateAccessKey and of DeleteAccessKey.
type AccessKeyInput struct {
	UserName    string `json:",omitempty"` // the caller's, if empty
	AccessKeyID string `json:"AccessKeyId,omitempty"`
}

// Secret is a string that its holder wipes.
type Secret []byte

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return s, nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = append(Secret{}, text...)
	return nil
}

// AccessKey is an access key with its secret, which nobody is told again.
type AccessKey struct {
	UserName        string
	AccessKeyID     string `json:"AccessKeyId"`
	Status          string
	SecretAccessKey Secret `json:",omitempty"`
	CreateDate      time.Time
}

type CreateAccessKeyOutput struct{ AccessKey AccessKey }

// TakeSecret hands the secret to a caller that encodes it by itself, as the first
// member of the object in AccessKey, and wipes it.
func (o *CreateAccessKeyOutput) TakeSecret() (within, name string, text []byte) {
	text, o.AccessKey.SecretAccessKey = o.AccessKey.SecretAccessKey, nil
	return `{"AccessKey":{`, "SecretAccessKey", text
}

type UpdateAccessKeyInput struct {
	UserName    string `json:",omitempty"`
	AccessKeyID string `json:"AccessKeyId"`
	Status      string
}

type ListAccessKeysInput struct {
	Marker   *string `json:",omitempty"`
	MaxItems *int    `json:",omitempty"`
	UserName string  `json:",omitempty"`
}

type AccessKeyMetadata struct {
	UserName    string
	AccessKeyID string `json:"AccessKeyId"`
	Status      string
	CreateDate  time.Time
}

type ListAccessKeysOutput struct {
	AccessKeyMetadata []AccessKeyMetadata
	IsTruncated       bool
	Marker            string `json:",omitempty"`
}
