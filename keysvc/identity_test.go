package keysvc

import (
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
)

const allowDecrypt = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}`

// openService opens the service on dir, until the end of the test or until close.
func openService(t testing.TB, dir string) *Service {
	t.Helper()
	s, err := Open(Options{
		OwnerUID: new(uint32), // whoever runs the test
		Dir:      filepath.Join(dir, "keysvc"), DefaultRootKeyFile: filepath.Join(dir, "root.key"),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// addUser stores a user with one active access key and one policy.
func addUser(t *testing.T, s *Service, account, name, secretText string) *identity.Entity {
	t.Helper()
	u := identity.NewEntity(identity.User, account, "/", name, time.Now().UTC())
	u.AccessKeys = []identity.AccessKey{{ID: "AKIAIOSFODNN7EXAMPL2", Active: true, CreatedAt: u.CreatedAt}}
	u.Inline = []identity.Inline{{Name: "p", Text: allowDecrypt}}
	err := s.putEntity(u, func(tx store.SealedTx) error {
		return tx.Set(secretRecordName(u.AccessKeys[0].ID), []byte(secretText))
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestIdentitiesSurviveRestart(t *testing.T) {
	const text = "0123456789012345678901234567890123456789"
	dir := t.TempDir()
	s := openService(t, dir)
	u := addUser(t, s, "111122223333", "alice", text)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openService(t, dir)
	id := u.AccessKeys[0].ID
	p, err := s.principalByAccessKey(id)
	if err != nil {
		t.Fatal(err)
	}
	if p.ARN != "arn:aws:iam::111122223333:user/alice" || p.Account != "111122223333" || p.UniqueID != u.ID || p.Username != "alice" || p.Type != policy.User {
		t.Errorf("principal %+v", p)
	}
	var got string
	found, err := s.useSecret(id, func(b []byte) { got = string(b) })
	if !found || err != nil || got != text {
		t.Errorf("secret %q, %v, %v", got, found, err)
	}
	own := s.effective(&p)
	if len(own.Policies) != 1 || own.Policies[0].Text() != allowDecrypt || own.Boundary != nil {
		t.Errorf("has %+v", own)
	}
}

func TestUnknownAndInactiveAccessKeys(t *testing.T) {
	s := openService(t, t.TempDir())
	u := addUser(t, s, Account, "alice", "0123456789012345678901234567890123456789")
	id := u.AccessKeys[0].ID
	off := *u
	off.AccessKeys = []identity.AccessKey{{ID: id}}
	if err := s.putEntity(&off, nil); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{id, "AKIAIOSFODNN7EXAMPLE", ""} {
		if _, err := s.principalByAccessKey(id); !errors.Is(err, errNoAccessKey) {
			t.Errorf("principal of %q: %v", id, err)
		}
		found, err := s.useSecret(id, func([]byte) { t.Errorf("the secret of %q is shown", id) })
		if found || err != nil {
			t.Errorf("secret of %q: %v, %v", id, found, err)
		}
	}
}

func TestPoliciesNameOnlyWhoExists(t *testing.T) {
	s := openService(t, t.TempDir())
	u := addUser(t, s, Account, "alice", "x")
	role := identity.NewEntity(identity.Role, Account, "/team/", "reader", time.Now())
	if err := s.putEntity(role, nil); err != nil {
		t.Fatal(err)
	}
	const here = "arn:aws:iam::" + Account + ":"
	for name, want := range map[string]string{ // "-": there is none
		here + "user/alice":                                    u.ID,
		here + "user/Alice":                                    "-",
		here + "user/team/alice":                               "-",
		here + "user/bob":                                      "-",
		here + "user/local/1000":                               localUserID(1000),
		here + "user/local/01000":                              "-",
		here + "user/1000":                                     "-",
		here + "user/local/0":                                  "-", // is the account root
		"arn:aws:iam::111122223333:user/local/1000":            "-",
		"arn:aws:iam::111122223333:user/alice":                 "-",
		here + "role/team/reader":                              role.ID,
		here + "role/reader":                                   "-",
		"arn:aws:sts::" + Account + ":assumed-role/reader/one": role.ID + ":one",
		"arn:aws:sts::" + Account + ":assumed-role/nobody/one": "-",
		"arn:aws:iam::999988887777:root":                       "",
		"999988887777":                                         "",
		u.ID:                                                   u.ID,
		localUserID(1000):                                      localUserID(1000),
		localUserID(0):                                         "-",
		"AIDAIOSFODNN7EXAMPLE2":                                "-",
		"arn:aws:sts::" + Account + ":federated-user/somebody": "",
	} {
		doc, err := policy.Parse(policy.KeyPolicy, []byte(`{"Statement":{"Effect":"Allow","Principal":{"AWS":"`+name+`"},"Action":"kms:*","Resource":"*"}}`))
		if err != nil {
			t.Fatal(err)
		}
		got := "-"
		if _, b, err := identity.Bind(doc, s.bindIDs()); err == nil {
			got = b.IDs[name]
		}
		if got != want {
			t.Errorf("%s is bound to %q, want %q", name, got, want)
		}
	}
}
