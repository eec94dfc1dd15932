package sigv4_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
)

// The vectors of AWS's Signature Version 4 test suite (aws-sig-v4-test-suite.zip,
// in aws-c-auth today), and the example of the IAM User Guide. All are signed with
// these.
const (
	vectorID     = "AKIDEXAMPLE"
	vectorSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	vectorToken  = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
	unreserved   = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// get-header-value-multiline is left out: it folds a header over lines, which
// net/http unfolds with spaces where AWS has commas (RFC 9112, 5.2, forbids both).
var vectors = []struct {
	name      string
	method    string
	target    string
	header    string // besides Host and X-Amz-Date, with line feeds between
	body      string
	signed    string // besides host and x-amz-date
	signature string
}{
	{"get-header-key-duplicate", "GET", "/", "My-Header1:value2\nMy-Header1:value2\nMy-Header1:value1", "", "my-header1", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
	{"get-header-value-order", "GET", "/", "My-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2", "", "my-header1", "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
	{"get-header-value-trim", "GET", "/", "My-Header1: value1\nMy-Header2: \"a   b   c\"", "", "my-header1;my-header2", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	{"get-unreserved", "GET", "/" + unreserved, "", "", "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
	{"get-utf8", "GET", "/ሴ", "", "", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
	{"get-vanilla", "GET", "/", "", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-vanilla-empty-query-key", "GET", "/?Param1=value1", "", "", "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
	{"get-vanilla-query-order-key", "GET", "/?Param1=value2&Param1=Value1", "", "", "", "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"},
	{"get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", "", "", "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
	{"get-vanilla-query-order-value", "GET", "/?Param1=value2&Param1=value1", "", "", "", "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
	{"get-vanilla-query-unreserved", "GET", "/?" + unreserved + "=" + unreserved, "", "", "", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
	{"get-vanilla-utf8-query", "GET", "/?ሴ=bar", "", "", "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
	{"get-relative", "GET", "/example/..", "", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-relative-relative", "GET", "/example1/example2/../..", "", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-slash", "GET", "//", "", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-slash-dot-slash", "GET", "/./", "", "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-slash-pointless-dot", "GET", "/./example", "", "", "", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"},
	{"get-slashes", "GET", "//example//", "", "", "", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"},
	{"get-space", "GET", "/example space/", "", "", "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
	{"post-header-key-sort", "POST", "/", "My-Header1:value1", "", "my-header1", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
	{"post-header-value-case", "POST", "/", "My-Header1:VALUE1", "", "my-header1", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
	{"post-sts-header-before", "POST", "/", "X-Amz-Security-Token:" + vectorToken, "", "x-amz-security-token", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
	{"post-vanilla", "POST", "/", "", "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{"post-vanilla-query", "POST", "/?Param1=value1", "", "", "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	{"post-x-www-form-urlencoded", "POST", "/", "Content-Type:application/x-www-form-urlencoded", "Param1=value1", "content-type", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
	{"post-x-www-form-urlencoded-parameters", "POST", "/", "Content-Type:application/x-www-form-urlencoded; charset=utf8", "Param1=value1", "content-type", "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"},
}

var vectorTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

func vectorOptions(service string) sigv4.Options {
	o := options()
	o.Service = service
	o.Now = func() time.Time { return vectorTime }
	o.Lookup = keys(map[string]string{vectorID: vectorSecret})
	return o
}

// vectorRequest makes a server's request without a parser, which would refuse
// the space of get-space.
func vectorRequest(method, host, target, header, signed, service, signature string) *http.Request {
	names := "host;x-amz-date"
	switch {
	case strings.HasPrefix(signed, "x-"):
		names += ";" + signed
	case strings.HasPrefix(signed, "content"):
		names = signed + ";" + names
	case signed != "":
		names = "host;" + signed + ";x-amz-date"
	}
	wire, query, _ := strings.Cut(target, "?")
	h := http.Header{}
	for line := range strings.SplitSeq(header, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			h.Add(name, value)
		}
	}
	h.Set("X-Amz-Date", "20150830T123600Z")
	h.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+vectorID+"/20150830/us-east-1/"+service+"/aws4_request, SignedHeaders="+names+", Signature="+signature)
	return &http.Request{
		Method: method, Host: host, Header: h,
		URL: &url.URL{Path: wire, RawPath: wire, RawQuery: query},
	}
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			req := vectorRequest(v.method, "example.amazonaws.com", v.target, v.header, v.signed, "service", v.signature)
			r, err := sigv4.Verify(req, []byte(v.body), vectorOptions("service"))
			if err != nil {
				t.Fatal(err)
			}
			if r.AccessKeyID != vectorID || r.Scope != (sigv4.Scope{Date: "20150830", Region: "us-east-1", Service: "service"}) || !r.Time.Equal(vectorTime) {
				t.Errorf("verified as %+v", r)
			}
			if v.name == "post-sts-header-before" && r.SessionToken != vectorToken {
				t.Errorf("the token is %q", r.SessionToken)
			}
			req.Method = "PUT"
			_, err = sigv4.Verify(req, []byte(v.body), vectorOptions("service"))
			refused(t, err, sigv4.CodeInvalidSignature, "does not match")
		})
	}
}

// TestVectorTokenAfter is post-sts-header-after, whose token is added after
// signing. It is a right signature that says nothing of the token.
func TestVectorTokenAfter(t *testing.T) {
	const signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
	req := vectorRequest("POST", "example.amazonaws.com", "/", "X-Amz-Security-Token:"+vectorToken, "", "service", signature)
	_, err := sigv4.Verify(req, nil, vectorOptions("service"))
	refused(t, err, sigv4.CodeInvalidSignature, "'X-Amz-Security-Token' must be a 'SignedHeader'")
}

// TestDocumentedExample is the example of "Signature Version 4 signing process" in the
// AWS General Reference.
func TestDocumentedExample(t *testing.T) {
	req := vectorRequest("GET", "iam.amazonaws.com", "/?Action=ListUsers&Version=2010-05-08",
		"Content-Type:application/x-www-form-urlencoded; charset=utf-8", "content-type", "iam",
		"5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7")
	if _, err := sigv4.Verify(req, nil, vectorOptions("iam")); err != nil {
		t.Fatal(err)
	}
}
