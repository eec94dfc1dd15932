package keysvc_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// TestForgedRequests has what an attacker makes of requests that were signed, or of
// none. The unspoilt request is answered by the action.
func TestForgedRequests(t *testing.T) {
	srv, alice := remoteServer(t, loopback)
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	unsign := func(name string) func(*http.Request) {
		return func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", strings.Replace(strings.Replace(a, name+";", "", 1), ";"+name, "", 1))
		}
	}
	const (
		invalid    = "InvalidSignatureException"
		incomplete = "IncompleteSignatureException"
		missing    = "MissingAuthenticationTokenException"
	)
	for name, tt := range map[string]struct {
		signedRequest
		code, message string
	}{
		"unspoilt":               {signedRequest{}, "AccessDeniedException", "kms:ListKeys"},
		"unspoilt, 14 min. old":  {signedRequest{At: time.Now().Add(-14 * time.Minute)}, "AccessDeniedException", "kms:ListKeys"},
		"no signature":           {signedRequest{Unsigned: true}, missing, ""},
		"another target":         {signedRequest{After: set("X-Amz-Target", "TrentService.ScheduleKeyDeletion")}, invalid, "does not match"},
		"an unsigned target":     {signedRequest{After: unsign("x-amz-target")}, invalid, "'X-Amz-Target' must be a 'SignedHeader'"},
		"a target added":         {signedRequest{Target: "-", After: set("X-Amz-Target", "TrentService.ListKeys")}, invalid, "'X-Amz-Target' must be a 'SignedHeader'"},
		"two targets":            {signedRequest{After: func(r *http.Request) { r.Header.Add("X-Amz-Target", "TrentService.ListAliases") }}, incomplete, "more than one X-Amz-Target"},
		"an unsigned date":       {signedRequest{After: unsign("x-amz-date")}, invalid, "'X-Amz-Date' must be a 'SignedHeader'"},
		"an unsigned host":       {signedRequest{After: unsign("host")}, invalid, "'Host' must be a 'SignedHeader'"},
		"another host":           {signedRequest{After: func(r *http.Request) { r.Host = "kms.us-east-1.amazonaws.com" }}, invalid, "does not match"},
		"a token added":          {signedRequest{After: set("X-Amz-Security-Token", "x")}, invalid, "'X-Amz-Security-Token' must be a 'SignedHeader'"},
		"replayed too late":      {signedRequest{At: time.Now().Add(-16 * time.Minute)}, invalid, "Signature expired"},
		"too early":              {signedRequest{At: time.Now().Add(16 * time.Minute)}, invalid, "Signature not yet current"},
		"a fresh date":           {signedRequest{At: time.Now().Add(-16 * time.Minute), After: set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))}, invalid, "does not match"},
		"another service":        {signedRequest{Service: "sts"}, invalid, "correct service: 'kms'"},
		"another region":         {signedRequest{Region: "eu-west-1"}, invalid, "valid region, not 'eu-west-1'"},
		"another body":           {signedRequest{After: func(r *http.Request) { r.Body, r.ContentLength = body(`{"Limit":1}`) }}, invalid, "does not match"},
		"the payload unsigned":   {signedRequest{Before: set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")}, invalid, "must be the hash of the body"},
		"two Authorizations":     {signedRequest{After: func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }}, incomplete, "more than one Authorization"},
		"header and query":       {signedRequest{After: func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=00" }}, invalid, "Found both"},
		"signed query and such":  {signedRequest{Before: func(r *http.Request) { r.URL.RawQuery = "x=y" }}, "UnknownOperationException", ""},
		"Basic":                  {signedRequest{Unsigned: true, After: set("Authorization", "Basic YWxpY2U6eA==")}, missing, ""},
		"SigV4A":                 {signedRequest{Unsigned: true, After: set("Authorization", "AWS4-ECDSA-P256-SHA256 Credential=x")}, incomplete, "AWS4-ECDSA-P256-SHA256"},
		"a form that is a KMS's": {signedRequest{ContentType: "application/x-www-form-urlencoded"}, "AccessDeniedException", "kms:ListKeys"},
		"duplicate members":      {signedRequest{Body: `{"Limit":1,"Limit":2}`}, "SerializationException", "twice"},
		"nested":                 {signedRequest{Body: strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)}, "SerializationException", "nested"},
		"as large as may be":     {signedRequest{Body: `{"x":"` + strings.Repeat("x", 512<<10-8) + `"}`}, "AccessDeniedException", ""},
		"too large":              {signedRequest{Body: `{"x":"` + strings.Repeat("x", 512<<10-7) + `"}`}, "SerializationException", "too large"},
		"chunked":                {signedRequest{Body: `{}`, Before: func(r *http.Request) { r.ContentLength = -1 }}, "AccessDeniedException", ""},
		"chunked and too large":  {signedRequest{Body: strings.Repeat(" ", 512<<10+1), Before: func(r *http.Request) { r.ContentLength = -1 }}, "SerializationException", "too large"},
		"the identity admin's":   {signedRequest{Target: "KmsfsIdentity.CreateUser", Body: `{"UserName":"eve"}`}, "UnknownOperationException", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := tt.signedRequest
			if r.Target == "" {
				r.Target = "TrentService.ListKeys"
			} else if r.Target == "-" {
				r.Target = ""
			}
			if r.Body == "" {
				r.Body = "{}"
			}
			status, answer := r.send(t, srv, alice)
			if status != 400 || !strings.Contains(answer, `"`+tt.code+`"`) || !strings.Contains(answer, tt.message) {
				t.Errorf("%d %.300s", status, answer)
			}
		})
	}
}

// TestPresignedRequests sends one that the SDK made.
func TestPresignedRequests(t *testing.T) {
	srv, alice := remoteServer(t, loopback)
	req := signedRequest{Target: "TrentService.ListKeys", Unsigned: true}.make(t, srv.Remote.URL(), alice)
	const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	signed, header, err := v4.NewSigner().PresignHTTP(t.Context(), alice, req, emptyHash, "kms", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	status, answer := signedRequest{Unsigned: true, After: func(r *http.Request) { r.URL, r.Header = u, header }}.send(t, srv, alice)
	if status != 400 || !strings.Contains(answer, "IncompleteSignatureException") || !strings.Contains(answer, "query string") {
		t.Errorf("%d %s", status, answer)
	}
}

// TestQueryProtocol has the same for STS, which says it otherwise.
func TestQueryProtocol(t *testing.T) {
	srv, alice := remoteServer(t, loopback)
	const ask = "Action=GetCallerIdentity&Version=2011-06-15"
	for name, tt := range map[string]struct {
		signedRequest
		status int
		code   string
	}{
		"unspoilt":           {signedRequest{Body: ask}, 200, "arn:aws:iam::000000000000:user/alice</Arn>"},
		"more parameters":    {signedRequest{Body: ask + "&x=y"}, 200, "</GetCallerIdentityResponse>"},
		"no signature":       {signedRequest{Body: ask, Unsigned: true}, 403, "<Code>MissingAuthenticationToken</Code>"},
		"replayed too late":  {signedRequest{Body: ask, At: time.Now().Add(-16 * time.Minute)}, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"for KMS":            {signedRequest{Body: ask, Service: "kms"}, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"another body":       {signedRequest{After: func(r *http.Request) { r.Body, r.ContentLength = body(ask) }}, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"unsigned type":      {signedRequest{Body: ask, After: func(r *http.Request) { r.Header.Del("Authorization") }}, 403, "<Code>MissingAuthenticationToken</Code>"},
		"no action":          {signedRequest{Body: "Version=2011-06-15"}, 400, "<Code>MissingAction</Code>"},
		"no version":         {signedRequest{Body: "Action=GetCallerIdentity"}, 400, "<Code>InvalidAction</Code>"},
		"IAM's":              {signedRequest{Body: "Action=CreateUser&Version=2010-05-08&UserName=eve"}, 400, "<Code>InvalidAction</Code>"},
		"two actions":        {signedRequest{Body: ask + "&Action=GetCallerIdentity"}, 400, "<Code>MalformedInput</Code>"},
		"markup":             {signedRequest{Body: "Action=%3Cx%3E%00&Version=2011-06-15"}, 400, "&lt;x&gt;"},
		"malformed":          {signedRequest{Body: ask + "&%"}, 400, "<Code>MalformedInput</Code>"},
		"semicolons":         {signedRequest{Body: ask + ";x=y"}, 400, "<Code>MalformedInput</Code>"},
		"100 parameters":     {signedRequest{Body: ask + parameters(98)}, 200, ""},
		"101 parameters":     {signedRequest{Body: ask + parameters(99)}, 400, "<Code>MalformedInput</Code>"},
		"too large":          {signedRequest{Body: ask + "&x=" + strings.Repeat("x", 16<<10)}, 400, "<Code>MalformedInput</Code>"},
		"much too large":     {signedRequest{Body: ask + "&x=" + strings.Repeat("x", 512<<10)}, 400, "<Code>MalformedInput</Code>"},
		"in the URL, by GET": {signedRequest{Method: http.MethodGet, Path: "/?" + ask}, 400, "<Code>InvalidAction</Code>"},
		"by PUT":             {signedRequest{Method: http.MethodPut, Body: ask}, 400, "<Code>InvalidAction</Code>"},
		"at another path":    {signedRequest{Path: "/kmsfs/status", Body: ask}, 400, "<Code>InvalidAction</Code>"},
	} {
		t.Run(name, func(t *testing.T) {
			r := tt.signedRequest
			r.ContentType = "application/x-www-form-urlencoded; charset=utf-8"
			if r.Service == "" {
				r.Service = "sts"
			}
			status, answer := r.send(t, srv, alice)
			if status != tt.status || !strings.Contains(answer, tt.code) || !strings.Contains(answer, "<RequestId>") {
				t.Errorf("%d %.500s", status, answer)
			}
		})
	}
}

func parameters(n int) (s string) {
	for i := range n {
		s += "&p" + strings.Repeat("x", i) + "=1"
	}
	return s
}
