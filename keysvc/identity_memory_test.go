package keysvc

import (
	"bytes"
	"runtime"
	"testing"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// TestSecretsStayInLockedMemory: a secret access key that was made, encoded into
// the answer, stored, and used after a restart is nowhere else, once whoever was given
// it has wiped it.
func TestSecretsStayInLockedMemory(t *testing.T) {
	dir := t.TempDir()
	svc := openService(t, dir)
	root := svc.LocalCaller(0)
	if _, err := Call(t.Context(), svc, root, kmsapi.OpCreateUser, (*Service).CreateUser, &kmsapi.CreateUserInput{UserName: "alice"}); err != nil {
		t.Fatal(err)
	}
	out, err := Call(t.Context(), svc, root, kmsapi.OpCreateAccess, (*Service).CreateAccessKey, &kmsapi.AccessKeyInput{UserName: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	id := out.AccessKey.AccessKeyID
	needle, err := secret.New(accessKeySecretLen)
	if err != nil {
		t.Fatal(err)
	}
	defer needle.Free()
	if copy(needle.Bytes(), out.AccessKey.SecretAccessKey) != accessKeySecretLen {
		t.Fatal("the secret has another length")
	}
	needles := map[string]*secret.Buffer{"secret": needle}
	if scanUnlocked(t, needles)["secret"] == 0 {
		t.Error("the scan misses the secret in the answer")
	}
	body, err := identityProtocol().encode(nil, out, "")
	if err != nil {
		t.Fatal(err)
	}
	const before = `{"AccessKey":{"SecretAccessKey":"`
	if !bytes.HasPrefix(body, []byte(before)) || !bytes.HasPrefix(body[len(before):], needle.Bytes()) {
		t.Error("the secret is not in the body")
	}
	secret.Wipe(body)
	if out.AccessKey.SecretAccessKey != nil {
		t.Error("the secret is still in the answer")
	}
	use := func() {
		t.Helper()
		for range 1000 {
			found, err := svc.useSecret(id, func(b []byte) {
				if !bytes.Equal(b, needle.Bytes()) {
					t.Error("it is another secret")
				}
			})
			if !found || err != nil {
				t.Fatal(found, err)
			}
		}
	}
	use()
	if err := svc.Close(); err != nil {
		t.Fatal(err)
	}
	svc = openService(t, dir)
	use()
	runtime.GC()
	for what, n := range scanUnlocked(t, needles) {
		t.Errorf("%s is in unlocked memory %d times", what, n)
	}
}
