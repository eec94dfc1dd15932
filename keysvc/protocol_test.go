package keysvc

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// FuzzProtocols has both protocols read anything and answer what can be read.
func FuzzProtocols(f *testing.F) {
	for _, body := range []string{
		"Action=GetCallerIdentity&Version=2011-06-15", "Action=%00%ff<&Version=]]>", "a=1&a=2", "&&;%", "Action", "Action=x&Version=\xff",
	} {
		f.Add("POST", "application/x-www-form-urlencoded", "", []byte(body))
		f.Add("GET", "application/x-amz-json-1.1", "TrentService."+body, []byte("{}"))
	}
	f.Fuzz(func(t *testing.T, method, contentType, target string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Method = method
		r.Header.Set("Content-Type", contentType)
		if target != "" {
			r.Header.Set("X-Amz-Target", target)
		}
		h := handler{json: kmsProtocol(actions()), query: queryProtocol{stsActions()}}
		p := h.protocol(r)
		op, err := p.operation(r, body)
		if err == nil {
			var act action
			if act, _, err = p.action(op, body); err == nil && act == nil {
				t.Errorf("%q is an action that is none", op)
			}
		}
		if err == nil {
			return
		}
		var refusal *kmsapi.Error
		if !errors.As(err, &refusal) {
			t.Fatalf("%v is no refusal", err)
		}
		status, answer := p.encodeError(refusal, "id")
		if status < 400 || !wellFormed(p, answer) {
			t.Errorf("%d %q", status, answer)
		}
	})
}

func wellFormed(p protocol, answer []byte) bool {
	if p.service() == "kms" {
		return json.Valid(answer)
	}
	for d := xml.NewDecoder(strings.NewReader(string(answer))); ; {
		if _, err := d.Token(); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}
