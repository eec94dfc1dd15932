package kmsapi

// What the members RotationType, KeyMaterialState and IncludeKeyMaterial say.
const (
	RotationAutomatic = "AUTOMATIC"
	RotationOnDemand  = "ON_DEMAND"

	MaterialCurrent    = "CURRENT"
	MaterialNonCurrent = "NON_CURRENT"

	IncludeAllKeyMaterial = "ALL_KEY_MATERIAL"
	IncludeRotationsOnly  = "ROTATIONS_ONLY"
)

type UpdateKeyDescriptionInput struct {
	Description *string
	KeyID       string `json:"KeyId"`
}

type TagResourceInput struct {
	KeyID string `json:"KeyId"`
	Tags  []Tag
}

type UntagResourceInput struct {
	KeyID   string `json:"KeyId"`
	TagKeys []string
}

type ListResourceTagsInput struct {
	KeyID  string  `json:"KeyId"`
	Limit  *int    `json:",omitempty"`
	Marker *string `json:",omitempty"`
}

type ListResourceTagsOutput struct {
	NextMarker string `json:",omitempty"`
	Tags       []Tag
	Truncated  bool
}

type ScheduleKeyDeletionInput struct {
	KeyID               string `json:"KeyId"`
	PendingWindowInDays *int   `json:",omitempty"`
}

type ScheduleKeyDeletionOutput struct {
	DeletionDate        float64
	KeyID               string `json:"KeyId"` // an ARN
	KeyState            string
	PendingWindowInDays int
}

type CancelKeyDeletionOutput struct {
	KeyID string `json:"KeyId"` // an ARN
}

type EnableKeyRotationInput struct {
	KeyID                string `json:"KeyId"`
	RotationPeriodInDays *int   `json:",omitempty"`
}

type GetKeyRotationStatusOutput struct {
	KeyID                     string  `json:"KeyId"` // an ARN
	KeyRotationEnabled        bool    // false while the key is pending deletion
	NextRotationDate          float64 `json:",omitempty"`
	OnDemandRotationStartDate float64 `json:",omitempty"`
	RotationPeriodInDays      int     `json:",omitempty"`
}

type RotateKeyOnDemandOutput struct {
	KeyID string `json:"KeyId"` // an ARN
}

type ListKeyRotationsInput struct {
	IncludeKeyMaterial *string `json:",omitempty"`
	KeyID              string  `json:"KeyId"`
	Limit              *int    `json:",omitempty"`
	Marker             *string `json:",omitempty"`
}

type RotationsListEntry struct {
	KeyID            string  `json:"KeyId"`
	KeyMaterialID    string  `json:"KeyMaterialId"`
	KeyMaterialState string  `json:",omitempty"`
	RotationDate     float64 `json:",omitempty"` // absent for the first material
	RotationType     string  `json:",omitempty"`
}

type ListKeyRotationsOutput struct {
	NextMarker string `json:",omitempty"`
	Rotations  []RotationsListEntry
	Truncated  bool
}

type GetKeyLastUsageOutput struct {
	KeyCreationDate   float64
	KeyID             string       `json:"KeyId"`
	KeyLastUsage      KeyLastUsage // empty, not absent, for an unused key
	TrackingStartDate float64
}

// KeyLastUsage is the last successful cryptographic operation with a key.
type KeyLastUsage struct {
	KmsRequestID string  `json:"KmsRequestId,omitempty"`
	Operation    string  `json:",omitempty"`
	Timestamp    float64 `json:",omitempty"` // whole seconds, as AWS's
}
