package identity

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const account = "111122223333"

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// nobody is that there are no implicit users.
type nobody struct{}

func (nobody) Named(string, string) *Entity { return nil }
func (nobody) WithID(string) *Entity        { return nil }

func allow(action string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"` + action + `","Resource":"*"}}`
}

func refusal(t *testing.T, err error, code string) {
	t.Helper()
	var e *kmsapi.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("the answer is %v, not %s", err, code)
	}
}

func TestIDs(t *testing.T) {
	p, err := NewPolicy(account, "/", "p", allow("kms:Decrypt"), now)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := NewEntity(User, account, "/", "u", now).WithAccessKey(now)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{
		NewEntity(User, account, "/", "u", now).ID: `^AIDA[A-Z2-7]{17}$`,
		NewEntity(Role, account, "/", "r", now).ID: `^AROA[A-Z2-7]{17}$`,
		p.ID:   `^ANPA[A-Z2-7]{17}$`,
		key.ID: `^AKIA[A-Z2-7]{16}$`,
	} {
		if !regexp.MustCompile(want).MatchString(id) {
			t.Errorf("id %s is not %s", id, want)
		}
	}
	seen := map[string]bool{}
	for range 10000 {
		seen[newID("", entityIDRandom)] = true
	}
	if len(seen) != 10000 {
		t.Error("ids come back")
	}
}

// TestQuotas fills an account up, and another one not.
func TestQuotas(t *testing.T) {
	d := NewDirectory(nobody{})
	for n := range 1500 {
		p, err := NewPolicy(account, "/", fmt.Sprint("name", n), allow("kms:Decrypt"), now)
		if err != nil {
			t.Fatal(err)
		}
		if n == 1499 {
			if err := d.RoomForPolicy(account, "x"); err != nil {
				t.Error(err)
			}
		}
		if err := d.SetPolicy(p); err != nil {
			t.Fatal(err)
		}
	}
	for kind, limit := range map[Kind]int{User: 5000, Role: 1000} {
		for n := range limit {
			if n == limit-1 {
				if err := d.Room(kind, account, "x"); err != nil {
					t.Error(err)
				}
			}
			if err := d.Set(NewEntity(kind, account, "/", fmt.Sprint("name", n), now)); err != nil {
				t.Fatal(err)
			}
		}
		refusal(t, d.Room(kind, account, "x"), kmsapi.CodeEntityLimitExceeded)
		refusal(t, d.Room(kind, account, "NAME0"), kmsapi.CodeEntityAlreadyExists)
		if err := d.Room(kind, "999988887777", "name0"); err != nil {
			t.Errorf("in another account: %v", err)
		}
	}
	refusal(t, d.RoomForPolicy(account, "x"), kmsapi.CodeEntityLimitExceeded)
	refusal(t, d.RoomForPolicy(account, "Name0"), kmsapi.CodeEntityAlreadyExists)
	if err := d.RoomForPolicy("999988887777", "name0"); err != nil {
		t.Errorf("in another account: %v", err)
	}
}

// TestChangesAreCopies: what is in a directory is never modified.
func TestChangesAreCopies(t *testing.T) {
	e := NewEntity(User, account, "/", "u", now)
	must := func(c *Entity, err error) *Entity {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	e = must(e.WithTags([]Tag{{"a", "1"}, {"b", "2"}}))
	e = must(e.WithInline("m", allow("kms:Decrypt")))
	e = must(e.WithAttached("arn:m"))
	e = must(e.WithBoundary("arn:m"))
	e, key, err := e.WithAccessKey(now)
	if err != nil {
		t.Fatal(err)
	}
	before := *e.clone()
	for what, change := range map[string]func() (*Entity, error){
		"tag":            func() (*Entity, error) { return e.WithTags([]Tag{{"A", "3"}}) },
		"new tag":        func() (*Entity, error) { return e.WithTags([]Tag{{"c", "3"}}) },
		"untag":          func() (*Entity, error) { return e.WithoutTags([]string{"a"}) },
		"inline":         func() (*Entity, error) { return e.WithInline("m", allow("kms:Encrypt")) },
		"first inline":   func() (*Entity, error) { return e.WithInline("a", allow("kms:Encrypt")) },
		"no inline":      func() (*Entity, error) { return e.WithoutInline("m") },
		"attached":       func() (*Entity, error) { return e.WithAttached("arn:a") },
		"detached":       func() (*Entity, error) { return e.WithoutAttached("arn:m") },
		"no boundary":    func() (*Entity, error) { return e.WithBoundary("") },
		"key off":        func() (*Entity, error) { return e.WithAccessKeyState(key.ID, false) },
		"no key":         func() (*Entity, error) { return e.WithoutAccessKey(key.ID) },
		"one more key":   func() (*Entity, error) { c, _, err := e.WithAccessKey(now); return c, err },
		"trusts another": func() (*Entity, error) { return e.WithTrust(Bound{Text: "t"}) },
	} {
		c := must(change())
		if reflect.DeepEqual(*c, before) {
			t.Errorf("%s changes nothing", what)
		}
		if !reflect.DeepEqual(*e, before) {
			t.Fatalf("%s changes the entity itself", what)
		}
	}
	if c := must(e.WithAttached("arn:m")); c != e {
		t.Error("attaching a policy again makes a copy")
	}
}

func TestDirectoryRefusesWhatDoesNotFit(t *testing.T) {
	d := NewDirectory(nobody{})
	alice := NewEntity(User, account, "/", "alice", now)
	if err := d.Set(alice); err != nil {
		t.Fatal(err)
	}
	for what, e := range map[string]*Entity{
		"another of the name":    {Kind: User, ID: "AIDAOTHER", Account: account, Path: "/x/", Name: "Alice"},
		"an unknown policy":      {Kind: User, ID: alice.ID, Account: account, Path: "/", Name: "alice", Attached: []string{"arn:none"}},
		"an unknown boundary":    {Kind: User, ID: alice.ID, Account: account, Path: "/", Name: "alice", Boundary: "arn:none"},
		"an unreadable policy":   {Kind: User, ID: alice.ID, Account: account, Path: "/", Name: "alice", Inline: []Inline{{"p", "{}"}}},
		"a policy of principals": {Kind: User, ID: alice.ID, Account: account, Path: "/", Name: "alice", Inline: []Inline{{"p", policy.DefaultKeyPolicy(account)}}},
	} {
		if err := d.Set(e); err == nil {
			t.Errorf("%s is taken", what)
		}
		if d.Find(User, account, "alice") != alice || d.WithID("AIDAOTHER") != nil {
			t.Errorf("%s leaves a trace", what)
		}
	}
	// A role may have a user's name, and another account's user.
	for _, e := range []*Entity{NewEntity(Role, account, "/", "alice", now), NewEntity(User, "999988887777", "/", "alice", now)} {
		if err := d.Set(e); err != nil {
			t.Error(err)
		}
	}
	moved := *alice
	moved.Name, moved.AccessKeys = "bob", []AccessKey{{ID: "AKIAX"}}
	if err := d.Set(&moved); err != nil {
		t.Fatal(err)
	}
	if d.Find(User, account, "alice") != nil || d.Find(User, account, "bob") != &moved {
		t.Error("the old name is still known")
	}
	d.Delete(alice.ID)
	if _, _, ok := d.AccessKey("AKIAX"); ok || d.WithID(alice.ID) != nil || d.Find(User, account, "bob") != nil {
		t.Error("something is left of a deleted user")
	}
	if eff := d.Effective(alice.ID); len(eff.Policies) != 0 || eff.Boundary != nil || eff.Tags != nil {
		t.Errorf("a deleted user has %+v", eff)
	}
}

// TestBoundPolicies: who gets a name later is not who had it.
func TestBoundPolicies(t *testing.T) {
	d := NewDirectory(nobody{})
	alice := NewEntity(User, account, "/", "alice", now)
	if err := d.Set(alice); err != nil {
		t.Fatal(err)
	}
	doc, err := policy.Parse(policy.TrustPolicy, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":["`+alice.ARN()+`","999988887777"]},"Action":"sts:AssumeRole"}}`))
	if err != nil {
		t.Fatal(err)
	}
	_, bound, err := Bind(doc, d.Resolve)
	if err != nil {
		t.Fatal(err)
	}
	d.Delete(alice.ID)
	again := NewEntity(User, account, "/", "alice", now)
	if err := d.Set(again); err != nil {
		t.Fatal(err)
	}
	loaded, err := bound.Load(policy.TrustPolicy)
	if err != nil {
		t.Fatal(err)
	}
	assume := func(who *Entity) bool {
		r := &policy.Request{Principal: who.Principal(), Action: "sts:AssumeRole", Resource: ARN(account, "role/r"), ResourceAccount: account}
		return policy.Evaluate(r, &policy.Policies{Resource: loaded}).Allowed()
	}
	if !assume(alice) || assume(again) {
		t.Errorf("the user of then: %v, the one of now: %v", assume(alice), assume(again))
	}
	if _, other, err := Bind(doc, d.Resolve); err != nil || maps.Equal(other.IDs, bound.IDs) {
		t.Errorf("bound again: %v, %v", other, err)
	}
	d.Delete(again.ID)
	if _, _, err := Bind(doc, d.Resolve); err == nil {
		t.Error("a policy that names nobody is bound")
	}
}
