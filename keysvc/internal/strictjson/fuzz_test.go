package strictjson_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/keysvc/internal/strictjson"
)

// FuzzStrictJSON compares Decode with a reader that knows no tokens, and with one
// that knows no structs.
func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{
		``, "\v", `{}`, `null`, `{"KeyId":"k","Plaintext":"cA==","EncryptionContext":{"a":"b","A":""}}`, `{"KeyId":"k","KeyId":"l"}`,
		`{"keyid":"k"}`, `{"KeyId":"k","KEYID":"l"}`, "{\"\u212aeyId\":1}", `{"Key\u0049d":"k"}`, `{"KeyId":null,"Tags":[{"TagKey":"a","tagkey":"b"}]}`,
		`{"Constraints":{"EncryptionContextEquals":{"a":"1","a":"2"}}}`, nested(5), nested(6), `{"x":{}}{}`, "{\"KeyId\":\"\xff\"}", `{"a":"\ud83d\ude00\ud800"}`,
		`{"a":"\\ud800\"\u0022"}`, `{"a":[1e400,1E-400,-0,0.1]}`, `{"Plaintext":[1]}`, `{"a" :1,"b":2 , "":{} ,"c":[ ]}`, `{"ſ":1,"s":2}`, `{"a":"\uD800\u0020"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		sameInTwoPasses(t, data, new(input), new(input))
		sameInTwoPasses(t, data, new(map[string]string), new(map[string]string))
		sameInTwoPasses(t, data, new(map[string]json.RawMessage), new(map[string]json.RawMessage))
		sameInTwoPasses(t, data, new(struct{}), new(struct{}))
		// A map of what nobody reads: all but types and letter case.
		ok := strictjson.Decode(data, limits, new(map[string]json.RawMessage)) == nil
		blank := len(bytes.Trim(data, " \t\r\n")) == 0 && len(data) <= limits.MaxBytes
		if want := blank || plainlyStrict(data, false); ok != want {
			t.Fatalf("Decode accepts: %v, the slow reader: %v", ok, want)
		}
		var loose any
		if err := json.Unmarshal(data, &loose); ok && !blank && err != nil {
			t.Fatalf("Decode accepts what encoding/json does not: %v", err)
		}
		// A struct whose members are all unknown: letter case matters at the top.
		if ok := strictjson.Decode(data, limits, new(struct{})) == nil; !blank && plainlyStrict(data, true) && !ok {
			t.Fatal("Decode refuses what has no two names that fold alike")
		}
		var in input
		if strictjson.Decode(data, limits, &in) != nil {
			return
		}
		if !bytes.Equal(data, before) {
			t.Fatal("Decode changed its input")
		}
		if len(bytes.Trim(data, " \t\r\n")) == 0 {
			return
		}
		if !plainlyStrict(data, false) {
			t.Fatal("Decode accepts what the slow reader does not")
		}
		members := loose.(map[string]any)
		want := func(name string, zero any) any {
			if v := members[name]; v != nil {
				return v
			}
			return zero
		}
		if in.KeyID != want("KeyId", "") || in.DryRun != want("DryRun", false) || in.Marker != want("Marker", "") {
			t.Fatalf("read as %+v", in)
		}
		context, _ := want("EncryptionContext", nil).(map[string]any)
		if len(context) != len(in.EncryptionContext) {
			t.Fatalf("the context is read as %v", in.EncryptionContext)
		}
		for k, v := range context {
			if got, ok := in.EncryptionContext[k]; !ok || v != nil && v != got {
				t.Fatalf("the context is read as %v", in.EncryptionContext)
			}
		}
		tags, _ := want("Tags", nil).([]any)
		for i, v := range tags {
			if m, _ := v.(map[string]any); m != nil {
				key, _ := m["TagKey"].(string)
				value, _ := m["TagValue"].(string)
				if (in.Tags[i] != tag{key, value}) {
					t.Fatalf("the tags are read as %v", in.Tags)
				}
			}
		}
		// What was read has one way to be written, and that is read the same.
		again, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var back input
		if err := strictjson.Decode(again, strictjson.AWS, &back); err != nil {
			t.Fatalf("%s is not read: %v", again, err)
		}
		if second, err := json.Marshal(back); err != nil || !bytes.Equal(again, second) {
			t.Fatalf("%s is read as %s, %v", again, second, err)
		}
	})
}

// plainlyStrict is what Decode promises, types aside, for maps, or with folding what
// it promises for structs at every level: by a parser of three functions that goes by
// the bytes.
func plainlyStrict(data []byte, folding bool) bool {
	if len(data) > limits.MaxBytes || !json.Valid(data) || !utf8.Valid(data) {
		return false
	}
	p := &slowParser{rest: string(bytes.TrimSpace(data)), folding: folding}
	return strings.HasPrefix(p.rest, "{") && p.value(0) && p.members <= limits.MaxMembers+1 // the outermost is none
}

// slowParser walks JSON that is known to be valid. Without folding it does not care
// for case variants.
type slowParser struct {
	rest    string
	folding bool
	members int
}

func (p *slowParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n,:") }

func (p *slowParser) value(depth int) bool {
	p.space()
	p.members++
	switch p.rest[0] {
	case '"':
		_, ok := p.text()
		return ok
	case '{', '[':
		return p.inside(depth + 1)
	}
	end := strings.IndexAny(p.rest+",", " \t\r\n,]}")
	var f float64
	literal := p.rest[:end]
	p.rest = p.rest[end:]
	return strings.ContainsAny(literal[:1], "tfn") || json.Unmarshal([]byte(literal), &f) == nil
}

func (p *slowParser) inside(depth int) bool {
	object := p.rest[0] == '{'
	p.rest = p.rest[1:]
	var names []string
	for p.space(); p.rest[0] != '}' && p.rest[0] != ']'; p.space() {
		if object {
			name, ok := p.text()
			if !ok {
				return false
			}
			for _, n := range names {
				if n == name || p.folding && strings.EqualFold(n, name) {
					return false
				}
			}
			names = append(names, name)
		}
		if !p.value(depth) {
			return false
		}
	}
	p.rest = p.rest[1:]
	return depth <= limits.MaxDepth
}

// text reads a string, code unit by code unit.
func (p *slowParser) text() (string, bool) {
	var units []uint16
	s := p.rest[1:]
	for s[0] != '"' {
		if s[0] != '\\' {
			r, n := utf8.DecodeRuneInString(s)
			units = utf16.AppendRune(units, r)
			s = s[n:]
			continue
		}
		n := 2
		if s[1] == 'u' {
			n = 6
			u, err := strconv.ParseUint(s[2:6], 16, 16)
			if err != nil {
				return "", false
			}
			units = append(units, uint16(u))
		} else {
			var one string
			if json.Unmarshal([]byte(`"`+s[:2]+`"`), &one) != nil {
				return "", false
			}
			units = utf16.AppendRune(units, rune(one[0]))
		}
		s = s[n:]
	}
	p.rest = s[1:]
	for i := 0; i < len(units); i++ {
		if utf16.IsSurrogate(rune(units[i])) {
			if i+1 == len(units) || utf16.DecodeRune(rune(units[i]), rune(units[i+1])) == utf8.RuneError {
				return "", false
			}
			i++
		}
	}
	return string(utf16.Decode(units)), true
}

// sameInTwoPasses: what one pass accepts, two accept, and read the same.
func sameInTwoPasses(t *testing.T, data []byte, one, two any) {
	t.Helper()
	if len(bytes.Trim(data, " \t\r\n")) == 0 || len(data) > limits.MaxBytes || !strictjson.DecodePlain(data, limits, one) {
		return
	}
	if err := strictjson.DecodeWary(data, limits, two); err != nil {
		t.Fatalf("%T: one pass accepts what two refuse: %v", one, err)
	}
	if !reflect.DeepEqual(one, two) {
		t.Fatalf("one pass reads %+v, two %+v", one, two)
	}
}
