package keysvc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// call is one call on its way to its record in the audit log. Whoever takes the
// call makes one and gives it to the Caller, perform notes in it what is used,
// and record writes it before anything is answered.
type call struct {
	record audit.Record

	// What record points to, so that an item of a batch costs no allocations.
	request   audit.RequestParameters
	extra     audit.AdditionalEventData
	peer      audit.Peer
	forwarder audit.Forwarder
	resources [2]audit.Resource

	owed bool // the record is, and needs them still
}

// calls are used again, for their memory.
var calls = sync.Pool{New: func() any { return new(call) }}

// recycle gives c back when it is answered.
func (c *call) recycle() {
	if !c.owed {
		*c = call{}
		calls.Put(c)
	}
}

// origin is where calls come from, apart from who makes them.
type origin struct {
	address   string // an IP address, or localAddress
	userAgent string
	tls       *audit.TLSDetails
}

// localAddress is the address of a caller that has none: a process at the other
// end of the unix socket, or the service's own.
const localAddress = "unix socket"

// originOf is the origin of an HTTP request.
func originOf(r *http.Request) origin {
	o := origin{address: localAddress, userAgent: r.UserAgent()}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		o.address = host
	}
	if r.TLS != nil {
		o.tls = &audit.TLSDetails{
			TLSVersion:               strings.ReplaceAll(tls.VersionName(r.TLS.Version), "TLS 1.", "TLSv1."),
			CipherSuite:              tls.CipherSuiteName(r.TLS.CipherSuite),
			ClientProvidedHostHeader: r.Host,
		}
	}
	return o
}

// begin makes c the call of an action. It is by nobody until made is called.
func (c *call) begin(op string, from origin) {
	r := &c.record
	r.EventName = eventName(op)
	r.ReadOnly = readOnly(r.EventName)
	r.SourceIPAddress, r.UserAgent, r.TLSDetails = from.address, from.userAgent, from.tls
	r.UserIdentity.Type = audit.IdentityUnknown
}

// madeBy says whose call it is.
func (c *call) madeBy(by Caller) {
	c.record.UserIdentity = identityOf(by)
	c.record.RequestID = by.RequestID
	if by.Remote != nil {
		c.record.UserIdentity.AccessKeyID = by.Remote.AccessKeyID
	}
	if by.Peer != nil {
		c.peer = audit.Peer{UID: by.Peer.UID, PID: by.Peer.PID}
		c.extra.Peer = &c.peer
		c.record.AdditionalEventData = &c.extra
	}
}

// forwardedBy says who made the call in another's name.
func (c *call) forwardedBy(by policy.Principal) {
	c.forwarder = audit.Forwarder{PrincipalID: by.UniqueID, ARN: by.ARN}
	c.extra.ForwardedBy = &c.forwarder
	c.record.AdditionalEventData = &c.extra
}

// identityOf is a caller as CloudTrail shows it.
func identityOf(c Caller) audit.UserIdentity {
	u := audit.UserIdentity{PrincipalID: c.UniqueID, ARN: c.ARN, AccountID: c.Account}
	switch c.Type {
	case policy.Account:
		u.Type, u.PrincipalID = audit.IdentityRoot, c.Account
	case policy.User:
		u.Type, u.UserName = audit.IdentityIAMUser, c.Username
	case policy.AssumedRole:
		u.Type = audit.IdentityAssumedRole
		u.SessionContext = &audit.SessionContext{SessionIssuer: &audit.SessionIssuer{
			Type: "Role", PrincipalID: c.RoleID, ARN: c.RoleARN, AccountID: c.Account, UserName: c.RoleARN[strings.LastIndexByte(c.RoleARN, '/')+1:]}}
	case policy.Service:
		u = audit.UserIdentity{Type: audit.IdentityAWSService, InvokedBy: c.ARN}
	default:
		u.Type = audit.IdentityUnknown
	}
	return u
}

// eventName is an action's name, or what stands for one that no API has: a
// request may name anything.
func eventName(op string) string {
	const unknown = "UnknownOperation"
	if op == "" || len(op) > 64 {
		return unknown
	}
	for _, c := range []byte(op) {
		if c |= 'a' - 'A'; c < 'a' || 'z' < c {
			return unknown
		}
	}
	return op
}

// readOnly tells the actions that change nothing. An action that is not known
// here may change something.
func readOnly(op string) bool {
	switch op {
	case kmsapi.OpEncrypt, kmsapi.OpDecrypt, kmsapi.OpReEncrypt, "UnknownOperation":
		return true
	}
	for _, verb := range [...]string{"Generate", "Describe", "Get", "List"} {
		if strings.HasPrefix(op, verb) {
			return true
		}
	}
	return false
}

// uses notes an access, before it is decided on.
func (c *call) uses(a *access) {
	if a.alias != "" {
		c.resource(audit.Resource{AccountID: a.caller.Account, ARN: a.alias})
	}
	if a.entity != "" {
		c.resource(audit.Resource{AccountID: identity.AccountIn(a.entity), ARN: a.entity})
	}
	if a.key != nil {
		c.resource(audit.Resource{AccountID: a.key.record.Account, Type: audit.TypeKey, ARN: a.key.arn})
	}
}

func (c *call) resource(r audit.Resource) {
	for _, have := range c.record.Resources {
		if have.ARN == r.ARN {
			return
		}
	}
	if c.record.Resources == nil {
		c.record.Resources = c.resources[:0]
	}
	c.record.Resources = append(c.record.Resources, r)
}

// usesMaterial notes which of a key's materials an access has used.
func (c *call) usesMaterial(action, id string) {
	c.record.AdditionalEventData = &c.extra
	switch action {
	case reEncryptFrom:
		c.extra.SourceKeyMaterialID = id
	case reEncryptTo:
		c.extra.DestinationKeyMaterialID = id
	default:
		c.extra.KeyMaterialID = id
	}
}

// allowedBy notes the grant that allowed an access.
func (c *call) allowedBy(grantID string) {
	c.record.AdditionalEventData = &c.extra
	c.extra.GrantID = grantID
}

// ends notes the answer.
func (c *call) ends(e *kmsapi.Error) {
	if e != nil {
		c.record.ErrorCode, c.record.ErrorMessage = e.Code, e.Message
		c.record.ResponseElements = nil
	}
}

// changed tells a call that may have changed something. After an internal error
// nobody knows.
func (c *call) changed() bool {
	return !c.record.ReadOnly && (c.record.ErrorCode == "" || c.record.ErrorCode == kmsapi.CodeInternal)
}

// recordRefusal records what was refused before it became a call.
func (s *Service) recordRefusal(what string, by Caller, from origin, e *kmsapi.Error) {
	c := new(call)
	c.begin(what, from)
	c.madeBy(by)
	if err := s.record(c, e); err != nil {
		s.log.Error("record a refusal", "what", what, "principal", by.ARN, "error", err)
	}
}

// What is refused before it is a call.
const (
	refusedConnect = "Connect" // one connection too many
	refusedBatch   = "Batch"   // a malformed frame
)

// errUnaudited is a bug: an action that was not begun as a call.
var errUnaudited = errors.New("an action outside of a call, which nothing would record")

// Call performs one action in this process, recorded as one that came over a
// socket: method is the Service's for op. The Service's methods refuse callers
// whose call nobody records.
func Call[In, Out any](ctx context.Context, s *Service, caller Caller, op string,
	method func(*Service, context.Context, Caller, *In) (*Out, error), in *In) (*Out, error) {
	if caller.RequestID == "" {
		caller.RequestID = audit.NewID()
	}
	c := calls.Get().(*call)
	defer c.recycle()
	c.begin(op, origin{address: localAddress, userAgent: "kmsfs"})
	c.madeBy(caller)
	caller.call = c
	out, err := recorded(ctx, s, caller, method, in)
	var e *kmsapi.Error
	if err != nil {
		e = apiError(s.log, op, err)
	}
	if err := s.record(c, e); err != nil {
		if out != nil {
			wipeOutput(out)
		}
		return nil, apiError(s.log, op, err)
	}
	if e != nil {
		return nil, e
	}
	return out, nil
}

// recorded calls method and notes what goes in and out.
func recorded[In, Out any](ctx context.Context, s *Service, caller Caller,
	method func(*Service, context.Context, Caller, *In) (*Out, error), in *In) (*Out, error) {
	caller.call.takes(in)
	out, err := method(s, ctx, caller, in)
	if err == nil {
		caller.call.gives(out)
	}
	return out, err
}

func wipeOutput(out any) {
	switch t := out.(type) {
	case taker:
		secret.Wipe(t.TakePlaintext())
	case textTaker:
		_, _, text := t.TakeSecret()
		secret.Wipe(text)
	}
}

// recordAll writes the records of calls that change nothing, in one write. They
// are durable soon after.
func (s *Service) recordAll(rs []*audit.Record) error {
	if len(rs) == 0 {
		return nil
	}
	if _, err := s.audit.AppendAll(rs, false); err != nil {
		return fmt.Errorf("the calls cannot be recorded: %w", err)
	}
	return nil
}

// record ends c with the answer and writes its record, of a change durably. If
// it fails, the call must be refused.
func (s *Service) record(c *call, e *kmsapi.Error) error {
	c.ends(e)
	durable := c.changed()
	if durable {
		c.record.EventID = audit.NewID() // the same in every attempt
	}
	_, err := s.audit.Append(&c.record, durable)
	if err == nil {
		return nil
	}
	if durable {
		s.owe(c.record)
		c.owed = true
	}
	if errors.Is(err, audit.ErrClosed) {
		return errClosing()
	}
	return fmt.Errorf("the call cannot be recorded: %w", err)
}
