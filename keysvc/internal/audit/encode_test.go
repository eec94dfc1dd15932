package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// testLog completes and encodes records, and has no directory.
func testLog() *Log { return &Log{opts: fixed(Options{})} }

func completed(r Record) Record {
	testLog().complete(&r)
	return r
}

// checkEncoding compares appendRecord with encoding/json.
func checkEncoding(t *testing.T, r Record) []byte {
	t.Helper()
	c := completed(r)
	got, err := appendRecord([]byte("before"), &c)
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '}')
	want, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "before"+string(want) {
		t.Fatalf("encoded as\n%s\nencoding/json says\n%s", got[len("before"):], want)
	}
	return want
}

// awkward has what JSON writers get wrong.
const awkward = "\x00\x01\b\t\n\v\f\r\x1f \"quoted\" \\ / <b>&amp;</b> \x7f \u00e9 \u65e5\u672c \U0001f511 \u2028\u2029\ufffd \xff\xc3(\xe2\x82 \xed\xa0\x80 end"

func manyRecords() map[string]Record {
	full := *decryptRecord()
	full.EventTime = time.Date(2026, 1, 2, 3, 4, 5, 999, time.FixedZone("", 3600))
	full.ErrorCode, full.ErrorMessage = "AccessDenied", "User: <x> is not authorized"
	full.TLSDetails = &TLSDetails{"TLSv1.3", "TLS_AES_256_GCM_SHA384", "localhost"}
	full.AdditionalEventData.GrantID = strings.Repeat("ab", 32)
	full.AdditionalEventData.ViaService = "ec2.us-east-1.amazonaws.com"
	full.AdditionalEventData.ForwardedBy = &Forwarder{"AIDAX", "arn:aws:iam::000000000000:user/nfsd"}

	reencrypt := Record{
		EventName: "ReEncrypt",
		RequestParameters: &RequestParameters{
			SourceKeyID: "a", SourceEncryptionAlgorithm: "b", SourceEncryptionContext: map[string]string{"z": "1", "a": "2", "": "3"},
			DestinationKeyID: "c", DestinationEncryptionAlgorithm: "d", DestinationEncryptionContext: map[string]string{awkward: awkward},
			DryRun: true, KeySpec: "AES_256", NumberOfBytes: -1,
		},
		AdditionalEventData: &AdditionalEventData{SourceKeyMaterialID: "s", DestinationKeyMaterialID: "d"},
		Resources:           []Resource{{"1", TypeKey, "arn1"}, {"", "", ""}},
	}
	context := make(map[string]string)
	for c := 'z'; c >= 'a'; c-- {
		context[string(c)] = strings.Repeat(string(c), int(c-'a'))
	}
	role := Record{
		UserIdentity: UserIdentity{Type: IdentityAssumedRole, PrincipalID: "AROAX:s", ARN: "arn:aws:sts::000000000000:assumed-role/r/s",
			AccountID: "000000000000", AccessKeyID: "ASIAX", InvokedBy: "ec2.amazonaws.com",
			SessionContext: &SessionContext{
				SessionIssuer: &SessionIssuer{"Role", "AROAX", "arn:aws:iam::000000000000:role/r", "000000000000", "r"},
				Attributes:    &SessionAttributes{"2026-01-02T03:04:05Z", "false"},
			}},
		RequestParameters: &RequestParameters{EncryptionContext: context},
	}
	manage := Record{
		EventName: "CreateGrant",
		RequestParameters: &RequestParameters{KeyID: "k", Management: &Management{
			Description: awkward, Operations: []string{"Decrypt"}, Tags: []Tag{{"a", "b"}}, PendingWindowInDays: 7,
			Constraints: &GrantConstraints{EncryptionContextSubset: map[string]string{"a": "b"}},
		}},
		ResponseElements: &ResponseElements{GrantID: "g", KeyMetadata: &KeyMetadata{ARN: "x", EncryptionAlgorithms: []string{"y"}}},
	}
	strange := Record{EventName: awkward, UserAgent: awkward, SourceIPAddress: awkward, ErrorMessage: awkward, EventSource: awkward,
		UserIdentity: UserIdentity{UserName: awkward}}
	return map[string]Record{
		"nothing":          {},
		"full":             full,
		"reencrypt":        reencrypt,
		"role":             role,
		"manage":           manage,
		"strange":          strange,
		"empty objects":    {RequestParameters: &RequestParameters{}, ResponseElements: &ResponseElements{}, AdditionalEventData: &AdditionalEventData{}, UserIdentity: UserIdentity{SessionContext: &SessionContext{}}, TLSDetails: &TLSDetails{}, ServiceEventDetails: &ServiceEventDetails{}},
		"empty extras":     {RequestParameters: &RequestParameters{Management: &Management{}}},
		"empty extras 2":   {RequestParameters: &RequestParameters{KeyID: "x", Management: &Management{}, Omission: omission(5, "x")}, AdditionalEventData: &AdditionalEventData{Peer: &Peer{}, ForwardedBy: &Forwarder{}}},
		"negative numbers": {AdditionalEventData: &AdditionalEventData{Peer: &Peer{UID: 1<<32 - 1, PID: -5}}},
		"service event":    *serviceEvent(EventRepaired, &ServiceEventDetails{Segment: "s", Offset: 5, BytesCut: 7}),
	}
}

func TestRecordIsEncodedAsByEncodingJSON(t *testing.T) {
	for name, r := range manyRecords() {
		t.Run(name, func(t *testing.T) {
			want := checkEncoding(t, r)
			var back Record
			if err := json.Unmarshal(want, &back); err != nil {
				t.Fatal(err)
			}
			if r.EventName != "" && !strings.HasPrefix(back.EventName, r.EventName[:1]) {
				t.Errorf("eventName %q reads as %q", r.EventName, back.EventName)
			}
			again, err := json.Marshal(back)
			if err != nil {
				t.Fatal(err)
			}
			var twice Record
			if err := json.Unmarshal(again, &twice); err != nil || !reflect.DeepEqual(twice, back) {
				t.Errorf("reads as\n%s\nwas\n%s (%v)", again, want, err)
			}
		})
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(awkward, "b", "c", 5, uint32(7), true)
	f.Add("", "", "", 0, uint32(0), false)
	f.Fuzz(func(t *testing.T, a, b, c string, n int, uid uint32, flag bool) {
		r := Record{
			EventName: a, ErrorCode: b, ErrorMessage: c, UserAgent: a, ReadOnly: flag,
			UserIdentity: UserIdentity{Type: b, ARN: c, UserName: a},
			RequestParameters: &RequestParameters{KeyID: a, NumberOfBytes: n, DryRun: flag,
				EncryptionContext: map[string]string{a: b, b: c, c: a}},
			Resources: []Resource{{a, b, c}},
		}
		if flag {
			r.AdditionalEventData = &AdditionalEventData{KeyMaterialID: c, Peer: &Peer{uid, int32(n)}}
			r.RequestParameters.Management = &Management{Policy: c}
		}
		if c := completed(r); len(c.EventName)+len(c.ErrorCode) > 10<<10 {
			t.Skip("left out when too large: TestLargeParametersAreOmitted")
		}
		checkEncoding(t, r)
	})
}

func FuzzString(f *testing.F) {
	f.Add(awkward)
	f.Add("plain text that is longer than eight bytes")
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendString(nil, s); !bytes.Equal(got, want) {
			t.Errorf("%q is encoded as %s, encoding/json says %s", s, got, want)
		}
	})
}

// TestStringsOfEveryByte has each pair of bytes at each place of a word.
func TestStringsOfEveryByte(t *testing.T) {
	for a := range 256 {
		for at := range 10 {
			s := []byte("abcdefghij")
			s[at] = byte(a)
			for _, b := range []byte("\x00\x1f !\"&<>\\\x7f\x80\xff") {
				s[(at+1)%10] = b
				want, err := json.Marshal(string(s))
				if err != nil {
					t.Fatal(err)
				}
				if got := appendString(nil, string(s)); !bytes.Equal(got, want) {
					t.Fatalf("%q is encoded as %s, encoding/json says %s", s, got, want)
				}
			}
		}
	}
}

// TestMembersAreCloudTrails compares names and order with the example of Decrypt
// in the KMS Developer Guide.
func TestMembersAreCloudTrails(t *testing.T) {
	r := *decryptRecord()
	r.UserIdentity.AccessKeyID = "EXAMPLE_KEY_ID"
	r.TLSDetails = &TLSDetails{"TLSv1.3", "TLS_AES_256_GCM_SHA384", "kms.us-west-2.amazonaws.com"}
	got := memberNames(t, checkEncoding(t, r))
	want := []string{"eventVersion", "userIdentity", "type", "principalId", "arn", "accountId", "accessKeyId", "userName",
		"eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress", "userAgent",
		"requestParameters", "keyId", "encryptionAlgorithm", "encryptionContext", "kmsfs:path", "kmsfs:volume",
		"responseElements", "additionalEventData", "keyMaterialId", "peer", "uid", "pid",
		"requestID", "eventID", "readOnly", "resources", "accountId", "type", "ARN",
		"eventType", "managementEvent", "recipientAccountId", "eventCategory",
		"tlsDetails", "tlsVersion", "cipherSuite", "clientProvidedHostHeader"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("members are\n%q, want\n%q", got, want)
	}
}

// memberNames are those of all objects, in their order.
func memberNames(t *testing.T, b []byte) []string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	var names []string
	var objects []bool // for each open brace, whether a name is next
	for {
		tok, err := d.Token()
		if err != nil {
			return names
		}
		top := len(objects) - 1
		switch tok {
		case json.Delim('{'), json.Delim('['):
			if top >= 0 {
				objects[top] = !objects[top] && tok != nil
			}
			objects = append(objects, tok == json.Delim('{'))
			continue
		case json.Delim('}'), json.Delim(']'):
			objects = objects[:top]
			if top > 0 && len(objects) > 0 {
				objects[top-1] = true
			}
			continue
		}
		if name, ok := tok.(string); ok && top >= 0 && objects[top] {
			names = append(names, name)
			objects[top] = false
			continue
		}
		objects[top] = true
	}
}

// TestNoPlaceForSecrets: no member of a record can hold bytes, and no name
// promises any.
func TestNoPlaceForSecrets(t *testing.T) {
	seen := make(map[reflect.Type]bool)
	var walk func(at string, typ reflect.Type)
	walk = func(at string, typ reflect.Type) {
		if seen[typ] || typ == reflect.TypeFor[time.Time]() || typ == reflect.TypeFor[Hash]() {
			return
		}
		seen[typ] = true
		switch typ.Kind() {
		case reflect.Interface:
			t.Errorf("%s can hold anything", at)
		case reflect.Pointer:
			walk(at, typ.Elem())
		case reflect.Slice, reflect.Array, reflect.Map:
			if typ.Elem().Kind() == reflect.Uint8 {
				t.Errorf("%s can hold bytes", at)
			}
			walk(at, typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				f := typ.Field(i)
				for _, bad := range []string{"plaintext", "ciphertext", "secret", "token", "password", "private"} {
					if strings.Contains(strings.ToLower(f.Name), bad) {
						t.Errorf("%s.%s promises a secret", at, f.Name)
					}
				}
				walk(at+"."+f.Name, f.Type)
			}
		}
	}
	walk("Record", reflect.TypeFor[Record]())
}

func TestTextsAreCut(t *testing.T) {
	for _, c := range []struct {
		in, want string
	}{
		{strings.Repeat("a", maxText-1), strings.Repeat("a", maxText-1)},
		{strings.Repeat("a", maxText), strings.Repeat("a", maxText)},
		{strings.Repeat("a", maxText+1), strings.Repeat("a", maxText)},
		{strings.Repeat("a", maxText-1) + "é", strings.Repeat("a", maxText-1)},
		{strings.Repeat("a", maxText-2) + "é", strings.Repeat("a", maxText-2) + "é"},
		{strings.Repeat("a", maxText-3) + "🔑", strings.Repeat("a", maxText-3)},
	} {
		got := completed(Record{UserAgent: c.in, ErrorMessage: c.in})
		if got.UserAgent != c.want || got.ErrorMessage != c.want {
			t.Errorf("%d bytes are cut to %d, want %d", len(c.in), len(got.UserAgent), len(c.want))
		}
		if !utf8.ValidString(got.UserAgent) {
			t.Errorf("a character was cut in two")
		}
	}
	// What is no text at all is cut somewhere.
	if got := cut(strings.Repeat("\x80", 2*maxText)); len(got) > maxText || len(got) < maxText-utf8.UTFMax {
		t.Errorf("cut to %d bytes", len(got))
	}
}

func TestLargeParametersAreOmitted(t *testing.T) {
	over := len(`{"keyId":""}`)
	for size, kept := range map[int]bool{maxObject - 1: true, maxObject: true, maxObject + 1: false} {
		r := completed(Record{
			RequestParameters: &RequestParameters{KeyID: strings.Repeat("k", size-over)},
			ResponseElements:  &ResponseElements{KeyID: strings.Repeat("k", size-over)},
		})
		b, err := appendRecord(nil, &r)
		if err != nil {
			t.Fatal(err)
		}
		if !kept {
			r.RequestParameters = &RequestParameters{Omission: omission(size, "requestParameters")}
			r.ResponseElements = &ResponseElements{Omission: omission(size, "responseElements")}
		}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if string(b)+"}" != string(want) {
			t.Errorf("%d bytes: %.300s", size, b)
		}
	}
}
