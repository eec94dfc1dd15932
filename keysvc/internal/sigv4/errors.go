package sigv4

import "net/http"

// Error codes, as AWS's JSON protocols give them.
const (
	CodeExpiredToken               = "ExpiredTokenException"
	CodeIncompleteSignature        = "IncompleteSignatureException"
	CodeInvalidSignature           = "InvalidSignatureException"
	CodeMissingAuthenticationToken = "MissingAuthenticationTokenException"
	CodeUnrecognizedClient         = "UnrecognizedClientException"
)

// Error is a refusal. Code and Message are for the peer: they hold nothing that the
// request did not, and nothing of a secret.
type Error struct {
	Code    string
	Message string

	// AccessKeyID is the access key that the request names, for an audit record.
	// Nothing proves that its owner sent the request. Empty when the request
	// names none.
	AccessKeyID string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// HTTPStatus is the status that AWS's JSON protocols send with the error.
func (e *Error) HTTPStatus() int { return http.StatusBadRequest }

// UnrecognizedClient is what AWS answers for an access key that does not exist or
// is inactive, and for a session token that is not the access key's.
func UnrecognizedClient() *Error {
	return &Error{Code: CodeUnrecognizedClient, Message: "The security token included in the request is invalid."}
}

// ExpiredToken is what AWS answers for a session that has ended.
func ExpiredToken() *Error {
	return &Error{Code: CodeExpiredToken, Message: "The security token included in the request is expired"}
}

func missing() *Error {
	return &Error{Code: CodeMissingAuthenticationToken, Message: "Missing Authentication Token"}
}

func incomplete(message string) *Error {
	return &Error{Code: CodeIncompleteSignature, Message: message}
}

func invalid(message string) *Error {
	return &Error{Code: CodeInvalidSignature, Message: message}
}

// mismatch does not tell the canonical request, as some of AWS's services do: it
// helps to debug a signer, and shows the headers to whoever sees the answer.
func mismatch() *Error {
	return invalid("The request signature we calculated does not match the signature you provided. " +
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}
