package grant_test

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
)

func operations(t testing.TB, names ...string) grant.Operations {
	t.Helper()
	o, unknown := grant.OperationsOf(names...)
	if unknown != "" {
		t.Fatalf("no operation %q", unknown)
	}
	return o
}

func TestOperations(t *testing.T) {
	if n := len(grant.OperationNames()); n != 17 {
		t.Errorf("%d operations", n)
	}
	all := operations(t, grant.OperationNames()...)
	if !slices.Equal(all.Names(), grant.OperationNames()) {
		t.Errorf("the names come back as %v", all.Names())
	}
	for _, name := range grant.OperationNames() {
		one := operations(t, name)
		if !one.Has(name) || !one.Within(all) || all.Within(one) || !slices.Equal(one.Names(), []string{name}) {
			t.Errorf("%s: %v", name, one)
		}
	}
	if _, unknown := grant.OperationsOf("Decrypt", "ListGrants", "decrypt"); unknown != "ListGrants" {
		t.Errorf("unknown is %q", unknown)
	}
	if all.Has("ListGrants") || all.Has("") {
		t.Error("the set has an operation that does not exist")
	}
	notSymmetric := []string{"Sign", "Verify", "GetPublicKey", "GenerateMac", "VerifyMac", "DeriveSharedSecret"}
	for _, name := range grant.OperationNames() {
		if grant.Symmetric().Has(name) == slices.Contains(notSymmetric, name) {
			t.Errorf("whether a symmetric key can %s", name)
		}
	}
}

func TestGrantJSON(t *testing.T) {
	for _, c := range []grant.Constraint{{}, subset(pairs{"a": "1"}), equals(pairs{"a": "1"}), equals(pairs{})} {
		g := grant.New(grant.Grant{
			Name: "n", Grantee: grant.Principal{ARN: "arn", ID: "AIDA"}, Retiring: grant.Principal{ARN: "r", ID: "AROA"},
			Operations: operations(t, "Decrypt", "DescribeKey"), Constraint: c, Issuer: "000000000000",
			CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
		})
		b, err := json.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		back := new(grant.Grant)
		if err := json.Unmarshal(b, back); err != nil {
			t.Fatal(err)
		}
		// Constraints compare by what they let through: no pairs are no map.
		if back.Constraint.Kind != c.Kind || back.Constraint.Matches(nil) != c.Matches(nil) {
			t.Errorf("constraint %v comes back as %v", c, back.Constraint)
		}
		back.Constraint = g.Constraint
		if !reflect.DeepEqual(g, back) {
			t.Errorf("%+v comes back as %+v", g, back)
		}
	}
	if err := json.Unmarshal([]byte(`{"Operations":["Decrypt","Fly"]}`), new(grant.Grant)); err == nil {
		t.Error("an operation of a later version is read as none")
	}
	if err := json.Unmarshal([]byte(`{"Operations":{"Decrypt":true}}`), new(grant.Grant)); err == nil {
		t.Error("operations in another form are read as none")
	}
}

func TestCovers(t *testing.T) {
	g := &grant.Grant{Operations: operations(t, "Decrypt", "DescribeKey"), Constraint: subset(pairs{"a": "1"})}
	for _, c := range []struct {
		operation string
		context   pairs
		want      bool
	}{
		{"Decrypt", pairs{"a": "1"}, true},
		{"Decrypt", pairs{"a": "2"}, false},
		{"Decrypt", nil, false},
		{"Encrypt", pairs{"a": "1"}, false},
		{"DescribeKey", nil, true}, // the constraint does not apply
		{"ListGrants", pairs{"a": "1"}, false},
		{"", nil, false},
	} {
		if g.Covers(c.operation, c.context) != c.want {
			t.Errorf("%s with %v: not %v", c.operation, c.context, c.want)
		}
	}
}

func TestCoversChild(t *testing.T) {
	parent := &grant.Grant{Operations: operations(t, "Decrypt", "Encrypt", "CreateGrant"), Constraint: subset(pairs{"a": "1"})}
	child := func(c grant.Constraint, names ...string) *grant.Grant {
		return &grant.Grant{Operations: operations(t, names...), Constraint: c}
	}
	for _, c := range []struct {
		name  string
		child *grant.Grant
		want  bool
	}{
		{"fewer operations", child(parent.Constraint, "Decrypt"), true},
		{"the same operations", child(parent.Constraint, "Decrypt", "Encrypt", "CreateGrant"), true},
		{"one more operation", child(parent.Constraint, "Decrypt", "DescribeKey"), false},
		{"RetireGrant, which the parent lacks", child(parent.Constraint, "Decrypt", "RetireGrant"), false},
		{"no constraint", child(grant.Constraint{}, "Decrypt"), false},
		{"a stricter constraint", child(equals(pairs{"a": "1"}), "Decrypt"), true},
	} {
		if parent.CoversChild(c.child) != c.want {
			t.Errorf("%s: not %v", c.name, c.want)
		}
	}
	if (&grant.Grant{Operations: operations(t, "Decrypt")}).CoversChild(child(grant.Constraint{}, "Decrypt")) {
		t.Error("a grant without CreateGrant has children")
	}
}

func TestReach(t *testing.T) {
	session := grant.Caller{Self: "AROA1:s", Role: "AROA1", Account: "111122223333"}
	for id, want := range map[string]grant.Reach{
		"AROA1:s": grant.Direct, "AROA1": grant.ByRole, "111122223333": grant.ByAccount,
		"AROA1:t": grant.None, "AROA2": grant.None, "444455556666": grant.None, "": grant.None,
	} {
		if got := (grant.Principal{ID: id}).Reach(session); got != want {
			t.Errorf("%q reaches %v, not %v", id, got, want)
		}
	}
	if (grant.Principal{}).Reach(grant.Caller{}) != grant.None {
		t.Error("nobody reaches nobody")
	}
}

func TestTokens(t *testing.T) {
	key := [16]byte{7, 8, 9}
	g, other := grant.New(grant.Grant{}), grant.New(grant.Grant{})
	if !grant.IsID(g.ID) || g.ID == other.ID || len(g.ID) != 64 {
		t.Errorf("ids %s and %s", g.ID, other.ID)
	}
	text := g.NewToken(key)
	if text == g.NewToken(key) {
		t.Error("two tokens are the same")
	}
	tok, ok := grant.ParseToken(text)
	if !ok || tok.KeyID != key || tok.GrantID != g.ID || !g.Verify(tok) {
		t.Errorf("token %s: %v %v", text, tok, ok)
	}
	if other.Verify(tok) {
		t.Error("a token is one of another grant")
	}
	forger := *other
	forger.ID = g.ID
	if made, ok := grant.ParseToken(forger.NewToken(key)); !ok || g.Verify(made) {
		t.Error("a token was made up")
	}
	for i := range len(text) {
		b := []byte(text)
		b[i] ^= 1
		if tok, ok := grant.ParseToken(string(b)); ok && g.Verify(tok) {
			t.Errorf("a token with another character %d is good", i)
		}
	}
	later := append([]byte{2}, make([]byte, 96)...)
	for _, bad := range []string{base64.RawURLEncoding.EncodeToString(later), "", "x", text[:len(text)-1], text + "A", text + "=", text + "\n", " " + text} {
		if _, ok := grant.ParseToken(bad); ok {
			t.Errorf("ParseToken accepts %q", bad)
		}
	}
}

// TestNoTokenOfAnotherID: it would be taken apart at other places than it was put together.
func TestNoTokenOfAnotherID(t *testing.T) {
	id := grant.New(grant.Grant{}).ID
	for _, bad := range []string{"", id[:62], id + "00", id + "0", id[:63], id[:63] + "g", id + "no"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("there is a token of a grant %q", bad)
				}
			}()
			(&grant.Grant{ID: bad}).NewToken([16]byte{})
		}()
	}
}

func TestIsID(t *testing.T) {
	id := grant.New(grant.Grant{}).ID
	for _, bad := range []string{"", id[:63], id + "0", id[:62] + "AB", id[:63] + "g"} {
		if grant.IsID(bad) {
			t.Errorf("%q is an id", bad)
		}
	}
}
