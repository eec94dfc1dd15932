package kmsapi

// GrantConstraints is a condition on the encryption context. At most one of the
// two is given.
type GrantConstraints struct {
	EncryptionContextEquals map[string]string `json:",omitempty"`
	EncryptionContextSubset map[string]string `json:",omitempty"`
}

type CreateGrantInput struct {
	Constraints       *GrantConstraints `json:",omitempty"`
	DryRun            bool              `json:",omitempty"`
	GrantTokens       []string          `json:",omitempty"`
	GranteePrincipal  string
	KeyID             string  `json:"KeyId"`
	Name              *string `json:",omitempty"`
	Operations        []string
	RetiringPrincipal *string `json:",omitempty"`
}

type CreateGrantOutput struct {
	GrantID    string `json:"GrantId"`
	GrantToken string
}

type GrantListEntry struct {
	Constraints       *GrantConstraints `json:",omitempty"`
	CreationDate      float64
	GrantID           string `json:"GrantId"`
	GranteePrincipal  string
	IssuingAccount    string // the ARN of an account
	KeyID             string `json:"KeyId"` // an ARN
	Name              string // empty, not absent, for a grant without
	Operations        []string
	RetiringPrincipal string `json:",omitempty"`
}

type ListGrantsInput struct {
	GrantID          *string `json:"GrantId,omitempty"`
	GranteePrincipal *string `json:",omitempty"`
	KeyID            string  `json:"KeyId"`
	Limit            *int    `json:",omitempty"`
	Marker           *string `json:",omitempty"`
}

type ListRetirableGrantsInput struct {
	Limit             *int    `json:",omitempty"`
	Marker            *string `json:",omitempty"`
	RetiringPrincipal string
}

// ListGrantsOutput is also the output of ListRetirableGrants.
type ListGrantsOutput struct {
	Grants     []GrantListEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// RetireGrantInput names a grant by a token, or by key and id.
type RetireGrantInput struct {
	DryRun     bool    `json:",omitempty"`
	GrantID    *string `json:"GrantId,omitempty"`
	GrantToken *string `json:",omitempty"`
	KeyID      *string `json:"KeyId,omitempty"`
}

type RevokeGrantInput struct {
	DryRun  bool   `json:",omitempty"`
	GrantID string `json:"GrantId"`
	KeyID   string `json:"KeyId"`
}
