package fs_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// publicOnly is a key policy that lets the mount have the keys of files below
// /public only. The volume key is wrapped without a path.
const publicOnly = `{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "kms:*", "Resource": "*"},
  {"Effect": "Deny", "Principal": "*", "Action": ["kms:Decrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"], "Resource": "*",
   "Condition": {"Null": {"kms:EncryptionContext:kmsfs:path": "false"},
                 "StringNotLike": {"kms:EncryptionContext:kmsfs:path": "/public/*"}}}
]}`

// TestKeyPolicyDecidesByPath: exactly the files whose path the key policy allows
// can be opened, made and renamed, whatever their permission bits say.
func TestKeyPolicyDecidesByPath(t *testing.T) {
	v := fstest.New(t)
	at := func(name string) string { return filepath.Join(v.Mnt, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"public/deep", "publicity", "secret"} {
		must(os.MkdirAll(at(dir), 0o755))
	}
	for _, name := range []string{"public/a", "public/deep/b", "publicity/c", "secret/d", "secret/e"} {
		must(os.WriteFile(at(name), []byte(name), 0o644))
	}
	var keys struct{ Keys []struct{ KeyID string } }
	must(json.Unmarshal([]byte(v.Must("key", "list", "--json")), &keys))
	if len(keys.Keys) != 1 {
		t.Fatalf("there are %d keys", len(keys.Keys))
	}
	file := filepath.Join(t.TempDir(), "policy.json")
	must(os.WriteFile(file, []byte(publicOnly), 0o600))
	v.Must("policy", "put", keys.Keys[0].KeyID, file)
	v.Remount()

	read := func(name string) error {
		got, err := os.ReadFile(at(name))
		if err == nil && string(got) != name {
			t.Errorf("%s has %q", name, got)
		}
		return err
	}
	write := func(name string) error { return os.WriteFile(at(name), []byte(name), 0o644) }
	rename := func(from, to string) error { return os.Rename(at(from), at(to)) }
	for _, c := range []struct {
		what    string
		err     error
		allowed bool
	}{
		{"read public/a", read("public/a"), true},
		{"read public/deep/b", read("public/deep/b"), true},
		{"read publicity/c", read("publicity/c"), false},
		{"read secret/d", read("secret/d"), false},
		{"make public/new", write("public/new"), true},
		{"make secret/new", write("secret/new"), false},
		{"make one at the root", write("new"), false},
		{"rename within public", rename("public/new", "public/deep/new"), true},
		{"rename out of public", rename("public/a", "secret/a"), false},
		{"rename into public", rename("secret/d", "public/d"), false},
		{"rename elsewhere", rename("secret/d", "publicity/d"), false},
		{"read public/a again", read("public/a"), true},
	} {
		switch {
		case c.allowed && c.err != nil:
			t.Errorf("%s: %v", c.what, c.err)
		case !c.allowed && !errors.Is(c.err, unix.EACCES):
			t.Errorf("%s: %v, not EACCES", c.what, c.err)
		}
	}
	if _, err := os.Lstat(at("secret/new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that could not be made is there: %v", err)
	}

	// A directory takes its files to other paths: what the policy says of those counts.
	must(rename("public/deep", "secret/deep"))
	if err := read("secret/deep/b"); !errors.Is(err, unix.EACCES) {
		t.Errorf("read secret/deep/b: %v, not EACCES", err)
	}
	must(rename("secret/deep", "public/deep"))
	if got, err := os.ReadFile(at("public/deep/b")); err != nil || string(got) != "public/deep/b" {
		t.Errorf("public/deep/b is back and has %q, %v", got, err)
	}
}
