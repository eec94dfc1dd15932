package sigv4_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
)

// sdkSigned is what a server receives of a request that the SDK's signer signed.
func sdkSigned(t *testing.T, method, target, token string, header http.Header, body []byte) (*http.Request, []byte) {
	t.Helper()
	out, err := http.NewRequest(method, "http://127.0.0.1:4599"+target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		out.Header[name] = values
	}
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: userID, SecretAccessKey: userSecret, SessionToken: token}
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, out, hex.EncodeToString(sum[:]), "kms", "us-east-1", noon); err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	if err := out.Write(&wire); err != nil {
		t.Fatal(err)
	}
	return receive(t, wire.Bytes())
}

// TestSDKSigner has AWS's signer for Go sign and Verify agree, and disagree once the
// method is another.
func TestSDKSigner(t *testing.T) {
	for _, target := range []string{
		"/", "", "/?", "/?a=b", "/?b=2&a=1&a=0", "/?a", "/?a=", "/?=a", "/?a=%20%2B%2F%3F%25", "/?a=b+c", "/?a=~-._!*'()", "/?a==&b=%26", "/?%C3%A9=%E2%82%AC", "/?a=x%00y",
		"/x", "/x/", "/x%20y", "/x%2Fy", "/x%25y", "/%C3%A9/%E2%82%AC", "/x+y", "/x:y@z", "/a!b*c'd(e)", "/x;y", "/%7Ex~", "/%41", "/a,b=c&d$e",
	} {
		for _, method := range []string{"GET", "POST"} {
			for _, body := range []string{"", "{}", strings.Repeat("x", 5000), "\x00\xff"} {
				t.Run(method+target+fmt.Sprint(len(body)), func(t *testing.T) {
					header := http.Header{"X-Amz-Target": {"TrentService.Encrypt"}, "Content-Type": {"application/x-amz-json-1.1"}}
					req, got := sdkSigned(t, method, target, "", header, []byte(body))
					if _, err := sigv4.Verify(req, got, options()); err != nil {
						t.Fatal(err)
					}
					req.Method += "X"
					_, err := sigv4.Verify(req, got, options())
					refused(t, err, invalid, "does not match")
				})
			}
		}
	}
}

func TestSDKSignerHeaders(t *testing.T) {
	for name, header := range map[string]http.Header{
		"spaces":   {"My-Header": {"  a   b  c "}},
		"tabs":     {"My-Header": {"\ta b\t"}},
		"quotes":   {"My-Header": {`"a   b"`}},
		"repeated": {"My-Header": {"b", "a", "b"}},
		"empty":    {"My-Header": {""}},
		"commas":   {"My-Header": {"a,b", "c"}},
		"UTF-8":    {"My-Header": {"é€"}},
		"hash":     {"X-Amz-Content-Sha256": {"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}, // of {}
		"agent":    {"User-Agent": {"x"}, "X-Amzn-Trace-Id": {"Root=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			req, body := sdkSigned(t, "POST", "/", "a/session+token==", header, []byte("{}"))
			r, err := sigv4.Verify(req, body, options())
			if err != nil {
				t.Fatal(err)
			}
			if r.SessionToken != "a/session+token==" {
				t.Errorf("the token is %q", r.SessionToken)
			}
		})
	}
}

// TestPresigned has the SDK presign, for one who has nothing but the URL.
func TestPresigned(t *testing.T) {
	out, err := http.NewRequest("GET", "http://127.0.0.1:4599/?Action=GetCallerIdentity", nil)
	if err != nil {
		t.Fatal(err)
	}
	creds := aws.Credentials{AccessKeyID: userID, SecretAccessKey: userSecret}
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), creds, out, empty, "kms", "us-east-1", noon)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	req, body := receive(t, []byte("GET "+u.RequestURI()+" HTTP/1.1\r\nHost: 127.0.0.1:4599\r\n\r\n"))
	_, err = sigv4.Verify(req, body, options())
	refused(t, err, incomplete, "query string are not accepted")
}

// verifier is a server that answers what Verify says.
type verifier struct {
	o sigv4.Options

	mu      sync.Mutex // guards what follows
	results []sigv4.Result
	proto   string // of the last request
}

func (v *verifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	result, err := sigv4.Verify(r, body, v.o)
	if err != nil {
		e := err.(*sigv4.Error)
		w.WriteHeader(e.HTTPStatus())
		fmt.Fprintf(w, `{"__type":%q,"message":%q}`, e.Code, e.Message)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.results = append(v.results, result)
	v.proto = r.Proto
	fmt.Fprint(w, `{"Truncated":false,"Keys":[]}`)
}

// TestSDKClient has AWS's KMS client talk to a server, over HTTP/1.1 and HTTP/2.
func TestSDKClient(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/1.1 with TLS", "HTTP/2"} {
		t.Run(proto, func(t *testing.T) {
			v := &verifier{o: options()}
			v.o.Now = time.Now
			v.o.Cache = sigv4.NewCache(4)
			defer v.o.Cache.Close()
			srv := httptest.NewUnstartedServer(v)
			srv.EnableHTTP2 = proto == "HTTP/2"
			if proto == "HTTP/1.1" {
				srv.Start()
			} else {
				srv.StartTLS()
			}
			defer srv.Close()
			client := func(id, secret, token string) *kms.Client {
				return kms.New(kms.Options{
					Region:           "us-east-1",
					BaseEndpoint:     aws.String(srv.URL),
					Credentials:      credentials.NewStaticCredentialsProvider(id, secret, token),
					HTTPClient:       srv.Client(),
					RetryMaxAttempts: 1,
				})
			}
			c := client(userID, userSecret, "token")
			for range 2 {
				if _, err := c.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.Encrypt(t.Context(), &kms.EncryptInput{
				KeyId: aws.String("alias/é"), Plaintext: make([]byte, 4096), EncryptionContext: map[string]string{"a": "€"},
			}); err != nil {
				t.Fatal(err)
			}
			for _, r := range v.results {
				if r.SessionToken != "token" || !slices.Contains(r.SignedHeaders, "x-amz-target") {
					t.Errorf("verified as %+v", r)
				}
			}
			if want, _, _ := strings.Cut(proto, " "); !strings.HasPrefix(v.proto, want) {
				t.Errorf("the protocol is %s", v.proto)
			}
			t.Logf("the Go SDK signs %s", strings.Join(v.results[0].SignedHeaders, ";"))

			code := func(c *kms.Client) string {
				_, err := c.ListKeys(t.Context(), &kms.ListKeysInput{})
				var api smithy.APIError
				if errors.As(err, &api) {
					return api.ErrorCode()
				}
				return fmt.Sprint(err)
			}
			if got := code(client(userID, "wrong", "")); got != invalid {
				t.Errorf("a wrong secret: %s", got)
			}
			if got := code(client("AKIAI44QH8DHBEXAMPLE", userSecret, "")); got != unrecognized {
				t.Errorf("an unknown key: %s", got)
			}
		})
	}
}
