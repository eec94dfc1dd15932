package keysvc

import (
	"encoding/json"
	"reflect"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// FuzzDecode checks that what a request decodes to is what it would decode to
// after it was written down again: there is one way to read it.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `{"KeyId":"k","Plaintext":"cA==","EncryptionContext":{"a":"b","c":""}}`,
		`{"KeyId":"k","KeyId":"l"}`, `{"keyid":"k"}`, `{"KeyId":null}`, `{"KeyId":1}`, `{"Key\u0049d":"k"}`,
		`{"EncryptionContext":{"a":"1","a":"2"}}`, `[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]`, `{"x":{}}{}`, "{\"KeyId\":\"\xff\"}",
		`{"GrantTokens":["a","b"],"DryRun":true}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var in kmsapi.EncryptInput
		if decode(body, &in) != nil {
			return
		}
		again, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var back kmsapi.EncryptInput
		if err := decode(again, &back); err != nil {
			t.Fatalf("%s is read as %s, which is not read: %v", body, again, err)
		}
		// Absent and empty differ for a writer only.
		if len(in.EncryptionContext) == 0 {
			in.EncryptionContext, back.EncryptionContext = nil, nil
		}
		if len(in.GrantTokens) == 0 {
			in.GrantTokens, back.GrantTokens = nil, nil
		}
		if len(in.Plaintext) == 0 {
			in.Plaintext, back.Plaintext = nil, nil
		}
		if !reflect.DeepEqual(in, back) {
			t.Fatalf("%s is read as %+v and then as %+v", body, in, back)
		}
	})
}
