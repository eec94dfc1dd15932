package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// remoteService is a service on the network, for AWS's command line.
type remoteService struct {
	t     *testing.T
	state string
	url   string
	ca    string // a file, "" on plain HTTP
}

func startRemote(t *testing.T, args ...string) *remoteService {
	t.Helper()
	r := &remoteService{t: t, state: shortDir(t)}
	startService(t, r.state, append([]string{"--listen", "127.0.0.1:0"}, args...)...)
	c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: r.state})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	st, err := c.Status(t.Context())
	if err != nil || len(st.Listeners) != 1 {
		t.Fatalf("%+v, %v", st, err)
	}
	if r.url = st.Listeners[0].URL; strings.HasPrefix(r.url, "https:") {
		r.ca = r.file("kmsfs.pem", r.kmsfs("keysvc", "certificate"))
	}
	return r
}

func (r *remoteService) file(name, content string) string {
	r.t.Helper()
	path := filepath.Join(r.state, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// kmsfs runs a command and returns what it prints.
func (r *remoteService) kmsfs(args ...string) string {
	r.t.Helper()
	out, err := exec.Command("kmsfs", append([]string{"--state-dir", r.state}, args...)...).Output()
	if err != nil {
		r.t.Fatalf("kmsfs %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// user makes a user who may do what the policy allows, and returns its access key.
func (r *remoteService) user(name, policy string) (id, secret string) {
	r.t.Helper()
	r.kmsfs("user", "create", name)
	arn := strings.TrimSpace(r.kmsfs("policy", "create", name, r.file(name+".json", policy)))
	r.kmsfs("policy", "attach", "--user", name, arn)
	var out struct {
		AccessKey struct{ AccessKeyID, SecretAccessKey string }
	}
	if err := json.Unmarshal([]byte(r.kmsfs("user", "access-key", "create", "--json", name)), &out); err != nil {
		r.t.Fatal(err)
	}
	return out.AccessKey.AccessKeyID, out.AccessKey.SecretAccessKey
}

const (
	allowAll = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}`
	alice    = "arn:aws:iam::000000000000:user/alice"
)

// at finds a member of what a command printed: "a.0.b".
func at(t *testing.T, v any, path string) any {
	t.Helper()
	for name := range strings.SplitSeq(path, ".") {
		switch w := v.(type) {
		case map[string]any:
			v = w[name]
		case []any:
			if len(w) == 0 || name != "0" {
				return nil
			}
			v = w[0]
		default:
			return nil
		}
	}
	return v
}

// TestAWSCLI drives each operation by AWS's own command line, over TLS.
func TestAWSCLI(t *testing.T) {
	r := startRemote(t)
	id, secret := r.user("alice", allowAll)
	aws := keysvctest.NewAWSCLI(t, r.url, id, secret, r.ca)
	if out := aws.Run("sts", "get-caller-identity"); out["Arn"] != alice {
		t.Fatalf("the caller is %v", out)
	}
	kms := func(args ...string) map[string]any {
		t.Helper()
		return aws.Run(append([]string{"kms"}, args...)...)
	}
	key := at(t, kms("create-key", "--description", "d", "--tags", "TagKey=a,TagValue=b"), "KeyMetadata.KeyId").(string)
	// want runs a command and looks at one member of what it prints.
	want := func(path string, value any, args ...string) {
		t.Helper()
		if out := kms(args...); out != nil && at(t, out, path) != value {
			t.Errorf("aws kms %s: %v, want %s to be %v", strings.Join(args, " "), out, path, value)
		}
	}
	kms("update-key-description", "--key-id", key, "--description", "e")
	want("KeyMetadata.Description", "e", "describe-key", "--key-id", key)
	want("Keys.0.KeyId", key, "list-keys")
	kms("create-alias", "--alias-name", "alias/k", "--target-key-id", key)
	kms("update-alias", "--alias-name", "alias/k", "--target-key-id", key)
	want("Aliases.0.AliasName", "alias/k", "list-aliases", "--key-id", key)
	kms("tag-resource", "--key-id", key, "--tags", "TagKey=c,TagValue=d")
	kms("untag-resource", "--key-id", key, "--tag-keys", "a")
	want("Tags.0.TagKey", "c", "list-resource-tags", "--key-id", key)

	plain := r.file("plain", "attack at dawn")
	made := kms("encrypt", "--key-id", "alias/k", "--plaintext", "fileb://"+plain, "--encryption-context", "a=b")
	blob, err := base64.StdEncoding.DecodeString(at(t, made, "CiphertextBlob").(string))
	if err != nil {
		t.Fatal(err)
	}
	sealed := "fileb://" + r.file("sealed", string(blob))
	want("Plaintext", base64.StdEncoding.EncodeToString([]byte("attack at dawn")), "decrypt", "--ciphertext-blob", sealed, "--encryption-context", "a=b")
	aws.Refused("(InvalidCiphertextException)", "kms", "decrypt", "--ciphertext-blob", sealed, "--encryption-context", "a=c")
	want("EncryptionAlgorithm", nil, "re-encrypt", "--ciphertext-blob", sealed, "--source-encryption-context", "a=b", "--destination-key-id", key)
	want("KeyId", "arn:aws:kms:us-east-1:000000000000:key/"+key, "generate-data-key", "--key-id", "alias/k", "--key-spec", "AES_256")
	want("Plaintext", nil, "generate-data-key-without-plaintext", "--key-id", key, "--number-of-bytes", "64")
	if out := kms("generate-random", "--number-of-bytes", "3"); len(out["Plaintext"].(string)) != 4 {
		t.Errorf("3 random bytes: %v", out)
	}
	aws.Refused("(DryRunOperationException)", "kms", "generate-data-key", "--key-id", key, "--key-spec", "AES_256", "--dry-run")
	want("KeyId", key, "get-key-last-usage", "--key-id", key)

	kms("enable-key-rotation", "--key-id", key, "--rotation-period-in-days", "90")
	want("KeyRotationEnabled", true, "get-key-rotation-status", "--key-id", key)
	kms("disable-key-rotation", "--key-id", key)
	kms("rotate-key-on-demand", "--key-id", key)
	want("Rotations.0.RotationType", "ON_DEMAND", "list-key-rotations", "--key-id", key)

	policy := at(t, kms("get-key-policy", "--key-id", key, "--policy-name", "default"), "Policy").(string)
	kms("put-key-policy", "--key-id", key, "--policy", policy)
	want("PolicyNames.0", "default", "list-key-policies", "--key-id", key)

	grant := kms("create-grant", "--key-id", key, "--grantee-principal", alice, "--retiring-principal", alice, "--operations", "Decrypt", "RetireGrant",
		"--constraints", "EncryptionContextSubset={a=b}")
	want("Grants.0.GrantId", grant["GrantId"], "list-grants", "--key-id", key)
	want("Grants.0.GrantId", grant["GrantId"], "list-retirable-grants", "--retiring-principal", alice)
	kms("decrypt", "--ciphertext-blob", sealed, "--encryption-context", "a=b", "--grant-tokens", grant["GrantToken"].(string))
	kms("retire-grant", "--grant-token", grant["GrantToken"].(string))
	grant = kms("create-grant", "--key-id", key, "--grantee-principal", alice, "--operations", "Decrypt")
	kms("revoke-grant", "--key-id", key, "--grant-id", grant["GrantId"].(string))
	want("Grants.0", nil, "list-grants", "--key-id", key)

	kms("disable-key", "--key-id", key)
	aws.Refused("(DisabledException)", "kms", "decrypt", "--ciphertext-blob", sealed, "--encryption-context", "a=b")
	kms("enable-key", "--key-id", key)
	kms("delete-alias", "--alias-name", "alias/k")
	want("KeyState", "PendingDeletion", "schedule-key-deletion", "--key-id", key, "--pending-window-in-days", "7")
	aws.Refused("is pending deletion", "kms", "decrypt", "--ciphertext-blob", sealed, "--encryption-context", "a=b")
	want("KeyId", "arn:aws:kms:us-east-1:000000000000:key/"+key, "cancel-key-deletion", "--key-id", key)
	aws.Refused("(UnsupportedOperationException)", "kms", "describe-custom-key-stores")

	// Without the certificate there is no trust.
	keysvctest.NewAWSCLI(t, r.url, id, secret, "").Refused("SSL", "kms", "list-keys")
}

// TestAWSCLIRefusals uses access keys that are not right, over plain HTTP.
func TestAWSCLIRefusals(t *testing.T) {
	r := startRemote(t, "--insecure-http")
	id, secret := r.user("alice", `{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}`)
	alice := keysvctest.NewAWSCLI(t, r.url, id, secret, "")
	if out := alice.Run("sts", "get-caller-identity"); !strings.HasSuffix(out["Arn"].(string), "/alice") {
		t.Errorf("who may nothing may know who it is: %v", out)
	}
	alice.Refused("with an explicit deny", "kms", "list-keys")
	eve := keysvctest.NewAWSCLI(t, r.url, id, strings.Repeat("x", 40), "")
	eve.Refused("(SignatureDoesNotMatch)", "sts", "get-caller-identity")
	eve.Refused("(InvalidSignatureException)", "kms", "list-keys")
	r.kmsfs("user", "access-key", "disable", "alice", id)
	alice.Refused("(InvalidClientTokenId)", "sts", "get-caller-identity")
	alice.Refused("(UnrecognizedClientException)", "kms", "list-keys")
}
