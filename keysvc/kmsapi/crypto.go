package kmsapi

import "encoding/json"

// Recipient asks for the plaintext to be encrypted to a Nitro enclave. The
// service refuses it: it must never be ignored, the caller would receive the
// plaintext it wanted sealed.
type Recipient = json.RawMessage

type GenerateDataKeyInput struct {
	DryRun            bool              `json:",omitempty"`
	EncryptionContext map[string]string `json:",omitempty"`
	GrantTokens       []string          `json:",omitempty"`
	KeyID             string            `json:"KeyId"`
	KeySpec           *string           `json:",omitempty"`
	NumberOfBytes     *int              `json:",omitempty"`
	Recipient         Recipient         `json:",omitempty"`
}

// GenerateDataKeyOutput is also the output of GenerateDataKeyWithoutPlaintext,
// with Plaintext absent.
type GenerateDataKeyOutput struct {
	CiphertextBlob []byte
	KeyID          string `json:"KeyId"`
	KeyMaterialID  string `json:"KeyMaterialId"`
	Plaintext      []byte `json:",omitempty"`
}

type GenerateRandomInput struct {
	CustomKeyStoreID *string   `json:"CustomKeyStoreId,omitempty"`
	NumberOfBytes    *int      `json:",omitempty"`
	Recipient        Recipient `json:",omitempty"`
}

type GenerateRandomOutput struct {
	Plaintext []byte `json:",omitempty"`
}

type EncryptInput struct {
	DryRun              bool              `json:",omitempty"`
	EncryptionAlgorithm *string           `json:",omitempty"`
	EncryptionContext   map[string]string `json:",omitempty"`
	GrantTokens         []string          `json:",omitempty"`
	KeyID               string            `json:"KeyId"`
	Plaintext           []byte
}

type EncryptOutput struct {
	CiphertextBlob      []byte
	EncryptionAlgorithm string
	KeyID               string `json:"KeyId"`
}

type DecryptInput struct {
	CiphertextBlob      []byte            `json:",omitempty"`
	DryRun              bool              `json:",omitempty"`
	DryRunModifiers     []string          `json:",omitempty"`
	EncryptionAlgorithm *string           `json:",omitempty"`
	EncryptionContext   map[string]string `json:",omitempty"`
	GrantTokens         []string          `json:",omitempty"`
	KeyID               *string           `json:"KeyId,omitempty"`
	Recipient           Recipient         `json:",omitempty"`
}

type DecryptOutput struct {
	EncryptionAlgorithm string
	KeyID               string `json:"KeyId"`
	KeyMaterialID       string `json:"KeyMaterialId"`
	Plaintext           []byte `json:",omitempty"`
}

type ReEncryptInput struct {
	CiphertextBlob                 []byte            `json:",omitempty"`
	DestinationEncryptionAlgorithm *string           `json:",omitempty"`
	DestinationEncryptionContext   map[string]string `json:",omitempty"`
	DestinationKeyID               string            `json:"DestinationKeyId"`
	DryRun                         bool              `json:",omitempty"`
	DryRunModifiers                []string          `json:",omitempty"`
	GrantTokens                    []string          `json:",omitempty"`
	SourceEncryptionAlgorithm      *string           `json:",omitempty"`
	SourceEncryptionContext        map[string]string `json:",omitempty"`
	SourceKeyID                    *string           `json:"SourceKeyId,omitempty"`
}

type ReEncryptOutput struct {
	CiphertextBlob                 []byte
	DestinationEncryptionAlgorithm string
	DestinationKeyMaterialID       string `json:"DestinationKeyMaterialId"`
	KeyID                          string `json:"KeyId"`
	SourceEncryptionAlgorithm      string
	SourceKeyID                    string `json:"SourceKeyId"`
	SourceKeyMaterialID            string `json:"SourceKeyMaterialId"`
}

// TakePlaintext hands the secret member to a caller that encodes it by itself
// and wipes it. encoding/json would leave copies in its pooled buffers.
func (o *GenerateDataKeyOutput) TakePlaintext() (p []byte) {
	p, o.Plaintext = o.Plaintext, nil
	return p
}

// TakePlaintext is like GenerateDataKeyOutput's.
func (o *GenerateRandomOutput) TakePlaintext() (p []byte) {
	p, o.Plaintext = o.Plaintext, nil
	return p
}

// TakePlaintext is like GenerateDataKeyOutput's.
func (o *DecryptOutput) TakePlaintext() (p []byte) {
	p, o.Plaintext = o.Plaintext, nil
	return p
}
