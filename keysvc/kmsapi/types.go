package kmsapi

// Key states, specs and usages that this service produces.
const (
	StateEnabled         = "Enabled"
	StateDisabled        = "Disabled"
	StateCreating        = "Creating"
	StatePendingDeletion = "PendingDeletion"
	StatePendingImport   = "PendingImport"
	StateUnavailable     = "Unavailable"
	StateUpdating        = "Updating"

	SpecSymmetricDefault = "SYMMETRIC_DEFAULT"
	UsageEncryptDecrypt  = "ENCRYPT_DECRYPT"
	OriginAWSKMS         = "AWS_KMS"
	ManagerCustomer      = "CUSTOMER"
	ManagerAWS           = "AWS"

	DataKeyAES128 = "AES_128"
	DataKeyAES256 = "AES_256"
)

// KeyMetadata is the answer of CreateKey and DescribeKey. Times are seconds
// since the epoch, as JSON 1.1 writes timestamps.
type KeyMetadata struct {
	AWSAccountID          string   `json:"AWSAccountId"`
	Arn                   string   `json:"Arn"`
	CreationDate          float64  `json:"CreationDate"`
	CurrentKeyMaterialID  string   `json:"CurrentKeyMaterialId,omitempty"`
	CustomerMasterKeySpec string   `json:"CustomerMasterKeySpec"`
	DeletionDate          float64  `json:"DeletionDate,omitempty"` // while PendingDeletion
	Description           string   `json:"Description"`
	Enabled               bool     `json:"Enabled"`
	EncryptionAlgorithms  []string `json:"EncryptionAlgorithms,omitempty"`
	KeyID                 string   `json:"KeyId"`
	KeyManager            string   `json:"KeyManager"`
	KeySpec               string   `json:"KeySpec"`
	KeyState              string   `json:"KeyState"`
	KeyUsage              string   `json:"KeyUsage"`
	MultiRegion           bool     `json:"MultiRegion"`
	Origin                string   `json:"Origin"`
}

// Tag is a key's tag.
type Tag struct {
	TagKey   string
	TagValue string
}

type CreateKeyInput struct {
	BypassPolicyLockoutSafetyCheck bool    `json:",omitempty"`
	CustomKeyStoreID               *string `json:"CustomKeyStoreId,omitempty"`
	CustomerMasterKeySpec          *string `json:",omitempty"`
	Description                    string  `json:",omitempty"`
	KeySpec                        *string `json:",omitempty"`
	KeyUsage                       *string `json:",omitempty"`
	MultiRegion                    *bool   `json:",omitempty"`
	Origin                         *string `json:",omitempty"`
	Policy                         *string `json:",omitempty"`
	Tags                           []Tag   `json:",omitempty"`
	XksKeyID                       *string `json:"XksKeyId,omitempty"`
}

type CreateKeyOutput struct{ KeyMetadata KeyMetadata }

type DescribeKeyInput struct {
	KeyID       string   `json:"KeyId"`
	GrantTokens []string `json:",omitempty"`
}

type DescribeKeyOutput struct{ KeyMetadata KeyMetadata }

// KeyIDInput is the input of the actions that take a key and nothing else.
type KeyIDInput struct {
	KeyID string `json:"KeyId"`
}

// Empty is an output without members. AWS answers with an empty body.
type Empty struct{}

type ListKeysInput struct {
	Limit  *int    `json:",omitempty"`
	Marker *string `json:",omitempty"`
}

type KeyListEntry struct {
	KeyArn string
	KeyID  string `json:"KeyId"`
}

type ListKeysOutput struct {
	Keys       []KeyListEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// AliasInput is the input of CreateAlias and UpdateAlias.
type AliasInput struct {
	AliasName   string
	TargetKeyID string `json:"TargetKeyId"`
}

type DeleteAliasInput struct{ AliasName string }

type ListAliasesInput struct {
	KeyID  *string `json:"KeyId,omitempty"`
	Limit  *int    `json:",omitempty"`
	Marker *string `json:",omitempty"`
}

type AliasListEntry struct {
	AliasArn        string
	AliasName       string
	CreationDate    float64 `json:",omitempty"`
	LastUpdatedDate float64 `json:",omitempty"`
	TargetKeyID     string  `json:"TargetKeyId,omitempty"`
}

type ListAliasesOutput struct {
	Aliases    []AliasListEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}
