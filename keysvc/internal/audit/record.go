package audit

import "time"

// Record is one call, or one event of the service's own, in CloudTrail's shape:
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
// with the members in the order of the KMS Developer Guide's examples.
//
// No member takes bytes: there is no place for plaintext, ciphertext or keys.
// What the log sets itself is left out when appending and there when reading.
type Record struct {
	EventVersion string       `json:"eventVersion"` // set by the log
	UserIdentity UserIdentity `json:"userIdentity"`
	// EventTime has a resolution of one second, as CloudTrail's. Zero means now.
	EventTime time.Time `json:"eventTime"`
	// EventSource is kms.amazonaws.com if not set.
	EventSource string `json:"eventSource"`
	EventName   string `json:"eventName"`
	// AWSRegion is that of the log's Options if not set.
	AWSRegion       string `json:"awsRegion"`
	SourceIPAddress string `json:"sourceIPAddress"`
	// UserAgent and ErrorMessage are cut to 1 KiB.
	UserAgent    string `json:"userAgent"`
	ErrorCode    string `json:"errorCode,omitempty"`
	ErrorMessage string `json:"errorMessage,omitempty"`
	// RequestParameters and ResponseElements are omitted when they take more
	// than 100 KiB, and say so. Nil is null.
	RequestParameters   *RequestParameters   `json:"requestParameters"`
	ResponseElements    *ResponseElements    `json:"responseElements"`
	AdditionalEventData *AdditionalEventData `json:"additionalEventData,omitempty"`
	RequestID           string               `json:"requestID,omitempty"`
	// EventID is a new UUID if not set.
	EventID   string     `json:"eventID"`
	ReadOnly  bool       `json:"readOnly"`
	Resources []Resource `json:"resources,omitempty"`
	// EventType is AwsApiCall if not set, or AwsServiceEvent.
	EventType       string `json:"eventType"`
	ManagementEvent bool   `json:"managementEvent"` // set by the log
	// RecipientAccountID is that of the log's Options if not set.
	RecipientAccountID  string               `json:"recipientAccountId"`
	ServiceEventDetails *ServiceEventDetails `json:"serviceEventDetails,omitempty"`
	EventCategory       string               `json:"eventCategory"` // set by the log
	TLSDetails          *TLSDetails          `json:"tlsDetails,omitempty"`
	Chain               *Chain               `json:"kmsfs,omitempty"` // set by the log
}

// Chain binds a line to the one before.
type Chain struct {
	Sequence uint64 `json:"sequence"`
	Previous Hash   `json:"previous"`
}

// The types of a record's event.
const (
	TypeAPICall      = "AwsApiCall"
	TypeServiceEvent = "AwsServiceEvent"
)

// Kinds of UserIdentity.
const (
	IdentityRoot        = "Root"
	IdentityIAMUser     = "IAMUser"
	IdentityAssumedRole = "AssumedRole"
	IdentityAWSAccount  = "AWSAccount" // a principal of another account
	IdentityAWSService  = "AWSService" // with InvokedBy
	IdentityUnknown     = "Unknown"    // a request without a valid signature
)

// UserIdentity says who called. Members that do not apply are left empty.
type UserIdentity struct {
	Type           string          `json:"type,omitempty"`
	PrincipalID    string          `json:"principalId,omitempty"`
	ARN            string          `json:"arn,omitempty"`
	AccountID      string          `json:"accountId,omitempty"`
	AccessKeyID    string          `json:"accessKeyId,omitempty"`
	UserName       string          `json:"userName,omitempty"`
	SessionContext *SessionContext `json:"sessionContext,omitempty"`
	// InvokedBy is the service that made the call, or AWS Internal.
	InvokedBy string `json:"invokedBy,omitempty"`
}

// SessionContext is of temporary credentials.
type SessionContext struct {
	SessionIssuer *SessionIssuer     `json:"sessionIssuer,omitempty"`
	Attributes    *SessionAttributes `json:"attributes,omitempty"`
}

// SessionIssuer is the role of an AssumedRole.
type SessionIssuer struct {
	Type        string `json:"type"` // Role
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName"`
}

// SessionAttributes are strings in CloudTrail, too.
type SessionAttributes struct {
	CreationDate     string `json:"creationDate"`     // RFC 3339
	MFAAuthenticated string `json:"mfaAuthenticated"` // "true" or "false"
}

// AdditionalEventData is CloudTrail's key material ids and kmsfs's own.
type AdditionalEventData struct {
	KeyMaterialID            string `json:"keyMaterialId,omitempty"`
	DestinationKeyMaterialID string `json:"destinationKeyMaterialId,omitempty"`
	SourceKeyMaterialID      string `json:"sourceKeyMaterialId,omitempty"`
	// GrantID is the grant that allowed the call.
	GrantID string `json:"grantId,omitempty"`
	// ViaService is the service whose token the call bore.
	ViaService string `json:"viaService,omitempty"`
	// Peer is the process at the other end of the unix socket.
	Peer *Peer `json:"peer,omitempty"`
	// ForwardedBy is the principal that called in the name of UserIdentity,
	// with kmsfs:ActAs.
	ForwardedBy *Forwarder `json:"forwardedBy,omitempty"`
}

// Peer is what the kernel says about a connection. The PID may have been
// reused since.
type Peer struct {
	UID uint32 `json:"uid"`
	PID int32  `json:"pid"`
}

// Forwarder is a principal that acts for another.
type Forwarder struct {
	PrincipalID string `json:"principalId,omitempty"`
	ARN         string `json:"arn"`
}

// Resource is a key that the call used. ReEncrypt has two: source, destination.
type Resource struct {
	AccountID string `json:"accountId,omitempty"`
	Type      string `json:"type,omitempty"` // AWS::KMS::Key
	ARN       string `json:"ARN"`
}

// TypeKey is the type of a Resource that is a KMS key.
const TypeKey = "AWS::KMS::Key"

// TLSDetails are of calls over TCP.
type TLSDetails struct {
	TLSVersion               string `json:"tlsVersion"`
	CipherSuite              string `json:"cipherSuite"`
	ClientProvidedHostHeader string `json:"clientProvidedHostHeader"`
}

// ServiceEventDetails are of events of type AwsServiceEvent.
type ServiceEventDetails struct {
	KeyID        string `json:"keyId,omitempty"`
	RotationType string `json:"rotationType,omitempty"` // of RotateKey: AUTOMATIC or ON_DEMAND

	// Of AuditLogRepaired: what was cut off, where, and where it is now.
	Segment    string `json:"segment,omitempty"`
	Offset     int64  `json:"offset,omitempty"`      // bytes
	BytesCut   int64  `json:"bytesCut,omitempty"`    // bytes
	SavedAs    string `json:"savedAs,omitempty"`     // a file beside the log
	SavedBytes string `json:"savedSHA256,omitempty"` // 64 hexadecimal digits

	// Of AuditLogLossAccepted: the checkpoint that is not in the log.
	ExpectedSequence uint64 `json:"expectedSequence,omitempty"`
	ExpectedHash     string `json:"expectedHash,omitempty"`
}
