package keysvc_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

// signedRequest is a request as AWS's signer makes it, to be spoilt.
type signedRequest struct {
	Method, Path string // POST and / by default
	Target, Body string
	ContentType  string // JSON's by default
	Service      string // kms by default
	Region       string // us-east-1 by default
	At           time.Time
	Unsigned     bool
	// Before and After change the request before and after it is signed.
	Before, After func(*http.Request)
}

func (r signedRequest) make(t *testing.T, url string, who aws.Credentials) *http.Request {
	t.Helper()
	or := func(s *string, other string) {
		if *s == "" {
			*s = other
		}
	}
	or(&r.Method, http.MethodPost)
	or(&r.Path, "/")
	or(&r.ContentType, "application/x-amz-json-1.1")
	or(&r.Service, "kms")
	or(&r.Region, "us-east-1")
	if r.At.IsZero() {
		r.At = time.Now()
	}
	req, err := http.NewRequest(r.Method, url+r.Path, strings.NewReader(r.Body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", r.ContentType)
	if r.Target != "" {
		req.Header.Set("X-Amz-Target", r.Target)
	}
	if r.Before != nil {
		r.Before(req)
	}
	if !r.Unsigned {
		sum := sha256.Sum256([]byte(r.Body))
		if err := v4.NewSigner().SignHTTP(t.Context(), who, req, hex.EncodeToString(sum[:]), r.Service, r.Region, r.At); err != nil {
			t.Fatal(err)
		}
	}
	if r.After != nil {
		r.After(req)
	}
	return req
}

func (r signedRequest) send(t *testing.T, srv *keysvctest.Server, who aws.Credentials) (status int, answer string) {
	t.Helper()
	resp, err := srv.RemoteHTTPClient().Do(r.make(t, srv.Remote.URL(), who))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// body is another body for a request.
func body(s string) (io.ReadCloser, int64) { return io.NopCloser(strings.NewReader(s)), int64(len(s)) }
