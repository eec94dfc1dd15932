package sigv4_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
)

const (
	incomplete   = sigv4.CodeIncompleteSignature
	invalid      = sigv4.CodeInvalidSignature
	missing      = sigv4.CodeMissingAuthenticationToken
	unrecognized = sigv4.CodeUnrecognizedClient
)

func TestGoodRequest(t *testing.T) {
	req, body := describeKey().request(t)
	r, err := sigv4.Verify(req, body, options())
	if err != nil {
		t.Fatal(err)
	}
	if r.AccessKeyID != userID || r.Scope.String() != "20261122/us-east-1/kms/aws4_request" || !r.Time.Equal(noon) || r.SessionToken != "" {
		t.Errorf("verified as %+v", r)
	}
	if got := strings.Join(r.SignedHeaders, ";"); got != "content-type;host;x-amz-date;x-amz-target" {
		t.Errorf("SignedHeaders is %s", got)
	}
}

// TestRuleBreakingSigners has a good request changed in one thing and then signed by
// one who has the secret: the signature is right, and the request refused.
func TestRuleBreakingSigners(t *testing.T) {
	signed := func(names string) func(*forged) { return func(f *forged) { f.signed = names } }
	header := func(name, value string) func(*forged) {
		return func(f *forged) { f.add(name, value); f.signed = "" }
	}
	extra := func(name, value string) func(*forged) { return func(f *forged) { f.add(name, value) } }
	at := func(d time.Duration) func(*forged) {
		return func(f *forged) {
			f.set("X-Amz-Date", noon.Add(d).Format("20060102T150405Z"))
			f.date = noon.Add(d).Format("20060102")
		}
	}
	date := func(value string) func(*forged) { return func(f *forged) { f.set("X-Amz-Date", value) } }
	target := func(target string) func(*forged) { return func(f *forged) { f.target = target } }
	auth := func(value func(credential, signedHeaders, signature string) string) func(*forged) {
		return func(f *forged) { f.authorization = value }
	}
	for _, tt := range []struct {
		name   string
		change func(*forged)
		code   string // "" is allowed
		words  string
	}{
		// What is signed.
		{"x-amz-target is not signed", signed("content-type;host;x-amz-date"), invalid, "'X-Amz-Target' must be a 'SignedHeader'"},
		{"content-type is not signed", signed("host;x-amz-date;x-amz-target"), invalid, "'Content-Type' must be"},
		{"x-amz-date is not signed", signed("content-type;host;x-amz-target"), invalid, "'X-Amz-Date' must be"},
		{"host is not signed", signed("content-type;x-amz-date;x-amz-target"), invalid, "'Host' must be"},
		{"a session token is not signed", extra("X-Amz-Security-Token", "t"), invalid, "'X-Amz-Security-Token' must be"},
		{"an x-amz header nobody knows is not signed", extra("x-amz-anything", "t"), invalid, "'X-Amz-Anything' must be"},
		{"the prefix alone is not signed", extra("X-Amz-", "t"), invalid, "'X-Amz-' must be"},
		{"content-encoding is not signed", extra("Content-Encoding", "gzip"), invalid, "'Content-Encoding' must be"},
		{"x-amz-content-sha256 is not signed", extra("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), invalid, "'X-Amz-Content-Sha256' must be"},
		{"a session token is signed", header("X-Amz-Security-Token", "t"), "", ""},
		{"all is signed", signed(""), "", ""},
		{"a trace id is not signed", extra("X-Amzn-Trace-Id", "Root=1"), "", ""},
		{"amz-sdk headers are not signed", extra("amz-sdk-invocation-id", "1"), "", ""},
		{"a date header is not signed", extra("Date", "Sun, 22 Nov 2026 12:00:00 GMT"), "", ""},

		// SignedHeaders.
		{"SignedHeaders is not sorted", signed("host;content-type;x-amz-date;x-amz-target"), incomplete, "sorted"},
		{"SignedHeaders has capitals", signed("Content-Type;host;x-amz-date;x-amz-target"), incomplete, "lower case"},
		{"SignedHeaders repeats a name", signed("content-type;host;host;x-amz-date;x-amz-target"), incomplete, "each once"},
		{"SignedHeaders ends with a semicolon", signed("content-type;host;x-amz-date;x-amz-target;"), incomplete, "names"},
		{"SignedHeaders begins with a semicolon", signed(";content-type;host;x-amz-date;x-amz-target"), incomplete, "names"},
		{"SignedHeaders has a name that is none", signed("content-type;host;x amz;x-amz-date;x-amz-target"), incomplete, "names"},
		{"SignedHeaders has a colon", signed("content-type;host;x-amz-date;x-amz-target;x:y"), incomplete, "names"},
		{"SignedHeaders names what is absent", signed("content-md5;content-type;host;x-amz-date;x-amz-target"), invalid, "does not have: 'content-md5'"},
		{"SignedHeaders names an absent x-amz header", signed("content-type;host;x-amz-a;x-amz-date;x-amz-target"), invalid, "does not have: 'x-amz-a'"},

		// Repetition.
		{"x-amz-target twice", extra("X-Amz-Target", "TrentService.ScheduleKeyDeletion"), incomplete, "more than one X-Amz-Target"},
		{"x-amz-target twice in another case", extra("x-amz-target", "TrentService.ScheduleKeyDeletion"), incomplete, "more than one X-Amz-Target"},
		{"x-amz-date twice", extra("X-Amz-Date", "20261122T120000Z"), incomplete, "more than one X-Amz-Date"},
		{"content-type twice", extra("Content-Type", "application/x-www-form-urlencoded"), incomplete, "more than one Content-Type"},
		{"a session token twice", func(f *forged) { header("X-Amz-Security-Token", "a")(f); f.add("X-Amz-Security-Token", "b") }, incomplete, "more than one X-Amz-Security-Token"},
		{"another header twice", func(f *forged) { header("My-Header", "a")(f); f.add("My-Header", "b") }, "", ""},

		// Time: n-1, n and n+1 seconds of what is allowed.
		{"14:59 old", at(-15*time.Minute + time.Second), "", ""},
		{"15:00 old", at(-15 * time.Minute), "", ""},
		{"15:01 old", at(-15*time.Minute - time.Second), invalid, "Signature expired: 20261122T114459Z is now earlier than 20261122T114500Z (20261122T120000Z - 15 min.)"},
		{"a day old", at(-24 * time.Hour), invalid, "Signature expired"},
		{"14:59 ahead", at(15*time.Minute - time.Second), "", ""},
		{"15:00 ahead", at(15 * time.Minute), "", ""},
		{"15:01 ahead", at(15*time.Minute + time.Second), invalid, "Signature not yet current: 20261122T121501Z is still later than 20261122T121500Z (20261122T120000Z + 15 min.)"},
		{"a thousand years ahead", date("30261122T120000Z"), invalid, "not yet current"},
		{"no x-amz-date", func(f *forged) { f.drop("X-Amz-Date") }, incomplete, "X-Amz-Date"},
		{"a Date header instead", func(f *forged) { f.drop("X-Amz-Date"); f.add("Date", "Sun, 22 Nov 2026 12:00:00 GMT"); f.signed = "" }, incomplete, "X-Amz-Date"},
		{"a time with a fraction", date("20261122T120000.5Z"), incomplete, "ISO-8601"},
		{"a time with an offset", date("20261122T120000+00:00"), incomplete, "ISO-8601"},
		{"a time in extended format", date("2026-11-22T12:00:00Z"), incomplete, "ISO-8601"},
		{"a time of day that is none", date("20261122T250000Z"), incomplete, "ISO-8601"},
		{"an empty time", date(""), incomplete, "ISO-8601"},

		// Scope.
		{"another day", func(f *forged) { f.date = "20261121" }, invalid, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20261121' != '20261122', from '20261122T120000Z'."},
		{"another region", func(f *forged) { f.region = "eu-west-1" }, invalid, "valid region, not 'eu-west-1'"},
		{"a region in capitals", func(f *forged) { f.region = "US-EAST-1" }, invalid, "valid region"},
		{"another service", func(f *forged) { f.service = "sts" }, invalid, "correct service: 'kms'"},
		{"another terminator", func(f *forged) { f.terminator = "aws5_request" }, invalid, "terminator: 'aws4_request', not 'aws5_request'"},
		{"no terminator", func(f *forged) { f.terminator = "" }, invalid, "terminator"},
		{"six elements", func(f *forged) { f.region = "us-east-1/us-east-1" }, incomplete, "exactly 5"},
		{"all of the scope", func(f *forged) { f.date, f.region, f.service, f.terminator = "20261121", "a", "b", "c" }, invalid,
			"not 'a'. Credential should be scoped to correct service: 'kms'. Credential should be scoped with a valid terminator: 'aws4_request', not 'c'. Date in"},

		// The payload's hash.
		{"UNSIGNED-PAYLOAD", header("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), invalid, "payload must be signed"},
		{"STREAMING", header("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), invalid, "payload must be signed"},
		{"STREAMING-UNSIGNED", header("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"), invalid, "payload must be signed"},
		{"another body's hash", header("X-Amz-Content-Sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), invalid, "does not match the body"},
		{"the body's hash in capitals", func(f *forged) {
			header("X-Amz-Content-Sha256", fmt.Sprintf("%X", sha256.Sum256([]byte(f.body))))(f)
		}, invalid, "does not match the body"},
		{"the body's hash", func(f *forged) {
			header("X-Amz-Content-Sha256", fmt.Sprintf("%x", sha256.Sum256([]byte(f.body))))(f)
		}, "", ""},
		{"an empty hash", header("X-Amz-Content-Sha256", ""), invalid, "does not match the body"},

		// Credentials elsewhere.
		{"header and query", target("/?X-Amz-Algorithm=AWS4-HMAC-SHA256"), invalid, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."},
		{"header and a query signature", target("/?a=b&x-amz-signature=00"), invalid, "Found both"},
		{"header and an encoded query credential", target("/?X%2DAmz%2DCredential=x"), invalid, "Found both"},
		{"header and a query token", target("/?X-Amz-Security-Token=x"), invalid, "Found both"},
		{"header and Signature Version 2", target("/?AWSAccessKeyId=x"), invalid, "Found both 'AWSAccessKeyId'"},
		{"a parameter with a presigned URL in it", target("/?PresignedUrl=https%3A%2F%2Fx%2F%3FX-Amz-Signature%3D00"), "", ""},

		// The Authorization header.
		{"SigV4A", auth(func(c, h, s string) string {
			return "AWS4-ECDSA-P256-SHA256 Credential=" + c + ", SignedHeaders=" + h + ", Signature=" + s
		}), incomplete, "'AWS4-ECDSA-P256-SHA256'"},
		{"an algorithm nobody knows", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA512 Credential=" + c + ", SignedHeaders=" + h + ", Signature=" + s
		}), incomplete, "only AWS4-HMAC-SHA256"},
		{"another scheme", auth(func(c, h, s string) string { return "Bearer " + s }), missing, ""},
		{"a scheme with our name in it", auth(func(c, h, s string) string { return "XAWS4-HMAC-SHA256 Credential=" + c }), missing, ""},
		{"Signature Version 2", auth(func(c, h, s string) string { return "AWS " + userID + ":" + s }), missing, ""},
		{"nothing", auth(func(c, h, s string) string { return "" }), missing, "Missing Authentication Token"},
		{"the algorithm alone", auth(func(c, h, s string) string { return "AWS4-HMAC-SHA256" }), incomplete, "each once"},
		{"no signature", auth(func(c, h, s string) string { return "AWS4-HMAC-SHA256 Credential=" + c + ", SignedHeaders=" + h }), incomplete, "requires 'Signature' parameter."},
		{"an empty signature", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Credential=" + c + ", SignedHeaders=" + h + ", Signature="
		}), incomplete, "requires 'Signature' parameter."},
		{"a credential alone", auth(func(c, h, s string) string { return "AWS4-HMAC-SHA256 Credential=" + c }), incomplete,
			"requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter."},
		{"two credentials", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Credential=" + c + ", Credential=" + c + ", SignedHeaders=" + h + ", Signature=" + s
		}), incomplete, "each once"},
		{"a parameter nobody knows", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Credential=" + c + ", SignedHeaders=" + h + ", Signature=" + s + ", Realm=x"
		}), incomplete, "each once"},
		{"no commas", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Credential=" + c + " SignedHeaders=" + h + " Signature=" + s
		}), incomplete, ""},
		{"no spaces, another order", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Signature=" + s + ",Credential=" + c + ",SignedHeaders=" + h
		}), "", ""},
		{"a signature in capitals", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Credential=" + c + ", SignedHeaders=" + h + ", Signature=" + strings.ToUpper(s)
		}), invalid, "does not match"},
		{"a signature that is no hex", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Credential=" + c + ", SignedHeaders=" + h + ", Signature=" + strings.Repeat("zz", 32)
		}), invalid, "does not match"},
		{"a short signature", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Credential=" + c + ", SignedHeaders=" + h + ", Signature=" + s[:63]
		}), invalid, "does not match"},
		{"a long signature", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Credential=" + c + ", SignedHeaders=" + h + ", Signature=" + s + "0"
		}), invalid, "does not match"},
		{"letters that are not ASCII", auth(func(c, h, s string) string {
			return "AWS4-HMAC-SHA256 Credential=" + c + ", SignedHeaders=" + h + ", Signature=" + s + "é"
		}), incomplete, "ASCII"},

		// Who signs.
		{"an unknown access key", func(f *forged) { f.id = "AKIAI44QH8DHBEXAMPLE" }, unrecognized, "The security token included in the request is invalid."},
		{"an access key in another case", func(f *forged) { f.id = strings.ToLower(userID) }, unrecognized, ""},
		{"no access key", func(f *forged) { f.id = "" }, unrecognized, ""},
		{"an access key with a line in it", func(f *forged) { f.id = "AKIA%0A" }, unrecognized, ""},
		{"an access key of 129 letters", func(f *forged) { f.id = strings.Repeat("A", 129) }, unrecognized, ""},
		{"another secret", func(f *forged) { f.secret = "x" }, invalid, "does not match"},
		{"no secret", func(f *forged) { f.secret = "" }, invalid, "does not match"},
		{"the secret of nobody", func(f *forged) { f.id, f.secret = "AKIAI44QH8DHBEXAMPLE", strings.Repeat("0", 40) }, unrecognized, ""},

		// The target and the query.
		{"a query that cannot be decoded", target("/?a=%zz"), incomplete, "query string is malformed"},
		{"a query with a name that cannot be decoded", target("/?%zz=a"), incomplete, "query string is malformed"},
		{"a query with a semicolon", target("/?a=1;X-Amz-Signature=2"), incomplete, "query string is malformed"},
		{"a target that is not a path", target("x:y"), incomplete, "not a path"},
		{"a target that is a star", target("*"), incomplete, "not a path"},
		{"a target with a user", target("http://user@127.0.0.1:4599/"), incomplete, "not a path"},
		{"a header with a tab inside", func(f *forged) { f.set("Content-Type", "a\tb") }, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := describeKey()
			tt.change(&f)
			req, body := f.request(t)
			_, err := sigv4.Verify(req, body, options())
			if tt.code == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			refused(t, err, tt.code, tt.words)
		})
	}
}

// TestTampering has a good request changed on its way by somebody without the
// secret.
func TestTampering(t *testing.T) {
	set := func(name, value string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) { r.Header.Set(name, value) }
	}
	auth := func(old, with string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, with, 1))
		}
	}
	for _, tt := range []struct {
		name   string
		tamper func(*http.Request, *[]byte)
		code   string
		words  string
	}{
		{"the target is swapped", set("X-Amz-Target", "TrentService.ScheduleKeyDeletion"), invalid, "does not match"},
		{"the body is swapped", func(_ *http.Request, b *[]byte) { *b = []byte(`{"KeyId":"alias/y"}`) }, invalid, "does not match"},
		{"the body is emptied", func(_ *http.Request, b *[]byte) { *b = nil }, invalid, "does not match"},
		{"the body is longer", func(_ *http.Request, b *[]byte) { *b = append(*b, ' ') }, invalid, "does not match"},
		{"the host is swapped", func(r *http.Request, _ *[]byte) { r.Host = "kms.us-east-1.amazonaws.com" }, invalid, "does not match"},
		{"the host is removed", func(r *http.Request, _ *[]byte) { r.Host = "" }, incomplete, "no Host"},
		{"the method is swapped", func(r *http.Request, _ *[]byte) { r.Method = "GET" }, invalid, "does not match"},
		{"the method is none", func(r *http.Request, _ *[]byte) { r.Method = "POST\n/" }, incomplete, "method"},
		{"the path is swapped", func(r *http.Request, _ *[]byte) { r.URL.Path = "/x" }, invalid, "does not match"},
		{"the path's wire form is not the path's", func(r *http.Request, _ *[]byte) { r.URL.Path, r.URL.RawPath = "/x", "/" }, invalid, "does not match"},
		{"a query is added", func(r *http.Request, _ *[]byte) { r.URL.RawQuery = "Action=ScheduleKeyDeletion" }, invalid, "does not match"},
		{"the content type is swapped", set("Content-Type", "application/x-www-form-urlencoded"), invalid, "does not match"},
		{"the content type is removed", func(r *http.Request, _ *[]byte) { r.Header.Del("Content-Type") }, invalid, "does not have: 'content-type'"},
		{"the target is removed", func(r *http.Request, _ *[]byte) { r.Header.Del("X-Amz-Target") }, invalid, "does not have: 'x-amz-target'"},
		{"the time is moved", set("X-Amz-Date", "20261122T120001Z"), invalid, "does not match"},
		{"a token is added", set("X-Amz-Security-Token", "stolen"), invalid, "must be a 'SignedHeader'"},
		{"a second target is added", func(r *http.Request, _ *[]byte) { r.Header.Add("X-Amz-Target", "TrentService.ListKeys") }, incomplete, "more than one"},
		{"a second target before it", func(r *http.Request, _ *[]byte) {
			r.Header["X-Amz-Target"] = []string{"TrentService.ListKeys", "TrentService.DescribeKey"}
		}, incomplete, "more than one"},
		{"a second target under another spelling", func(r *http.Request, _ *[]byte) {
			r.Header["x-amz-target"] = []string{"TrentService.ListKeys"}
		}, incomplete, "canonical form"},
		{"a second host", func(r *http.Request, _ *[]byte) { r.Header["Host"] = []string{"elsewhere"} }, incomplete, "more than one Host"},
		{"a second host beside the first", func(r *http.Request, _ *[]byte) { r.Header["Host"] = []string{r.Host, "elsewhere"} }, incomplete, "more than one Host"},
		{"a second Authorization", func(r *http.Request, _ *[]byte) {
			r.Header.Add("Authorization", r.Header.Get("Authorization"))
		}, incomplete, "more than one Authorization"},
		{"a line in a signed header", func(r *http.Request, _ *[]byte) {
			r.Header.Set("Content-Type", "a\nhost:b")
		}, incomplete, "control character"},
		{"a DEL in a signed header", set("Content-Type", "a\x7f"), incomplete, "control character"},
		{"a signed header is left out", auth("content-type;", ""), invalid, "'Content-Type' must be"},
		{"a header more is signed", auth("x-amz-target", "x-amz-target;x-amz-z"), invalid, "does not have"},
		{"another access key", auth(userID, "AKIAI44QH8DHBEXAMPLE"), unrecognized, ""},
		{"another region", auth("us-east-1", "eu-west-1"), invalid, "valid region"},
		{"one digit of the signature", func(r *http.Request, _ *[]byte) {
			a := []byte(r.Header.Get("Authorization"))
			a[len(a)-1] ^= 1
			r.Header.Set("Authorization", string(a))
		}, invalid, "does not match"},
		{"presigned instead", func(r *http.Request, _ *[]byte) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = url.Values{"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Signature": {"00"}}.Encode()
		}, incomplete, "query string are not accepted"},
		{"presigned beside it", func(r *http.Request, _ *[]byte) { r.URL.RawQuery = "X-Amz-Signature=00" }, invalid, "Found both"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, body := describeKey().request(t)
			tt.tamper(req, &body)
			_, err := sigv4.Verify(req, body, options())
			refused(t, err, tt.code, tt.words)
		})
	}
}
