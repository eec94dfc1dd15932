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
type jsonProtocol struct{ actions map[string]action }

func (jsonProtocol) service() string     { return "kms" }
func (jsonProtocol) contentType() string { return kmsapi.ContentType }

func (jsonProtocol) operation(r *http.Request, _ []byte) (string, error) {
	op, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), kmsapi.TargetPrefix)
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

// taker is an output with a secret member.
type taker interface{ TakePlaintext() []byte }

// encode is json.Marshal, except that a plaintext goes only into the returned
// slice: encoding/json would keep a copy in a pool.
func (jsonProtocol) encode(out any, _ string) ([]byte, error) {
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

func (jsonProtocol) encodeError(e *kmsapi.Error, _ string) (int, []byte) {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // of two strings
	}
	return e.HTTPStatus(), body
}
