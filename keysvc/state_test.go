package keysvc_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// state is a stopped service's directory with one key and one alias.
type state struct {
	opts keysvc.Options
	key  string
	blob []byte
}

func newState(t *testing.T, change ...func(*keysvc.Options)) *state {
	t.Helper()
	dir := keysvctest.TempDir(t)
	s := &state{opts: keysvc.Options{Dir: filepath.Join(dir, "keysvc"), DefaultRootKeyFile: filepath.Join(dir, "conf", "root.key"), Log: quiet}}
	for _, c := range change {
		c(&s.opts)
	}
	svc, err := keysvc.Open(s.opts)
	if err != nil {
		t.Fatal(err)
	}
	root := svc.LocalCaller(0)
	out, err := keysvc.Call(t.Context(), svc, root, kmsapi.OpCreateKey, (*keysvc.Service).CreateKey, &kmsapi.CreateKeyInput{Description: "the description"})
	if err != nil {
		t.Fatal(err)
	}
	s.key = out.KeyMetadata.KeyID
	if _, err := keysvc.Call(t.Context(), svc, root, kmsapi.OpCreateAlias, (*keysvc.Service).CreateAlias, &kmsapi.AliasInput{AliasName: "alias/a", TargetKeyID: s.key}); err != nil {
		t.Fatal(err)
	}
	enc, err := keysvc.Call(t.Context(), svc, root, kmsapi.OpEncrypt, (*keysvc.Service).Encrypt, &kmsapi.EncryptInput{KeyID: s.key, Plaintext: []byte("p")})
	if err != nil {
		t.Fatal(err)
	}
	s.blob = enc.CiphertextBlob
	if err := svc.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// decrypts opens the service and decrypts what was encrypted before.
func (s *state) decrypts(t *testing.T) error {
	t.Helper()
	svc, err := keysvc.Open(s.opts)
	if err != nil {
		return err
	}
	out, err := keysvc.Call(t.Context(), svc, svc.LocalCaller(0), kmsapi.OpDecrypt, (*keysvc.Service).Decrypt, &kmsapi.DecryptInput{CiphertextBlob: s.blob})
	if err == nil && string(out.Plaintext) != "p" {
		err = errors.New("another plaintext")
	}
	return errors.Join(err, svc.Close())
}

// edit changes the store behind the service's back.
func (s *state) edit(t *testing.T, do func(store.Tx) error) {
	t.Helper()
	db, err := store.OpenBadger(filepath.Join(s.opts.Dir, "db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(do), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// records reads what is stored.
func (s *state) records(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	s.edit(t, func(tx store.Tx) error {
		return tx.Scan("", func(name string, value []byte) error {
			all[name] = value
			if bytes.Contains(value, []byte("description")) || bytes.Contains(value, []byte(s.key)) {
				t.Errorf("record %s is readable", name)
			}
			return nil
		})
	})
	return all
}

func TestStateSurvives(t *testing.T) {
	s := newState(t)
	for range 3 {
		if err := s.decrypts(t); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.records(t)); n != 7 {
		t.Errorf("a key that was used, an alias, the audit log and the manifest make %d records", n)
	}
}

func TestRootKeyFile(t *testing.T) {
	s := newState(t)
	file := s.opts.DefaultRootKeyFile
	right, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(file), os.WriteFile(file, data, mode), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	refuses := func(what, word string) {
		t.Helper()
		if err := s.decrypts(t); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: the service says %v", what, err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
		write(right, mode)
		refuses("mode "+mode.String(), "chmod 600")
	}
	other, err := os.ReadFile(newState(t).opts.DefaultRootKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	write(other, 0o600)
	refuses("another key", "does not unlock")
	write(right[:20], 0o600)
	refuses("a cut file", "not a root key file")
	write(append(right, '\n'), 0o600)
	refuses("a longer file", "not a root key file")
	write(right, 0o600)
	if err := os.Chown(file, 12345, 0); err != nil {
		t.Fatal(err)
	}
	refuses("another owner", "uid 12345")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	refuses("no file", "missing")
	if _, err := os.Stat(file); err == nil {
		t.Error("a missing key file was replaced")
	}
	if err := os.WriteFile(file+".real", right, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file+".real", file); err != nil {
		t.Fatal(err)
	}
	refuses("a symlink", "symbolic link")
	s.opts.RootKeyFile = file + ".real" // moved, and named
	if err := s.decrypts(t); err != nil {
		t.Error(err)
	}
	wrapped := filepath.Join(s.opts.Dir, "rootkey.json")
	raw, err := os.ReadFile(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{
		"a changed wrap":   strings.Replace(string(raw), `"wrapped": "`, `"wrapped": "AA`, 1),
		"a newer schema":   strings.Replace(string(raw), `"schema": 1`, `"schema": 2`, 1),
		"a changed member": strings.Replace(string(raw), `"keyFile": "`, `"keyFile": "/x`, 1),
		"no JSON":          "{",
	} {
		if err := os.WriteFile(wrapped, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		refuses(what, "rootkey.json")
	}
	if err := os.Remove(wrapped); err != nil {
		t.Fatal(err)
	}
	refuses("no wrapped key", "restore it")
}

func TestPassphrase(t *testing.T) {
	pass, asked := "correct horse", 0
	withPass := func(o *keysvc.Options) {
		o.UsePassphrase = true
		o.PassphraseMemoryKiB = 64
		o.Passphrase = func(confirm bool) ([]byte, error) {
			asked++
			if confirm != (asked == 1) {
				t.Errorf("question %d: confirm is %t", asked, confirm)
			}
			return []byte(pass), nil
		}
	}
	s := newState(t, withPass)
	if _, err := os.Stat(s.opts.DefaultRootKeyFile); err == nil {
		t.Error("there is a key file beside the passphrase")
	}
	if err := s.decrypts(t); err != nil {
		t.Fatal(err)
	}
	s.opts.UsePassphrase = false // known from the state
	if err := s.decrypts(t); err != nil {
		t.Fatal(err)
	}
	pass = "correct horsf"
	if err := s.decrypts(t); err == nil || !strings.Contains(err.Error(), "passphrase does not unlock") {
		t.Errorf("a wrong passphrase: %v", err)
	}
	pass = ""
	if err := s.decrypts(t); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty passphrase: %v", err)
	}
	s.opts.Passphrase = nil
	if err := s.decrypts(t); err == nil || !strings.Contains(err.Error(), "none was given") {
		t.Errorf("nobody to ask: %v", err)
	}
	// A cheaper Argon2id in the file does not make guessing cheaper.
	pass = "correct horse"
	withPass(&s.opts)
	file := filepath.Join(s.opts.Dir, "rootkey.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(raw, []byte(`"time": 3`), []byte(`"time": 1`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.decrypts(t); err == nil {
		t.Error("a lowered cost is accepted")
	}
	if err := os.WriteFile(file, bytes.Replace(raw, []byte(`"memoryKiB": 64`), []byte(`"memoryKiB": 4294967295`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.decrypts(t); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a cost of 4 TiB: %v", err)
	}
}

func TestDirectoryIsPrivateAndLocked(t *testing.T) {
	s := newState(t)
	if err := os.Chmod(s.opts.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.decrypts(t); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a readable directory: %v", err)
	}
	if err := errors.Join(os.Chmod(s.opts.Dir, 0o700), os.Chown(s.opts.Dir, 12345, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.decrypts(t); err == nil || !strings.Contains(err.Error(), "uid 12345") {
		t.Errorf("another owner: %v", err)
	}
	if err := os.Chown(s.opts.Dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	svc, err := keysvc.Open(s.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer svc.Close()
	if _, err := keysvc.Open(s.opts); !errors.Is(err, keysvc.ErrInUse) {
		t.Errorf("a second service: %v", err)
	}
}

func TestClosedService(t *testing.T) {
	s := newState(t)
	svc, err := keysvc.Open(s.opts)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := svc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err = keysvc.Call(t.Context(), svc, svc.LocalCaller(0), kmsapi.OpGenerateRandom, (*keysvc.Service).GenerateRandom, &kmsapi.GenerateRandomInput{NumberOfBytes: new(int)})
	var e *kmsapi.Error
	if !errors.As(err, &e) {
		t.Errorf("a closed service: %v", err)
	}
	_, err = keysvc.Call(t.Context(), svc, svc.LocalCaller(0), kmsapi.OpListKeys, (*keysvc.Service).ListKeys, &kmsapi.ListKeysInput{})
	if !errors.As(err, &e) || e.Code != kmsapi.CodeKeyUnavailable || e.HTTPStatus() != 500 {
		t.Errorf("a closed service: %v", err)
	}
}
