package keysvc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// jsonProtocol is AWS JSON 1.1, which KMS speaks.
type jsonProtocol struct {
	name    string // of the service whose protocol it is
	prefix  string // of X-Amz-Target
	actions map[string]action
}

func kmsProtocol(actions map[string]action) jsonProtocol {
	return jsonProtocol{"kms", kmsapi.TargetPrefix, actions}
}

func (p jsonProtocol) service() string   { return p.name }
func (jsonProtocol) contentType() string { return kmsapi.ContentType }

func (p jsonProtocol) operation(r *http.Request, _ []byte) (string, error) {
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), p.prefix)
	if r.Method != http.MethodPost || !ok || len(r.Header.Values("X-Amz-Target")) != 1 {
		return "", &kmsapi.Error{Code: kmsapi.CodeUnknownOperation}
	}
	return op, nil
}

func (p jsonProtocol) action(op string, body []byte) (action, []byte, error) {
	act, ok := p.actions[op]
	if !ok {
		return nil, nil, &kmsapi.Error{Code: kmsapi.CodeUnsupportedOperation, Message: "This key service does not support the action."}
	}
	return act, body, nil
}

// taker is an output with a secret member, called Plaintext.
type taker interface{ TakePlaintext() []byte }

// textTaker is an output with another secret member: the first one, called name, of the
// object that begins with within. It needs no escaping.
type textTaker interface {
	TakeSecret() (within, name string, text []byte)
}

// encode appends what json.Marshal makes of out, except that a secret goes only into the
// returned slice: encoding/json would keep a copy in a pool.
func (jsonProtocol) encode(b []byte, out any, _ string) ([]byte, error) {
	if _, ok := out.(*kmsapi.Empty); ok {
		return b, nil
	}
	var within, name string
	var plaintext, text []byte
	switch t := out.(type) {
	case taker:
		if plaintext = t.TakePlaintext(); plaintext != nil {
			within, name = "{", "Plaintext"
		}
	case textTaker:
		within, name, text = t.TakeSecret()
	}
	defer secret.Wipe(plaintext)
	defer secret.Wipe(text)
	m := marshals.Get().(*marshal)
	defer m.recycle()
	if err := m.encoder.Encode(out); err != nil {
		return nil, err
	}
	rest := bytes.TrimSuffix(m.buf.Bytes(), []byte("\n"))
	if plaintext == nil && text == nil {
		return append(b, rest...), nil
	}
	// It never grows when the secret is in it.
	b = slices.Grow(b, len(rest)+len(name)+base64.StdEncoding.EncodedLen(len(plaintext))+len(text)+len(`"":"",`))
	b = append(append(b, within...), '"')
	b = append(append(b, name...), `":"`...)
	b = append(base64.StdEncoding.AppendEncode(b, plaintext), text...)
	b = append(b, '"')
	if rest = rest[len(within):]; rest[0] != '}' {
		b = append(b, ',')
	}
	return append(b, rest...), nil
}

// marshal is an encoder and its memory, to be used again.
type marshal struct {
	buf     bytes.Buffer
	encoder *json.Encoder
}

var marshals = sync.Pool{New: func() any {
	m := new(marshal)
	m.encoder = json.NewEncoder(&m.buf)
	return m
}}

func (m *marshal) recycle() {
	if m.buf.Cap() <= maxKept {
		m.buf.Reset()
		marshals.Put(m)
	}
}

func (jsonProtocol) encodeError(e *kmsapi.Error, _ string) (int, []byte) {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // of two strings
	}
	return e.HTTPStatus(), body
}
