package keysvc

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// maxBody is more than any request of the API needs.
const maxBody = 1 << 20

// handler answers the AWS KMS JSON 1.1 protocol. Signatures are not looked at:
// on a unix socket the kernel says who the peer is.
type handler struct {
	s       *Service
	log     *slog.Logger
	actions map[string]action
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	w.Header().Set("x-amzn-RequestId", id)
	c := new(call)
	target := r.Header.Get("X-Amz-Target")
	c.begin(target[strings.LastIndexByte(target, '.')+1:], originOf(r))
	c.record.RequestID = id
	out, err := h.run(w, r, id, c)
	var body []byte
	if err == nil {
		body, err = encode(out)
	}
	defer secret.Wipe(body)
	var e *kmsapi.Error
	if err != nil {
		e = apiError(h.log, target, err)
	}
	if err := h.s.record(c, e); err != nil {
		e = apiError(h.log, target, err)
	}
	if e != nil {
		h.refuse(w, e)
		return
	}
	h.reply(w, http.StatusOK, body)
}

// run performs the request, of which it makes c the record.
func (h *handler) run(w http.ResponseWriter, r *http.Request, id string, c *call) (any, error) {
	caller, ok := r.Context().Value(callerKey{}).(Caller)
	if !ok {
		return nil, errors.New("a request without a caller")
	}
	caller.RequestID, caller.UserAgent, caller.call = id, r.UserAgent(), c
	c.madeBy(caller)
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), kmsapi.TargetPrefix)
	if r.Method != http.MethodPost || !ok || len(r.Header.Values("X-Amz-Target")) != 1 {
		return nil, &kmsapi.Error{Code: kmsapi.CodeUnknownOperation}
	}
	act, ok := h.actions[op]
	if !ok {
		return nil, &kmsapi.Error{Code: kmsapi.CodeUnsupportedOperation, Message: "This key service does not support the action."}
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(body)
	return act(r.Context(), h.s, caller, body)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := &kmsapi.Error{Code: kmsapi.CodeSerialization, Message: "The request is too large."}
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength) // one buffer, which the caller wipes
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, &kmsapi.Error{Code: kmsapi.CodeSerialization, Message: "The request's body is shorter than its Content-Length."}
		}
		return body, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, tooLarge
	}
	return body, nil
}

// taker is an output with a secret member.
type taker interface{ TakePlaintext() []byte }

// encode is json.Marshal, except that a plaintext goes only into the returned
// slice: encoding/json would keep a copy in a pool.
func encode(out any) ([]byte, error) {
	if _, ok := out.(*kmsapi.Empty); ok {
		return nil, nil
	}
	var plaintext []byte
	if t, ok := out.(taker); ok {
		plaintext = t.TakePlaintext()
	}
	defer secret.Wipe(plaintext)
	rest, err := json.Marshal(out)
	if err != nil || plaintext == nil {
		return rest, err
	}
	const member = `{"Plaintext":"`
	n := base64.StdEncoding.EncodedLen(len(plaintext))
	body := make([]byte, len(member)+n, len(member)+n+2+len(rest))
	copy(body, member)
	base64.StdEncoding.Encode(body[len(member):], plaintext)
	body = append(body, '"')
	if len(rest) > len("{}") {
		body = append(body, ',')
	}
	return append(body, rest[1:]...), nil
}

func (h *handler) refuse(w http.ResponseWriter, e *kmsapi.Error) {
	body, err := json.Marshal(e)
	if err != nil {
		h.log.Error("encode an error", "error", err)
	}
	h.reply(w, e.HTTPStatus(), body)
}

func (h *handler) reply(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", kmsapi.ContentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		h.log.Debug("reply", "error", err) // the peer has left
	}
}
