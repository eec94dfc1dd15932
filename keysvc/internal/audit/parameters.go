package audit

// RequestParameters are a call's, without what must not be logged: plaintext,
// ciphertext, grant tokens. CloudTrail's names.
type RequestParameters struct {
	KeyID               string            `json:"keyId,omitempty"`
	KeySpec             string            `json:"keySpec,omitempty"`
	NumberOfBytes       int               `json:"numberOfBytes,omitempty"`
	EncryptionAlgorithm string            `json:"encryptionAlgorithm,omitempty"`
	EncryptionContext   map[string]string `json:"encryptionContext,omitempty"`

	SourceKeyID                    string            `json:"sourceKeyId,omitempty"`
	SourceEncryptionAlgorithm      string            `json:"sourceEncryptionAlgorithm,omitempty"`
	SourceEncryptionContext        map[string]string `json:"sourceEncryptionContext,omitempty"`
	DestinationKeyID               string            `json:"destinationKeyId,omitempty"`
	DestinationEncryptionAlgorithm string            `json:"destinationEncryptionAlgorithm,omitempty"`
	DestinationEncryptionContext   map[string]string `json:"destinationEncryptionContext,omitempty"`

	DryRun bool `json:"dryRun,omitempty"`

	// Management holds the parameters of all other actions, whose members stand
	// beside those above. Nil for cryptographic operations, which it would slow.
	*Management

	*Omission
}

// Omission stands in place of what was too large to be recorded.
type Omission struct {
	Omitted      bool   `json:"omitted"`
	OriginalSize int    `json:"originalSize"` // bytes of JSON
	Reason       string `json:"reason"`
}

// Management is the parameters of actions that manage keys, aliases, grants,
// principals and their policies.
type Management struct {
	Description                    string            `json:"description,omitempty"`
	KeyUsage                       string            `json:"keyUsage,omitempty"`
	Origin                         string            `json:"origin,omitempty"`
	MultiRegion                    bool              `json:"multiRegion,omitempty"`
	BypassPolicyLockoutSafetyCheck bool              `json:"bypassPolicyLockoutSafetyCheck,omitempty"`
	Policy                         string            `json:"policy,omitempty"`
	PolicyName                     string            `json:"policyName,omitempty"`
	PolicyARN                      string            `json:"policyArn,omitempty"`
	PolicyDocument                 string            `json:"policyDocument,omitempty"`
	AliasName                      string            `json:"aliasName,omitempty"`
	TargetKeyID                    string            `json:"targetKeyId,omitempty"`
	Tags                           []Tag             `json:"tags,omitempty"`
	TagKeys                        []string          `json:"tagKeys,omitempty"`
	PendingWindowInDays            int               `json:"pendingWindowInDays,omitempty"`
	RotationPeriodInDays           int               `json:"rotationPeriodInDays,omitempty"`
	Name                           string            `json:"name,omitempty"`
	GrantID                        string            `json:"grantId,omitempty"`
	GranteePrincipal               string            `json:"granteePrincipal,omitempty"`
	RetiringPrincipal              string            `json:"retiringPrincipal,omitempty"`
	Operations                     []string          `json:"operations,omitempty"`
	Constraints                    *GrantConstraints `json:"constraints,omitempty"`
	Limit                          int               `json:"limit,omitempty"`
	Marker                         string            `json:"marker,omitempty"`
	UserName                       string            `json:"userName,omitempty"`
	RoleName                       string            `json:"roleName,omitempty"`
	RoleARN                        string            `json:"roleArn,omitempty"`
	RoleSessionName                string            `json:"roleSessionName,omitempty"`
	DurationSeconds                int               `json:"durationSeconds,omitempty"`
	AccessKeyID                    string            `json:"accessKeyId,omitempty"`
	Path                           string            `json:"path,omitempty"`
	PathPrefix                     string            `json:"pathPrefix,omitempty"`
	AssumeRolePolicyDocument       string            `json:"assumeRolePolicyDocument,omitempty"`
	MaxSessionDuration             int               `json:"maxSessionDuration,omitempty"`
	PermissionsBoundary            string            `json:"permissionsBoundary,omitempty"`
	Status                         string            `json:"status,omitempty"`
	VersionID                      string            `json:"versionId,omitempty"`
	SetAsDefault                   bool              `json:"setAsDefault,omitempty"`
	OnlyAttached                   bool              `json:"onlyAttached,omitempty"`
	MaxItems                       int               `json:"maxItems,omitempty"`
}

// Tag is a tag of a key.
type Tag struct {
	TagKey   string `json:"tagKey"`
	TagValue string `json:"tagValue"`
}

// GrantConstraints are a grant's: one of the two.
type GrantConstraints struct {
	EncryptionContextSubset map[string]string `json:"encryptionContextSubset,omitempty"`
	EncryptionContextEquals map[string]string `json:"encryptionContextEquals,omitempty"`
}

// ResponseElements are of actions that change something, and never secrets:
// no grant token, no secret access key, no session token. CloudTrail's names.
type ResponseElements struct {
	KeyID               string           `json:"keyId,omitempty"`
	KeyMetadata         *KeyMetadata     `json:"keyMetadata,omitempty"`
	GrantID             string           `json:"grantId,omitempty"`
	KeyState            string           `json:"keyState,omitempty"`
	DeletionDate        string           `json:"deletionDate,omitempty"`
	PendingWindowInDays int              `json:"pendingWindowInDays,omitempty"`
	User                *UserElement     `json:"user,omitempty"`
	Role                *RoleElement     `json:"role,omitempty"`
	AccessKey           *AccessKey       `json:"accessKey,omitempty"`
	AssumedRoleUser     *AssumedRoleUser `json:"assumedRoleUser,omitempty"`

	*Omission
}

// KeyMetadata is a key's, as CloudTrail shows it.
type KeyMetadata struct {
	AWSAccountID          string   `json:"AWSAccountId"`
	KeyID                 string   `json:"keyId"`
	ARN                   string   `json:"arn"`
	CreationDate          string   `json:"creationDate"`
	Enabled               bool     `json:"enabled"`
	Description           string   `json:"description"`
	KeyUsage              string   `json:"keyUsage"`
	KeyState              string   `json:"keyState"`
	Origin                string   `json:"origin"`
	KeyManager            string   `json:"keyManager"`
	CustomerMasterKeySpec string   `json:"customerMasterKeySpec"`
	KeySpec               string   `json:"keySpec"`
	EncryptionAlgorithms  []string `json:"encryptionAlgorithms,omitempty"`
	MultiRegion           bool     `json:"multiRegion"`
}

// UserElement is the user that an action made.
type UserElement struct {
	UserName   string `json:"userName"`
	UserID     string `json:"userId"`
	ARN        string `json:"arn"`
	CreateDate string `json:"createDate,omitempty"`
}

// RoleElement is the role that an action made.
type RoleElement struct {
	RoleName   string `json:"roleName"`
	RoleID     string `json:"roleId"`
	ARN        string `json:"arn"`
	CreateDate string `json:"createDate,omitempty"`
}

// AccessKey is the public half of an access key.
type AccessKey struct {
	UserName    string `json:"userName"`
	AccessKeyID string `json:"accessKeyId"`
	Status      string `json:"status"`
	CreateDate  string `json:"createDate,omitempty"`
}

// AssumedRoleUser is the session that AssumeRole made.
type AssumedRoleUser struct {
	AssumedRoleID string `json:"assumedRoleId"`
	ARN           string `json:"arn"`
}
