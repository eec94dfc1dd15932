package keysvctest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// AWSCLI runs AWS's own command line as a user of a service on the network.
type AWSCLI struct {
	t      testing.TB
	url    string
	env    []string
	stderr bytes.Buffer // of the last command
}

// NewAWSCLI returns the command line of the user with an access key. It trusts the
// certificates in the file caBundle, or with "" those that everybody does. The test is
// skipped where the command is not installed.
func NewAWSCLI(t testing.TB, url, accessKeyID, secretAccessKey, caBundle string) *AWSCLI {
	t.Helper()
	if _, err := exec.LookPath("aws"); err != nil {
		t.Skip("the aws command is not installed (package awscli)")
	}
	a := &AWSCLI{t: t, url: url, env: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_MAX_ATTEMPTS=1", "AWS_PAGER=", "AWS_DEFAULT_OUTPUT=json",
		"AWS_ACCESS_KEY_ID=" + accessKeyID, "AWS_SECRET_ACCESS_KEY=" + secretAccessKey,
	}}
	if caBundle != "" { // empty would turn the check off
		a.env = append(a.env, "AWS_CA_BUNDLE="+caBundle)
	}
	return a
}

// run runs a command and returns what it prints.
func (a *AWSCLI) run(args []string) (out []byte, err error) {
	a.stderr.Reset()
	cmd := exec.CommandContext(a.t.Context(), "aws", append([]string{"--endpoint-url", a.url}, args...)...)
	cmd.Env, cmd.Stderr = a.env, &a.stderr
	return cmd.Output()
}

// tooOld says whether the last command failed because this version of aws is older than
// what it was asked for.
func (a *AWSCLI) tooOld(args []string) bool {
	said := strings.ToLower(a.stderr.String())
	if !strings.Contains(said, "invalid choice") && !strings.Contains(said, "unknown options") {
		return false
	}
	a.t.Logf("this version of aws does not know: %s", strings.Join(args, " "))
	return true
}

// Run runs a command that succeeds, and returns the object that it prints. It is nil if
// this version of aws does not know the command.
func (a *AWSCLI) Run(args ...string) map[string]any {
	a.t.Helper()
	out, err := a.run(args)
	if err != nil {
		if a.tooOld(args) {
			return nil
		}
		a.t.Fatalf("aws %s: %s", strings.Join(args, " "), &a.stderr)
	}
	members := map[string]any{}
	if len(bytes.TrimSpace(out)) > 0 {
		if err := json.Unmarshal(out, &members); err != nil {
			a.t.Fatalf("aws %s prints %s", strings.Join(args, " "), out)
		}
	}
	return members
}

// Refused runs a command that fails and says why.
func (a *AWSCLI) Refused(why string, args ...string) {
	a.t.Helper()
	if out, err := a.run(args); err == nil || !a.tooOld(args) && !strings.Contains(a.stderr.String(), why) {
		a.t.Errorf("aws %s: %s%s: want %s", strings.Join(args, " "), out, &a.stderr, why)
	}
}
