package keysvc_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

// awsCLI runs AWS's own command line as a user.
type awsCLI struct {
	t      *testing.T
	url    string
	env    []string
	stderr bytes.Buffer // of the last command
}

func newAWSCLI(t *testing.T, srv *keysvctest.Server, who aws.Credentials) *awsCLI {
	t.Helper()
	if _, err := exec.LookPath("aws"); err != nil {
		t.Skip("the aws command is not installed (package awscli)")
	}
	a := &awsCLI{t: t, url: srv.Remote.URL(), env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_MAX_ATTEMPTS=1", "AWS_PAGER=", "AWS_DEFAULT_OUTPUT=json",
		"AWS_ACCESS_KEY_ID=" + who.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + who.SecretAccessKey,
	}}
	st, err := srv.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if pem := st.Listeners[0].Certificate; pem != "" {
		bundle := filepath.Join(t.TempDir(), "kmsfs.pem")
		if err := os.WriteFile(bundle, []byte(pem), 0o600); err != nil {
			t.Fatal(err)
		}
		a.env = append(a.env, "AWS_CA_BUNDLE="+bundle)
	}
	return a
}

// run runs one command and returns what it prints, or nil if it fails.
func (a *awsCLI) run(args ...string) map[string]any {
	a.t.Helper()
	a.stderr.Reset()
	cmd := exec.CommandContext(a.t.Context(), "aws", append([]string{"--endpoint-url", a.url}, args...)...)
	cmd.Env, cmd.Stderr = a.env, &a.stderr
	out, err := cmd.Output()
	if err != nil {
		return nil
	}
	members := map[string]any{}
	if len(bytes.TrimSpace(out)) > 0 {
		if err := json.Unmarshal(out, &members); err != nil {
			a.t.Fatalf("aws %s prints %s", strings.Join(args, " "), out)
		}
	}
	return members
}

// kms is run for a command that succeeds.
func (a *awsCLI) kms(args ...string) map[string]any {
	a.t.Helper()
	out := a.run(append([]string{"kms"}, args...)...)
	if out == nil {
		a.t.Fatalf("aws kms %s: %s", strings.Join(args, " "), &a.stderr)
	}
	return out
}

// refused says whether the last command failed with an error of the service.
func (a *awsCLI) refused(out map[string]any, code string) {
	a.t.Helper()
	if out != nil || !strings.Contains(a.stderr.String(), "("+code+")") {
		a.t.Errorf("%v, %s: want %s", out, &a.stderr, code)
	}
}

// TestAWSCLIOverTLS asks who it is, with the certificate and without.
func TestAWSCLIOverTLS(t *testing.T) {
	srv, alice := remoteServer(t, loopback)
	a := newAWSCLI(t, srv, alice)
	if out := a.run("sts", "get-caller-identity"); out["Arn"] != "arn:aws:iam::000000000000:user/alice" {
		t.Errorf("%v %s", out, &a.stderr)
	}
	a.env = slices.DeleteFunc(a.env, func(v string) bool { return strings.HasPrefix(v, "AWS_CA_BUNDLE=") })
	if out := a.run("sts", "get-caller-identity"); out != nil || !strings.Contains(a.stderr.String(), "SSL") {
		t.Errorf("a certificate that nobody was given is trusted: %v %s", out, &a.stderr)
	}
}

// TestAWSCLIRefusals uses keys that are not right.
func TestAWSCLIRefusals(t *testing.T) {
	srv, eve := remoteServer(t, plain)
	eve.SecretAccessKey = strings.Repeat("x", 40)
	a := newAWSCLI(t, srv, eve)
	a.refused(a.run("sts", "get-caller-identity"), "SignatureDoesNotMatch")
	a.refused(a.run("kms", "list-keys"), "InvalidSignatureException")
	eve.AccessKeyID = "AKIAIOSFODNN7EXAMPLE"
	a = newAWSCLI(t, srv, eve)
	a.refused(a.run("sts", "get-caller-identity"), "InvalidClientTokenId")
	a.refused(a.run("kms", "list-keys"), "UnrecognizedClientException")
}
