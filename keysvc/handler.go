package keysvc

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/internal/strictjson"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// maxLocalBody is more than any request of the API needs.
const maxLocalBody = 1 << 20

// handler answers the protocols of AWS.
type handler struct {
	s        *Service
	log      *slog.Logger
	identify func(*request) (Caller, error) // says who sent it
	json     jsonProtocol
	query    queryProtocol
	maxBody  int64 // bytes
}

// request is one on its way to its action.
type request struct {
	*http.Request
	protocol protocol
	body     []byte      // all of it
	call     *call       // its record
	answer   http.Header // of the response
}

// protocol is a way of AWS to write requests and answers.
type protocol interface {
	// service is whom a request in it is for: what its signature must be scoped to.
	service() string
	// operation is the name of the action that is asked for.
	operation(r *http.Request, body []byte) (string, error)
	// action is the action called op, and its input.
	action(op string, body []byte) (action, []byte, error)
	// encode appends the output of an action to b.
	encode(b []byte, out any, requestID string) ([]byte, error)
	// encodeError writes a refusal.
	encodeError(e *kmsapi.Error, requestID string) (status int, body []byte)
	contentType() string
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := audit.NewID()
	w.Header().Set("X-Amzn-Requestid", id) // in the form in which Go sends it anyway
	q := &request{Request: r, protocol: h.protocol(r), call: calls.Get().(*call), answer: w.Header()}
	defer q.call.recycle()
	q.call.record.RequestID = id
	out, err := h.run(q)
	answer := answers.Get().(*[]byte)
	defer wipeAnswer(answer)
	if err == nil {
		*answer, err = q.protocol.encode((*answer)[:0], out, id)
	}
	var e *kmsapi.Error
	if err != nil {
		e = apiError(h.log, q.call.record.EventName, err)
	}
	if err := h.s.record(q.call, e); err != nil {
		e = apiError(h.log, q.call.record.EventName, err)
	}
	status, body := http.StatusOK, *answer
	if e != nil {
		status, body = q.protocol.encodeError(e, id)
	}
	w.Header().Set("Content-Type", q.protocol.contentType())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		h.log.Debug("reply", "error", err) // the peer has left
	}
}

// answers are memory for bodies, to be used again. It holds nothing in between.
var answers = sync.Pool{New: func() any { return new([]byte) }}

// maxKept is how large a body may be whose memory is used again.
const maxKept = 16 << 10

func wipeAnswer(p *[]byte) {
	secret.Wipe(*p)
	if *p = (*p)[:0]; cap(*p) <= maxKept {
		answers.Put(p)
	}
}

// protocol tells the protocols apart by headers that a signature covers.
func (h *handler) protocol(r *http.Request) protocol {
	if _, ok := r.Header["X-Amz-Target"]; !ok && isForm(r) {
		return h.query
	}
	return h.json
}

// run performs the request, of which it makes q.call the record.
func (h *handler) run(q *request) (any, error) {
	body, err := readBody(q.Request, h.maxBody)
	defer secret.Wipe(body)
	q.body = body
	op, opErr := q.protocol.operation(q.Request, body)
	q.call.begin(op, originOf(q.Request))
	q.call.record.EventSource = q.protocol.service() + ".amazonaws.com"
	if err != nil {
		return nil, err
	}
	// Who asks comes first: strangers learn nothing of what there is.
	caller, err := h.identify(q)
	if err != nil {
		return nil, err
	}
	caller.RequestID, caller.UserAgent, caller.call = q.call.record.RequestID, q.UserAgent(), q.call
	q.call.madeBy(caller)
	if opErr != nil {
		return nil, opErr
	}
	act, in, err := q.protocol.action(op, body)
	if err != nil {
		return nil, err
	}
	return act(q.Context(), h.s, caller, in)
}

// localCaller is who the kernel said is at the other end, or whom that one may be and
// wants to. Signatures are not looked at.
func localCaller(q *request) (Caller, error) {
	caller, ok := q.Context().Value(callerKey{}).(Caller)
	if !ok {
		return Caller{}, errors.New("a request without a caller")
	}
	account := q.Header.Get(kmsapi.AccountHeader)
	if account == "" {
		return caller, nil
	}
	q.call.madeBy(caller) // as it is, if it may not be another
	return inAccount(caller, account)
}

// firstRead is what a body gets before any of it has come: what a peer announces
// costs it nothing.
const firstRead = 16 << 10

// readBody reads up to limit bytes. The caller wipes them; no others are left.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, serialization(string(strictjson.ErrTooLarge))
	}
	size := int64(firstRead)
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength)
	}
	body := make([]byte, 0, size+1) // room to see the end
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit:
			secret.Wipe(body)
			return nil, serialization(string(strictjson.ErrTooLarge))
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			secret.Wipe(body)
			return nil, serialization("The request's body ends too soon.")
		case len(body) == cap(body):
			grown := make([]byte, len(body), 2*cap(body))
			copy(grown, body)
			secret.Wipe(body)
			body = grown
		}
	}
}
