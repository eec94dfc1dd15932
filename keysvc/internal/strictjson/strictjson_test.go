package strictjson_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/strictjson"
)

// input has what the inputs of the API have.
type input struct {
	KeyID             string            `json:"KeyId"`
	Plaintext         []byte            `json:",omitempty"`
	EncryptionContext map[string]string `json:",omitempty"`
	GrantTokens       []string
	NumberOfBytes     *int32
	Size              float64
	DryRun            bool
	Tags              []tag
	Constraints       *constraints
	Raw               json.RawMessage
	ValidTo           *time.Time
	Hidden            []byte `json:"-"`
	unexported        []byte
	Page
}

type tag struct{ TagKey, TagValue string }

type constraints struct {
	EncryptionContextEquals map[string]string
	ByName                  map[string]tag
}

type Page struct{ Marker string }

func nested(n int) string {
	return `{"x":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
}

var (
	limits = strictjson.Limits{MaxBytes: 1000, MaxDepth: 5, MaxMembers: 20}
	eleven = strings.Repeat(`1,`, 10) + `1`
)

func TestWhatIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name, doc string
		want      error
	}{
		{"empty object", `{}`, nil},
		{"spaces around", " \t\r\n{ \"KeyId\" : \"k\" , \"DryRun\" : true } \n", nil},
		{"no body", ``, nil},
		{"spaces only", " \n", nil},

		{"a name twice", `{"KeyId":"k","KeyId":"l"}`, strictjson.ErrTwice},
		{"a name twice with the same value", `{"KeyId":"k","KeyId":"k"}`, strictjson.ErrTwice},
		{"a name twice, once escaped", `{"KeyId":"k","Key\u0049d":"l"}`, strictjson.ErrTwice},
		{"a name twice, escapes of two kinds", `{"\/":1,"\u002f":2}`, strictjson.ErrTwice},
		{"a name twice, an astral letter escaped", `{"😀":1,"\ud83d\ude00":2}`, strictjson.ErrTwice},
		{"an empty name twice", `{"":1,"":2}`, strictjson.ErrTwice},
		{"a context key twice", `{"EncryptionContext":{"a":"1","a":"2"}}`, strictjson.ErrTwice},
		{"a name twice in a member nobody knows", `{"x":[{"y":{"a":1,"a":2}}]}`, strictjson.ErrTwice},
		{"one name in two objects", `{"Tags":[{"TagKey":"a"},{"TagKey":"b"}],"x":{"Tags":1}}`, nil},

		{"another case", `{"keyid":"k"}`, nil},
		{"two cases", `{"KeyId":"k","keyid":"l"}`, strictjson.ErrCaseVariant},
		{"two cases the other way", `{"keyid":"l","KeyId":"k"}`, strictjson.ErrCaseVariant},
		{"two wrong cases", `{"keyid":"l","KEYID":"k"}`, strictjson.ErrCaseVariant},
		{"the Kelvin sign", "{\"KeyId\":\"k\",\"\u212aeyId\":\"l\"}", strictjson.ErrCaseVariant},
		{"the long s", "{\"Tags\":[],\"Tag\u017f\":[]}", strictjson.ErrCaseVariant},
		{"the long s, escaped", `{"Tags":[],"Tag\u017f":[]}`, strictjson.ErrCaseVariant},
		{"two cases in a struct in a list", `{"Tags":[{"TagKey":"a","tagkey":"b"}]}`, strictjson.ErrCaseVariant},
		{"two cases in a struct in a map", `{"Constraints":{"ByName":{"x":{"TagKey":"a","tagkey":"b"}}}}`, strictjson.ErrCaseVariant},
		{"two cases of an unknown name", `{"x":1,"X":2}`, strictjson.ErrCaseVariant},
		{"two cases of a context key", `{"EncryptionContext":{"a":"1","A":"2"}}`, nil},
		{"two cases of a nested context key", `{"Constraints":{"EncryptionContextEquals":{"a":"1","A":"2"}}}`, nil},
		{"two cases in a member nobody knows", `{"x":{"a":1,"A":2}}`, nil},

		{"depth n-1", nested(4), nil},
		{"depth n", nested(5), nil},
		{"depth n+1", nested(6), strictjson.ErrTooDeep},
		{"depth n+1 of objects", strings.Repeat(`{"a":`, 5) + `{}` + strings.Repeat(`}`, 5), strictjson.ErrTooDeep},
		{"depth of a hundred thousand", strings.Repeat(`[`, 900), strictjson.ErrNotObject},
		{"members n", `{"a":[1,2,3,4,5,6,7],"b":[` + eleven + `]}`, nil},
		{"members n+1", `{"a":[1,2,3,4,5,6,7,8],"b":[` + eleven + `]}`, strictjson.ErrTooMany},
		{"bytes n", `{}` + strings.Repeat(" ", 998), nil},
		{"bytes n+1", `{}` + strings.Repeat(" ", 999), strictjson.ErrTooLarge},
		{"spaces n+1", strings.Repeat(" ", 1001), strictjson.ErrTooLarge},

		{"bytes behind", `{}x`, strictjson.ErrTrailing},
		{"an object behind", `{}{}`, strictjson.ErrTrailing},
		{"a bracket behind", `{}}`, strictjson.ErrTrailing},
		{"a NUL behind", "{}\x00", strictjson.ErrTrailing},
		{"a list", `[]`, strictjson.ErrNotObject},
		{"null", `null`, strictjson.ErrNotObject},
		{"a string", `"x"`, strictjson.ErrNotObject},

		{"an end too soon", `{"a":1`, strictjson.ErrSyntax},
		{"the wrong end", `{"a":[1}`, strictjson.ErrSyntax},
		{"a comma at the end", `{"a":1,}`, strictjson.ErrSyntax},
		{"a comma at the end of a list", `{"a":[1,]}`, strictjson.ErrSyntax},
		{"no comma", `{"a":1 "b":2}`, strictjson.ErrSyntax},
		{"no colon", `{"a" 1}`, strictjson.ErrSyntax},
		{"no value", `{"a":}`, strictjson.ErrSyntax},
		{"a name without quotes", `{a:1}`, strictjson.ErrSyntax},
		{"a number as a name", `{1:1}`, strictjson.ErrSyntax},
		{"a comment", `{/**/}`, strictjson.ErrSyntax},
		{"a line feed in a string", "{\"a\":\"\n\"}", strictjson.ErrSyntax},
		{"a byte order mark", "\ufeff{}", strictjson.ErrSyntax},
		{"single quotes", `{'a':1}`, strictjson.ErrSyntax},

		{"a byte that is no UTF-8", "{\"KeyId\":\"\xff\"}", strictjson.ErrUnicode},
		{"a surrogate in UTF-8", "{\"KeyId\":\"\xed\xa0\x80\"}", strictjson.ErrUnicode},
		{"a high surrogate", `{"KeyId":"\ud800"}`, strictjson.ErrUnicode},
		{"a low surrogate", `{"KeyId":"\udc00"}`, strictjson.ErrUnicode},
		{"a high surrogate before a letter", `{"KeyId":"\uD83Dx"}`, strictjson.ErrUnicode},
		{"a high surrogate before an escape", `{"KeyId":"\uD83D\n"}`, strictjson.ErrUnicode},
		{"two high surrogates", `{"KeyId":"\uD83D\uD83D"}`, strictjson.ErrUnicode},
		{"two low surrogates", `{"KeyId":"\udc00\udc00"}`, strictjson.ErrUnicode},
		{"a high surrogate before a letter behind them", `{"KeyId":"\ud83d\ue000"}`, strictjson.ErrUnicode},
		{"surrogates the wrong way round", `{"KeyId":"\ude00\ud83d"}`, strictjson.ErrUnicode},
		{"a surrogate in a name", `{"a\ud800":1}`, strictjson.ErrUnicode},
		{"a surrogate that is none", `{"KeyId":"\\ud800"}`, nil},
		{"a surrogate behind a backslash", `{"KeyId":"\\\ud800"}`, strictjson.ErrUnicode},
		{"a pair", `{"KeyId":"\ud83d\ude00\uFFFD�"}`, nil},

		{"a number too large", `{"Size":1e400}`, strictjson.ErrNumber},
		{"a number too small to matter", `{"Size":1e-400}`, nil},
		{"a number too large that nobody reads", `{"x":[-1e999]}`, strictjson.ErrNumber},
		{"the largest", `{"Size":1.7976931348623157e308}`, nil},
		{"an integer n", `{"NumberOfBytes":2147483647}`, nil},
		{"an integer n+1", `{"NumberOfBytes":2147483648}`, strictjson.ErrType},
		{"a fraction for an integer", `{"NumberOfBytes":1.5}`, strictjson.ErrType},
		{"a leading zero", `{"Size":01}`, strictjson.ErrSyntax},
		{"not a number", `{"Size":NaN}`, strictjson.ErrSyntax},

		{"a number for a string", `{"KeyId":1}`, strictjson.ErrType},
		{"an object for a list", `{"Tags":{}}`, strictjson.ErrType},
		{"a list of numbers for a blob", `{"Plaintext":[1,2]}`, strictjson.ErrType},
		{"no base64", `{"Plaintext":"!"}`, strictjson.ErrType},
		{"a list where a type reads for itself", `{"Raw":[1,{"a":1,"A":2}]}`, nil},
		{"members that are no members", `{"-":[1],"unexported":[1],"Page":{"a":1,"A":2}}`, nil},
		{"null for anything", `{"KeyId":null,"Plaintext":null,"Tags":null,"Constraints":null,"NumberOfBytes":null}`, nil},
		{"a wrong type under a name of another case", `{"keyid":1}`, nil},
		{"a wrong type that nobody reads", `{"x":{"KeyId":1}}`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := strictjson.Decode([]byte(tt.doc), limits, new(input)); err != tt.want {
				t.Errorf("Decode says %v, not %v", err, tt.want)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		doc  string
		want input
	}{
		{`{"KeyId":"k","Plaintext":"cA==","EncryptionContext":{"a":"b","A":""},"GrantTokens":["x"],"unknown":{"KeyId":"l"}}`,
			input{KeyID: "k", Plaintext: []byte("p"), EncryptionContext: map[string]string{"a": "b", "A": ""}, GrantTokens: []string{"x"}}},
		// Names of another letter case are other names, at every level.
		{`{"keyid":"k","DRYRUN":true,"marker":"m","Marker ":"n"}`, input{}},
		{"{\"\u212aeyId\":\"k\"}", input{}},
		{`{"Ke\u0079Id":"l","DRY\u0052UN":true}`, input{KeyID: "l"}},
		{`{"Tags":[{"TagKey":"a","tagvalue":"b"},{"tagKEY":"c"}]}`, input{Tags: []tag{{TagKey: "a"}, {}}}},
		{`{"Constraints":{"encryptionContextEquals":{"a":"b"},"ByName":{"x":{"tagkey":"a","TagValue":"b"}}}}`,
			input{Constraints: &constraints{ByName: map[string]tag{"x": {TagValue: "b"}}}}},
		{`{"Marker":"m","Hidden":"h","-":"i"}`, input{Page: Page{"m"}}},
		{`{"Raw":{"a":1, "A":2},"ValidTo":"2026-11-22T12:00:00Z"}`, input{Raw: json.RawMessage(`{"a":1, "A":2}`), ValidTo: at("2026-11-22T12:00:00Z")}},
		{``, input{}},
	} {
		doc := []byte(tt.doc)
		var got input
		if err := strictjson.Decode(doc, limits, &got); err != nil {
			t.Errorf("%s: %v", tt.doc, err)
			continue
		}
		if got.unexported != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s is read as\n%+v, not\n%+v", tt.doc, got, tt.want)
		}
		if string(doc) != tt.doc {
			t.Errorf("%s was changed to %s", tt.doc, doc)
		}
	}
	m := map[string]int{}
	if err := strictjson.Decode([]byte(`{"a":1,"A":2}`), limits, &m); err != nil || len(m) != 2 {
		t.Errorf("a map: %v, %v", m, err)
	}
}

func at(s string) *time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return &t
}

// TestErrorsQuoteNothing: a plaintext in the wrong place does not come back.
func TestErrorsQuoteNothing(t *testing.T) {
	for _, doc := range []string{
		`{"NumberOfBytes":"hunter2"}`, `{"Plaintext":"hunter2!"}`, `{"hunter2":1,"hunter2":2}`, `{"hunter2":1,"HUNTER2":2}`, `{"Size":"hunter2"`, `{"KeyId":"hunter2\ud800"}`, `{}hunter2`,
	} {
		err := strictjson.Decode([]byte(doc), limits, new(input))
		if err == nil || strings.Contains(strings.ToLower(err.Error()), "hunter") {
			t.Errorf("%s: %v", doc, err)
		}
	}
}

func TestTargetsOfOurOwn(t *testing.T) {
	for _, v := range []any{nil, input{}, (*input)(nil)} {
		if err := strictjson.Decode([]byte(`{}`), limits, v); err == nil {
			t.Errorf("decoded into %T", v)
		}
	}
	var list []int
	if err := strictjson.Decode([]byte(`{}`), limits, &list); err != strictjson.ErrType {
		t.Errorf("an object into a list: %v", err)
	}
}

// BenchmarkDecode is one request to encrypt 4 KiB, and one to make a data key.
func BenchmarkDecode(b *testing.B) {
	for _, doc := range []string{
		`{"KeyId":"alias/x","NumberOfBytes":32,"EncryptionContext":{"kmsfs:volume":"v","kmsfs:path":"/a/b"}}`,
		`{"KeyId":"alias/x","Plaintext":"` + strings.Repeat("AAAA", 1365) + `"}`,
	} {
		b.Run(fmt.Sprint(len(doc)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := strictjson.Decode([]byte(doc), strictjson.AWS, new(input)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
