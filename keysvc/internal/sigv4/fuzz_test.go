package sigv4_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
)

// signedSeeds are requests that verify.
func signedSeeds(t testing.TB) [][]byte {
	get := describeKey()
	get.method, get.target, get.body = "GET", "/a/../%C3%A9/?b=2&a=%20+&a=1", ""
	token := describeKey()
	token.add("X-Amz-Security-Token", "token")
	token.add("My-Header", " a  b ")
	token.add("My-Header", "c")
	token.signed = ""
	hash := describeKey()
	hash.add("X-Amz-Content-Sha256", "")
	hash.body = ""
	hash.set("X-Amz-Content-Sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	hash.signed = ""
	var wires [][]byte
	for _, f := range []forged{describeKey(), get, token, hash} {
		wires = append(wires, f.wire(t))
	}
	return wires
}

// received reads a request as a server does, or returns nil.
func received(wire []byte) (*http.Request, []byte) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
	if err != nil {
		return nil, nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, nil
	}
	return req, body
}

// FuzzVerify changes signed requests on the wire. Whatever still verifies says what
// one of those said that were signed: in the canonical request, which
// slow code makes, and in each header that the service goes by.
func FuzzVerify(f *testing.F) {
	said := map[string]*http.Request{}
	for _, wire := range signedSeeds(f) {
		req, body := received(wire)
		r, err := sigv4.Verify(req, body, options())
		if err != nil {
			f.Fatal(err)
		}
		said[slowCanonical(req, strings.Join(r.SignedHeaders, ";"), body)] = req
		f.Add(wire)
		for _, s := range []struct{ old, with string }{
			{"DescribeKey", "ScheduleKeyDeletion"}, {"alias/x", "alias/y"}, {"POST /", "POST //./"}, {"POST / ", "POST /?X-Amz-Algorithm=x "},
			{"Host: ", "Host: x"}, {"\r\n\r\n", "\r\nX-Amz-Target: TrentService.ListKeys\r\n\r\n"}, {"a=%20", "a=+"}, {" a  b ", "a b"},
			{"HMAC-SHA256", "ECDSA-P256-SHA256"}, {"Credential=", "Credential=,Credential="}, {"T120000Z", "T121500Z"}, {"host;", "host;host;"},
			{"X-Amz-Date: ", "X-Amz-Date:\r\n "}, {"aws-cli", "curl"}, {"us-east-1", "eu-west-1"}, {"Content-Length", "Transfer-Encoding: chunked\r\nX"},
		} {
			f.Add(bytes.Replace(wire, []byte(s.old), []byte(s.with), 1))
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		req, body := received(wire)
		if req == nil {
			return
		}
		r, err := sigv4.Verify(req, body, options())
		if err != nil {
			return
		}
		was, ok := said[slowCanonical(req, strings.Join(r.SignedHeaders, ";"), body)]
		if !ok {
			t.Fatalf("verified what nobody signed:\n%s", wire)
		}
		for name := range req.Header {
			if strings.HasPrefix(name, "X-Amz-") || name == "Content-Type" || name == "Content-Encoding" {
				if got, want := req.Header[name], was.Header[name]; len(got) != 1 || len(want) != 1 || spaces.ReplaceAllString(got[0], " ") != spaces.ReplaceAllString(want[0], " ") {
					t.Fatalf("%s is %q, and %q was signed", name, got, want)
				}
			}
		}
		if r.SessionToken != was.Header.Get("X-Amz-Security-Token") || req.Host != was.Host || req.Method != was.Method {
			t.Fatalf("verified as %+v", r)
		}
	})
}

// FuzzCanonical signs whatever a server can receive, by the slow code, and wants
// Verify to agree with it or to refuse it by a rule.
func FuzzCanonical(f *testing.F) {
	for _, wire := range signedSeeds(f) {
		req, body := received(wire)
		f.Add(req.Method, req.RequestURI, req.Host, "a  b ", body)
	}
	for _, v := range vectors {
		f.Add(v.method, v.target, "example.amazonaws.com", v.header, []byte(v.body))
	}
	f.Add("GET", "/%2e%2e/a%2F..//b/./?%61=1&a=&&=x&a=%zz", "h", "\t \t", []byte{})
	f.Add("GET", "http://h/x?y", "h", "", []byte{})
	f.Fuzz(func(t *testing.T, method, target, host, value string, body []byte) {
		if strings.ContainsAny(method+target+host+value, "\r\n") || strings.ContainsAny(method+target, " ") || len(body) > 1<<16 {
			return
		}
		fake := describeKey()
		fake.method, fake.target, fake.host, fake.body = method, target, host, string(body)
		fake.add("My-Header", value)
		fake.signed = "content-type;host;my-header;x-amz-date;x-amz-target"
		if req, _ := received([]byte(method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nMy-Header: " + value + "\r\n\r\n")); req == nil || !strings.HasPrefix(target, "/") {
			return // no server gets that far, or slowCanonical does not know how
		}
		req, got := fake.request(t)
		_, err := sigv4.Verify(req, got, options())
		if err == nil {
			return
		}
		switch e := err.(*sigv4.Error); {
		case e.Code == incomplete, strings.HasPrefix(e.Message, "Found both"):
		default:
			t.Fatalf("the signer and the verifier differ: %v\n%s", e, slowCanonical(req, fake.signed, got))
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	req, body := describeKey().request(b)
	for _, bb := range []struct {
		name  string
		cache *sigv4.Cache
		body  []byte
	}{{"cached", sigv4.NewCache(10), body}, {"derived", nil, body}} {
		b.Run(bb.name, func(b *testing.B) {
			o := options()
			o.Cache = bb.cache
			o.Now = func() time.Time { return noon }
			b.ReportAllocs()
			for b.Loop() {
				if _, err := sigv4.Verify(req, bb.body, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("SHA-256 of the body", func(b *testing.B) {
		for b.Loop() {
			sha256.Sum256(body)
		}
	})
}
