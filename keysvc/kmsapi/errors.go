package kmsapi

import "net/http"

// Error codes the service answers with. They are the values of "__type".
const (
	CodeAccessDenied         = "AccessDeniedException"
	CodeAlreadyExists        = "AlreadyExistsException"
	CodeConflict             = "ConflictException"
	CodeDependencyTimeout    = "DependencyTimeoutException"
	CodeDisabled             = "DisabledException"
	CodeDryRunOperation      = "DryRunOperationException"
	CodeIncorrectKey         = "IncorrectKeyException"
	CodeInternal             = "KMSInternalException"
	CodeInvalidAliasName     = "InvalidAliasNameException"
	CodeInvalidArn           = "InvalidArnException"
	CodeInvalidCiphertext    = "InvalidCiphertextException"
	CodeInvalidGrantID       = "InvalidGrantIdException"
	CodeInvalidGrantToken    = "InvalidGrantTokenException"
	CodeInvalidKeyUsage      = "InvalidKeyUsageException"
	CodeInvalidMarker        = "InvalidMarkerException"
	CodeInvalidState         = "KMSInvalidStateException"
	CodeKeyUnavailable       = "KeyUnavailableException"
	CodeLimitExceeded        = "LimitExceededException"
	CodeMalformedPolicy      = "MalformedPolicyDocumentException"
	CodeNotAuthorized        = "NotAuthorizedException"
	CodeNotFound             = "NotFoundException"
	CodeSerialization        = "SerializationException"
	CodeTag                  = "TagException"
	CodeThrottling           = "ThrottlingException"
	CodeUnknownOperation     = "UnknownOperationException"
	CodeUnsupportedOperation = "UnsupportedOperationException"
	CodeValidation           = "ValidationException"
)

// Error codes of the actions on identities, as IAM has them. What other actions refuse
// as well (access, the shape of a request) has the codes above.
const (
	CodeDeleteConflict      = "DeleteConflict"
	CodeEntityAlreadyExists = "EntityAlreadyExists"
	CodeEntityLimitExceeded = "LimitExceeded"
	CodeInvalidInput        = "InvalidInput"
	CodeMalformedDocument   = "MalformedPolicyDocument"
	CodeNoSuchEntity        = "NoSuchEntity"
)

// Error is a refusal by the key service.
//
// Message is empty where AWS sends no message member: an invalid ciphertext
// must not say whether the blob or the context was wrong.
type Error struct {
	Code    string `json:"__type"`
	Message string `json:"message,omitempty"`
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Code + ": " + e.Message
}

// HTTPStatus is the status AWS sends with the error: 5xx for what the caller cannot
// put right; else KMS sends 400, and IAM 404 and 409 for some.
func (e *Error) HTTPStatus() int {
	switch e.Code {
	case CodeInternal, CodeKeyUnavailable:
		return http.StatusInternalServerError
	case CodeDependencyTimeout:
		return http.StatusServiceUnavailable
	case CodeNoSuchEntity:
		return http.StatusNotFound
	case CodeDeleteConflict, CodeEntityAlreadyExists, CodeEntityLimitExceeded:
		return http.StatusConflict
	}
	return http.StatusBadRequest
}
