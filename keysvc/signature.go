package keysvc

import (
	"errors"

	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// maxSigningKeys is how many keys derived from secrets are kept: more than there are
// access keys in use at once.
const maxSigningKeys = 1024

// signer is who signed q, which came over the network. All that the service goes by is
// signed.
func (s *Server) signer(q *request) (Caller, error) {
	c, ok := q.Context().Value(connKey{}).(*conn)
	if !ok {
		return Caller{}, errors.New("a request without a connection")
	}
	caller, err := s.svc.authenticate(q)
	if err != nil {
		if !s.throttle.take(c.remote.from, s.opts.Clock()) {
			q.answer.Set("Connection", "close") // and it does not come back soon
		}
		return Caller{}, err
	}
	if !s.recognize(c) {
		return Caller{}, &kmsapi.Error{Code: kmsapi.CodeThrottling, Message: "Too many connections."}
	}
	caller.Remote.Addr, caller.Remote.TLS = c.remote.addr, q.TLS
	return caller, nil
}

// authenticate verifies the signature of q and finds whose it is.
func (s *Service) authenticate(q *request) (Caller, error) {
	signed, err := sigv4.Verify(q.Request, q.body, sigv4.Options{
		Region: Region, Service: q.protocol.service(), Now: s.clock, Lookup: s.useSecret, Cache: s.signingKeys,
	})
	if err != nil {
		return Caller{}, q.refused(err)
	}
	unknown := sigv4.UnrecognizedClient()
	unknown.AccessKeyID = signed.AccessKeyID
	if signed.SessionToken != "" {
		return Caller{}, q.refused(unknown) // nobody was given one
	}
	// The signing key may have been kept for longer than there was an access key.
	owner, err := s.principalByAccessKey(signed.AccessKeyID)
	if errors.Is(err, errNoAccessKey) {
		return Caller{}, q.refused(unknown)
	}
	if err != nil {
		return Caller{}, err
	}
	if q.URL.Path != "/" || q.URL.RawQuery != "" {
		// The signature covers them after some rewriting (see sigv4): nothing
		// here must depend on either.
		return Caller{}, &kmsapi.Error{Code: kmsapi.CodeUnknownOperation}
	}
	return Caller{Principal: owner, Remote: &Remote{AccessKeyID: signed.AccessKeyID}}, nil
}

// refused notes whose access key was claimed to sign q, and returns the refusal as the
// API gives it.
func (q *request) refused(err error) error {
	var refusal *sigv4.Error
	if !errors.As(err, &refusal) {
		return err
	}
	q.call.record.UserIdentity.AccessKeyID = refusal.AccessKeyID
	return &kmsapi.Error{Code: refusal.Code, Message: refusal.Message}
}
