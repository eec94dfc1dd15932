package keysvc

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

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

// encode is json.Marshal, except that a secret goes only into the returned slice:
// encoding/json would keep a copy in a pool.
func (jsonProtocol) encode(out any, _ string) ([]byte, error) {
	if _, ok := out.(*kmsapi.Empty); ok {
		return nil, nil
	}
	var within, name string
	var text []byte
	switch t := out.(type) {
	case taker:
		plaintext := t.TakePlaintext()
		defer secret.Wipe(plaintext)
		if plaintext != nil {
			within, name, text = "{", "Plaintext", make([]byte, base64.StdEncoding.EncodedLen(len(plaintext)))
			base64.StdEncoding.Encode(text, plaintext)
		}
	case textTaker:
		within, name, text = t.TakeSecret()
	}
	defer secret.Wipe(text)
	rest, err := json.Marshal(out)
	if err != nil || text == nil {
		return rest, err
	}
	body := make([]byte, 0, len(rest)+len(name)+len(text)+len(`"":"",`)) // never grows
	body = append(append(body, within...), '"')
	body = append(append(body, name...), `":"`...)
	body = append(append(body, text...), '"')
	if rest = rest[len(within):]; rest[0] != '}' {
		body = append(body, ',')
	}
	return append(body, rest...), nil
}

func (jsonProtocol) encodeError(e *kmsapi.Error, _ string) (int, []byte) {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // of two strings
	}
	return e.HTTPStatus(), body
}
