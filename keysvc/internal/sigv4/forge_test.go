package sigv4_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"path"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
)

const (
	userID     = "AKIAIOSFODNN7EXAMPLE"
	userSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// noon is the time of all requests here.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// options verify what forged.request makes.
func options() sigv4.Options {
	return sigv4.Options{
		Region:  "us-east-1",
		Service: "kms",
		Now:     func() time.Time { return noon },
		Lookup:  keys(map[string]string{userID: userSecret}),
	}
}

// keys is a Lookup in a map.
func keys(m map[string]string) sigv4.Lookup {
	return func(id string, use func([]byte)) (bool, error) {
		s, ok := m[id]
		if ok {
			use([]byte(s))
		}
		return ok, nil
	}
}

// forged is a request and how it is signed. Its signature is right, whatever
// else is wrong with it: it is made by code that shares nothing with the
// verifier's and knows none of its rules.
type forged struct {
	method, target, host string
	header               [][2]string // all but Host and Authorization
	body                 string

	signed        string // SignedHeaders; all headers if ""
	id, secret    string
	date          string // of the scope
	region        string
	service       string
	terminator    string
	authorization func(credential, signedHeaders, signature string) string
}

// describeKey is what the aws CLI sends, byte for byte in what matters.
func describeKey() forged {
	return forged{
		method: "POST", target: "/", host: "127.0.0.1:4599",
		header: [][2]string{
			{"X-Amz-Target", "TrentService.DescribeKey"},
			{"Content-Type", "application/x-amz-json-1.1"},
			{"User-Agent", "aws-cli/1.45.11"},
			{"X-Amz-Date", noon.Format("20060102T150405Z")},
			{"amz-sdk-request", "attempt=1"},
		},
		body:       `{"KeyId":"alias/x"}`,
		signed:     "content-type;host;x-amz-date;x-amz-target",
		id:         userID,
		secret:     userSecret,
		date:       noon.Format("20060102"),
		region:     "us-east-1",
		service:    "kms",
		terminator: "aws4_request",
	}
}

func (f *forged) set(name, value string) {
	for i := range f.header {
		if f.header[i][0] == name {
			f.header[i][1] = value
			return
		}
	}
	f.header = append(f.header, [2]string{name, value})
}

func (f *forged) add(name, value string) { f.header = append(f.header, [2]string{name, value}) }

func (f *forged) drop(name string) {
	kept := f.header[:0:0]
	for _, h := range f.header {
		if h[0] != name {
			kept = append(kept, h)
		}
	}
	f.header = kept
}

// wire is the request as bytes, signed.
func (f forged) wire(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", f.method, f.target, f.host)
	for _, h := range f.header {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n", len(f.body))
	head := b.Len()
	fmt.Fprintf(&b, "\r\n%s", f.body)
	req, body := receive(t, b.Bytes())

	signed := f.signed
	if signed == "" {
		names := map[string]bool{"host": true}
		for _, h := range f.header {
			names[strings.ToLower(h[0])] = true
		}
		var all []string
		for n := range names {
			all = append(all, n)
		}
		sort.Strings(all)
		signed = strings.Join(all, ";")
	}
	scope := strings.Join([]string{f.date, f.region, f.service, f.terminator}, "/")
	key := []byte("AWS4" + f.secret)
	for _, part := range []string{f.date, f.region, f.service, f.terminator} {
		key = hmacSHA256(key, part)
	}
	sts := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x", req.Header.Get("X-Amz-Date"), scope,
		sha256.Sum256([]byte(slowCanonical(req, signed, body))))
	signature := fmt.Sprintf("%x", hmacSHA256(key, sts))
	credential := f.id + "/" + scope
	value := fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s, SignedHeaders=%s, Signature=%s", credential, signed, signature)
	if f.authorization != nil {
		value = f.authorization(credential, signed, signature)
	}
	out := append([]byte{}, b.Bytes()[:head]...)
	if value != "" {
		out = append(out, "Authorization: "+value+"\r\n"...)
	}
	return append(out, b.Bytes()[head:]...)
}

// request is what a server makes of it.
func (f forged) request(t testing.TB) (*http.Request, []byte) {
	t.Helper()
	return receive(t, f.wire(t))
}

func receive(t testing.TB, wire []byte) (*http.Request, []byte) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		t.Fatalf("%v:\n%s", err, wire)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	return req, body
}

func hmacSHA256(key []byte, msg string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(msg))
	return h.Sum(nil)
}

var (
	reserved = regexp.MustCompile(`[^A-Za-z0-9\-._~/]`)
	spaces   = regexp.MustCompile(` +`)
)

// slowCanonical is the canonical request by the words of AWS's documentation, made of
// other parts than the verifier's.
func slowCanonical(r *http.Request, signed string, body []byte) string {
	wire, _, _ := strings.Cut(r.RequestURI, "?")
	clean := path.Clean(wire)
	if strings.HasSuffix(wire, "/") && clean != "/" {
		clean += "/"
	}
	var uri strings.Builder
	for _, c := range []byte(clean) { // bytes: a regexp goes by runes
		if s := string(rune(c)); c < 0x80 && !reserved.MatchString(s) {
			uri.WriteByte(c)
		} else {
			fmt.Fprintf(&uri, "%%%02X", c)
		}
	}
	var pairs []string
	for k, vs := range r.URL.Query() {
		for _, v := range vs {
			pairs = append(pairs, escapeQuery(k)+"\x00"+escapeQuery(v))
		}
	}
	sort.Strings(pairs)
	query := strings.ReplaceAll(strings.Join(pairs, "&"), "\x00", "=")
	var headers strings.Builder
	for name := range strings.SplitSeq(signed, ";") {
		values := r.Header[textproto.CanonicalMIMEHeaderKey(name)]
		if name == "host" {
			values = []string{r.Host}
		}
		var folded []string
		for _, v := range values {
			folded = append(folded, spaces.ReplaceAllString(strings.Trim(v, " \t"), " "))
		}
		headers.WriteString(name + ":" + strings.Join(folded, ",") + "\n")
	}
	return fmt.Sprintf("%s\n%s\n%s\n%s\n%s\n%x", r.Method, uri.String(), query, headers.String(), signed, sha256.Sum256(body))
}

func escapeQuery(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// refused checks a refusal's code and some of its words.
func refused(t *testing.T, err error, code, words string) {
	t.Helper()
	var e *sigv4.Error
	switch {
	case err == nil:
		t.Errorf("verified; want %s", code)
	case !errors.As(err, &e):
		t.Errorf("the error is %v, not a refusal", err)
	case e.Code != code || !strings.Contains(e.Message, words):
		t.Errorf("refused with\n%v\nnot with %s: ...%s...", e, code, words)
	case e.HTTPStatus() != 400:
		t.Errorf("HTTP status %d", e.HTTPStatus())
	}
}
