package audit

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	eventVersion  = "1.11"
	eventSource   = "kms.amazonaws.com"
	eventCategory = "Management"

	// Limits of CloudTrail's, in bytes: of userAgent and errorMessage, which
	// are cut, and of the JSON of requestParameters and of responseElements,
	// which are left out.
	maxText   = 1 << 10
	maxObject = 100 << 10

	// maxLine bounds a line, its newline included: writers keep to it and
	// readers refuse more. A record stays far below it unless its identities
	// are absurd.
	maxLine = 1 << 20
)

// complete sets what the log sets.
func (l *Log) complete(r *Record) {
	r.EventVersion, r.EventCategory, r.ManagementEvent = eventVersion, eventCategory, true
	if r.EventTime.IsZero() {
		r.EventTime = l.opts.Clock()
	}
	r.EventTime = time.Unix(r.EventTime.Unix(), 0).UTC()
	setDefault(&r.EventSource, eventSource)
	setDefault(&r.AWSRegion, l.opts.Region)
	setDefault(&r.RecipientAccountID, l.opts.Account)
	setDefault(&r.EventType, TypeAPICall)
	r.UserAgent, r.ErrorMessage = cut(r.UserAgent), cut(r.ErrorMessage)
	if r.EventID == "" {
		r.EventID = l.opts.newID()
	}
	r.Chain = nil
}

func setDefault(s *string, to string) {
	if *s == "" {
		*s = to
	}
}

// cut keeps whole characters of s.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > maxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// NewID is a random UUID.
func NewID() string {
	r := randoms.Get().(*random)
	u := r.next()
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	var b [36]byte
	hex.Encode(b[:], u[:4])
	for i, at := range [...]int{9, 14, 19} {
		b[at-1] = '-'
		hex.Encode(b[at:], u[4+2*i:6+2*i])
	}
	b[23] = '-'
	hex.Encode(b[24:], u[10:])
	randoms.Put(r)
	return string(b[:])
}

// random is random bytes for the next ids, which are no secrets: to ask for many at
// once takes no longer than to ask for one.
type random struct {
	bytes [32 * 16]byte
	used  int
}

var randoms = sync.Pool{New: func() any { return &random{used: 32 * 16} }}

// next is 16 bytes, valid until r is given away.
func (r *random) next() []byte {
	if r.used == len(r.bytes) {
		rand.Read(r.bytes[:]) // never fails: crypto/rand aborts the process instead
		r.used = 0
	}
	r.used += 16
	return r.bytes[r.used-16 : r.used]
}

// appendRecord appends what json.Marshal makes of r, which is completed, but for
// the end: the chain and the closing brace follow when its place is known. What is
// on the path of every cryptographic call is written here, all else by
// encoding/json.
func appendRecord(b []byte, r *Record) ([]byte, error) {
	var err error
	b = append(b, `{"eventVersion":"`+eventVersion+`","userIdentity":`...)
	if b, err = appendIdentity(b, &r.UserIdentity); err != nil {
		return nil, err
	}
	b = append(b, `,"eventTime":"`...)
	b = r.EventTime.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `",`...)
	b = str(b, `"eventSource":"`, r.EventSource)
	b = str(b, `"eventName":"`, r.EventName)
	b = str(b, `"awsRegion":"`, r.AWSRegion)
	b = str(b, `"sourceIPAddress":"`, r.SourceIPAddress)
	b = str(b, `"userAgent":"`, r.UserAgent)
	b = optStr(b, `"errorCode":"`, r.ErrorCode)
	b = optStr(b, `"errorMessage":"`, r.ErrorMessage)
	if b, err = appendRequest(b, r.RequestParameters); err != nil {
		return nil, err
	}
	if b, err = appendResponse(b, r.ResponseElements); err != nil {
		return nil, err
	}
	if r.AdditionalEventData != nil {
		b = appendAdditional(b, r.AdditionalEventData)
	}
	b = optStr(b, `"requestID":"`, r.RequestID)
	b = str(b, `"eventID":"`, r.EventID)
	b = boolean(b, `"readOnly":`, r.ReadOnly)
	if len(r.Resources) > 0 {
		b = appendResources(b, r.Resources)
	}
	b = str(b, `"eventType":"`, r.EventType)
	b = str(b, `"managementEvent":true,"recipientAccountId":"`, r.RecipientAccountID)
	if r.ServiceEventDetails != nil {
		if b, err = appendJSON(b, `"serviceEventDetails":`, r.ServiceEventDetails); err != nil {
			return nil, err
		}
	}
	b = append(b, `"eventCategory":"`+eventCategory+`",`...)
	if t := r.TLSDetails; t != nil {
		b = append(b, `"tlsDetails":{`...)
		b = str(b, `"tlsVersion":"`, t.TLSVersion)
		b = str(b, `"cipherSuite":"`, t.CipherSuite)
		b = str(b, `"clientProvidedHostHeader":"`, t.ClientProvidedHostHeader)
		b = end(b)
	}
	return b[:len(b)-1], nil
}

func appendIdentity(b []byte, u *UserIdentity) ([]byte, error) {
	b = append(b, '{')
	b = optStr(b, `"type":"`, u.Type)
	b = optStr(b, `"principalId":"`, u.PrincipalID)
	b = optStr(b, `"arn":"`, u.ARN)
	b = optStr(b, `"accountId":"`, u.AccountID)
	b = optStr(b, `"accessKeyId":"`, u.AccessKeyID)
	b = optStr(b, `"userName":"`, u.UserName)
	if u.SessionContext != nil {
		var err error
		if b, err = appendJSON(b, `"sessionContext":`, u.SessionContext); err != nil {
			return nil, err
		}
	}
	b = optStr(b, `"invokedBy":"`, u.InvokedBy)
	b = end(b)
	return b[:len(b)-1], nil
}

func appendRequest(b []byte, p *RequestParameters) ([]byte, error) {
	b = append(b, `"requestParameters":`...)
	if p == nil {
		return append(b, `null,`...), nil
	}
	start := len(b)
	b = append(b, '{')
	b = optStr(b, `"keyId":"`, p.KeyID)
	b = optStr(b, `"keySpec":"`, p.KeySpec)
	if p.NumberOfBytes != 0 {
		b = append(b, `"numberOfBytes":`...)
		b = append(strconv.AppendInt(b, int64(p.NumberOfBytes), 10), ',')
	}
	b = optStr(b, `"encryptionAlgorithm":"`, p.EncryptionAlgorithm)
	b = optContext(b, `"encryptionContext":`, p.EncryptionContext)
	b = optStr(b, `"sourceKeyId":"`, p.SourceKeyID)
	b = optStr(b, `"sourceEncryptionAlgorithm":"`, p.SourceEncryptionAlgorithm)
	b = optContext(b, `"sourceEncryptionContext":`, p.SourceEncryptionContext)
	b = optStr(b, `"destinationKeyId":"`, p.DestinationKeyID)
	b = optStr(b, `"destinationEncryptionAlgorithm":"`, p.DestinationEncryptionAlgorithm)
	b = optContext(b, `"destinationEncryptionContext":`, p.DestinationEncryptionContext)
	if p.DryRun {
		b = boolean(b, `"dryRun":`, true)
	}
	var err error
	if p.Management != nil {
		if b, err = appendMembers(b, p.Management); err != nil {
			return nil, err
		}
	}
	if p.Omission != nil {
		if b, err = appendMembers(b, p.Omission); err != nil {
			return nil, err
		}
	}
	return omitLarge(end(b), start, "requestParameters")
}

// omitLarge takes back what is larger than CloudTrail would record.
func omitLarge(b []byte, start int, name string) ([]byte, error) {
	n := len(b) - start - 1
	if n <= maxObject {
		return b, nil
	}
	o, err := json.Marshal(omission(n, name))
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return append(append(b[:start], o...), ','), nil
}

func omission(size int, name string) *Omission {
	return &Omission{Omitted: true, OriginalSize: size, Reason: fmt.Sprintf("%s is larger than %d bytes", name, maxObject)}
}

func appendResponse(b []byte, e *ResponseElements) ([]byte, error) {
	if e == nil {
		return append(b, `"responseElements":null,`...), nil
	}
	start := len(b) + len(`"responseElements":`)
	b, err := appendJSON(b, `"responseElements":`, e)
	if err != nil {
		return nil, err
	}
	return omitLarge(b, start, "responseElements")
}

func appendAdditional(b []byte, a *AdditionalEventData) []byte {
	b = append(b, `"additionalEventData":{`...)
	b = optStr(b, `"keyMaterialId":"`, a.KeyMaterialID)
	b = optStr(b, `"destinationKeyMaterialId":"`, a.DestinationKeyMaterialID)
	b = optStr(b, `"sourceKeyMaterialId":"`, a.SourceKeyMaterialID)
	b = optStr(b, `"grantId":"`, a.GrantID)
	b = optStr(b, `"viaService":"`, a.ViaService)
	if p := a.Peer; p != nil {
		b = append(b, `"peer":{"uid":`...)
		b = strconv.AppendUint(b, uint64(p.UID), 10)
		b = append(b, `,"pid":`...)
		b = strconv.AppendInt(b, int64(p.PID), 10)
		b = append(b, `},`...)
	}
	if f := a.ForwardedBy; f != nil {
		b = append(b, `"forwardedBy":{`...)
		b = optStr(b, `"principalId":"`, f.PrincipalID)
		b = str(b, `"arn":"`, f.ARN)
		b = end(b)
	}
	return end(b)
}

func appendResources(b []byte, rs []Resource) []byte {
	b = append(b, `"resources":[`...)
	for i := range rs {
		b = append(b, '{')
		b = optStr(b, `"accountId":"`, rs[i].AccountID)
		b = optStr(b, `"type":"`, rs[i].Type)
		b = str(b, `"ARN":"`, rs[i].ARN)
		b = end(b)
	}
	b[len(b)-1] = ']'
	return append(b, ',')
}
