// Package kmsapi holds what the key service and its clients say to each other:
// the wire types of the AWS KMS JSON 1.1 protocol, the action names and error
// codes, and the items of the private batch protocol.
//
// It imports the standard library only, so that any part of kmsfs may depend
// on it without depending on a client or on the service.
//
// Type and member names are those of the AWS KMS API reference. Members that
// the API has and this package lacks are ignored when they arrive, as AWS
// ignores unknown members.
package kmsapi

// TargetPrefix begins the X-Amz-Target header of every KMS request.
const TargetPrefix = "TrentService."

// ContentType is the media type of requests and responses.
const ContentType = "application/x-amz-json-1.1"

// Action names, as they follow TargetPrefix and "kms:".
const (
	OpCancelKeyDeletion               = "CancelKeyDeletion"
	OpCreateAlias                     = "CreateAlias"
	OpCreateGrant                     = "CreateGrant"
	OpCreateKey                       = "CreateKey"
	OpDecrypt                         = "Decrypt"
	OpDeleteAlias                     = "DeleteAlias"
	OpDescribeKey                     = "DescribeKey"
	OpDisableKey                      = "DisableKey"
	OpDisableKeyRotation              = "DisableKeyRotation"
	OpEnableKey                       = "EnableKey"
	OpEnableKeyRotation               = "EnableKeyRotation"
	OpEncrypt                         = "Encrypt"
	OpGenerateDataKey                 = "GenerateDataKey"
	OpGenerateDataKeyWithoutPlaintext = "GenerateDataKeyWithoutPlaintext"
	OpGenerateRandom                  = "GenerateRandom"
	OpGetKeyLastUsage                 = "GetKeyLastUsage"
	OpGetKeyPolicy                    = "GetKeyPolicy"
	OpGetKeyRotationStatus            = "GetKeyRotationStatus"
	OpListAliases                     = "ListAliases"
	OpListKeyPolicies                 = "ListKeyPolicies"
	OpListGrants                      = "ListGrants"
	OpListKeyRotations                = "ListKeyRotations"
	OpListKeys                        = "ListKeys"
	OpListResourceTags                = "ListResourceTags"
	OpPutKeyPolicy                    = "PutKeyPolicy"
	OpListRetirableGrants             = "ListRetirableGrants"
	OpReEncrypt                       = "ReEncrypt"
	OpRetireGrant                     = "RetireGrant"
	OpRevokeGrant                     = "RevokeGrant"
	OpRotateKeyOnDemand               = "RotateKeyOnDemand"
	OpScheduleKeyDeletion             = "ScheduleKeyDeletion"
	OpTagResource                     = "TagResource"
	OpUntagResource                   = "UntagResource"
	OpUpdateAlias                     = "UpdateAlias"
	OpUpdateKeyDescription            = "UpdateKeyDescription"
)

// Limits of the API.
const (
	MaxPlaintext      = 4096  // bytes of plaintext in Encrypt
	MaxCiphertextBlob = 6144  // bytes of a CiphertextBlob in a request
	MaxDataKey        = 1024  // NumberOfBytes of GenerateDataKey and GenerateRandom
	MaxGrantTokens    = 10    // grant tokens of one request
	MaxGrantsPerKey   = 50000 // grants of one key
	MaxAliasName      = 256   // characters of an alias name, "alias/" included
	MaxAliasesPerKey  = 50    // aliases of one key
	MaxTagsPerKey     = 50    // tags of one key
	MaxDescription    = 8192  // characters of a key's description
	MaxKeyID          = 2048  // characters of a key identifier
	MaxPolicy         = 32768 // bytes of a key policy

	MaxGrantConstraintPairs = 8   // pairs of one grant constraint
	MaxGrantConstraintValue = 384 // characters of a value in it

	MinPendingWindow     = 7  // days before a scheduled deletion
	MaxPendingWindow     = 30 // also the default
	MinRotationPeriod    = 90 // days between automatic rotations
	MaxRotationPeriod    = 2560
	NormalRotationPeriod = 365 // the default
	MaxOnDemandRotations = 25  // of one key, ever
)
