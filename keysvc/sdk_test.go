package keysvc_test

import (
	"errors"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

// sdk returns AWS's own client, talking to srv as this process's user. What it
// signs with does not matter: the peer's uid is the identity.
func sdk(srv *keysvctest.Server) *kms.Client { return sdkAs(srv, uint32(os.Geteuid())) }

func sdkAs(srv *keysvctest.Server, uid uint32) *kms.Client {
	return kms.New(kms.Options{
		Region:           "us-east-1",
		BaseEndpoint:     aws.String("http://kmsfs.test"),
		Credentials:      credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:       srv.HTTPClient(uid),
		RetryMaxAttempts: 1,
	})
}

// refused checks an error's code and HTTP status.
func refused(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("the answer is %v, not %s", err, code)
		return
	}
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() != 400 {
		t.Errorf("%s comes with HTTP status %d", code, resp.HTTPStatusCode())
	}
}

// says checks the message of a refusal too.
func says(t *testing.T, err error, code, message string) {
	t.Helper()
	refused(t, err, code)
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorMessage() != message {
		t.Errorf("%s says\n%q, not\n%q", code, api.ErrorMessage(), message)
	}
}

func newKey(t *testing.T, c *kms.Client) string {
	t.Helper()
	out, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.KeyId
}

const (
	arnPrefix = "arn:aws:kms:us-east-1:000000000000:"
	unknownID = "00000000-0000-4000-8000-000000000000"
)
