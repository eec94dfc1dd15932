package policy_test

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// TestCoverageIsOfTheCaller: a document that has decided on others decides on each
// caller as a new one does, whatever they differ in, and when many ask at once.
func TestCoverageIsOfTheCaller(t *testing.T) {
	const text = `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/a"}, "Action": "kms:Encrypt", "Resource": "*"},
		{"Effect": "Allow", "Principal": {"AWS": "AIDAIOSFODNN7EXAMPLE"}, "Action": "kms:Decrypt", "Resource": "*"},
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/r"}, "Action": "kms:Encrypt", "Resource": "*"},
		{"Effect": "Allow", "Principal": {"AWS": "AROAIOSFODNN7EXAMPLE"}, "Action": "kms:Decrypt", "Resource": "*"},
		{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:DescribeKey", "Resource": "*"},
		{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "kms:*", "Resource": "*"},
		{"Effect": "Deny", "NotPrincipal": {"AWS": ["arn:aws:iam::111122223333:user/a", "111122223333"], "Service": "ec2.amazonaws.com"}, "Action": "kms:List*", "Resource": "*"}
	]}`
	parse := func(kind policy.Kind, text string) *policy.Document {
		d, err := policy.Parse(kind, []byte(text))
		if err != nil {
			t.Error(err)
		}
		return d
	}
	all := parse(policy.IdentityPolicy, `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`)
	base := policy.Principal{Type: policy.User, ARN: "arn:aws:iam::111122223333:user/a", Account: "111122223333", UniqueID: "AIDAIOSFODNN7EXAMPLE"}
	callers := []policy.Principal{base}
	for _, change := range []func(*policy.Principal){
		func(p *policy.Principal) { p.Type = policy.Account },
		func(p *policy.Principal) { p.Type, p.ARN = policy.Service, "ec2.amazonaws.com" },
		func(p *policy.Principal) { p.ARN = "ec2.amazonaws.com" },
		func(p *policy.Principal) { p.ARN = "arn:aws:iam::111122223333:user/b" },
		func(p *policy.Principal) { p.Account = "999988887777" },
		func(p *policy.Principal) { p.UniqueID = "AIDAIOSFODNN7EXAMPLF" },
		func(p *policy.Principal) { p.Type = policy.AssumedRole },
		func(p *policy.Principal) { p.Type, p.RoleARN = policy.AssumedRole, "arn:aws:iam::111122223333:role/r" },
		func(p *policy.Principal) { p.Type, p.RoleID = policy.AssumedRole, "AROAIOSFODNN7EXAMPLE" },
	} {
		p := base
		change(&p)
		callers = append(callers, p)
	}
	for i := range 40 { // more than are remembered
		p := base
		p.ARN, p.UniqueID = fmt.Sprint("arn:aws:iam::111122223333:user/u", i), fmt.Sprintf("AIDAIOSFODNN7EXAM%03d", i)
		callers = append(callers, p)
	}
	type question struct {
		request  policy.Request
		policies policy.Policies
		want     policy.Decision // of a new document
	}
	var questions []question
	kept := parse(policy.KeyPolicy, text)
	for _, caller := range callers {
		for _, action := range []string{"kms:Encrypt", "kms:Decrypt", "kms:DescribeKey", "kms:ListGrants", "KMS:ENCRYPT"} {
			for _, boundary := range []*policy.Document{nil, all} {
				q := question{
					request:  policy.Request{Principal: caller, Action: action, Resource: "*", ResourceAccount: "111122223333"},
					policies: policy.Policies{Resource: parse(policy.KeyPolicy, text), Identity: []*policy.Document{all}, Boundary: boundary},
				}
				q.want = policy.Evaluate(&q.request, &q.policies)
				q.policies.Resource = kept
				questions = append(questions, q)
			}
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, q := range slices.Concat(questions, questions) {
				got, want := policy.Evaluate(&q.request, &q.policies), q.want
				if got.Outcome != want.Outcome || got.Policy != want.Policy || !reflect.DeepEqual(got.Statement, want.Statement) {
					t.Errorf("%+v, %s: %v, not %v", q.request.Principal, q.request.Action, got, want)
				}
			}
		})
	}
	wg.Wait()
	r := policy.Request{Principal: base, Action: "kms:Encrypt", Resource: "*"}
	if policy.Evaluate(&r, &policy.Policies{Resource: new(policy.Document)}).Allowed() {
		t.Error("a document without statements allows")
	}
}

// TestCoverageIsBounded: a document forgets all that it knows when that becomes too much.
func TestCoverageIsBounded(t *testing.T) {
	d, err := policy.Parse(policy.KeyPolicy, []byte(policy.DefaultKeyPolicy(ours)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2*policy.MaxRemembered + 2 {
		r := policy.Request{Action: fmt.Sprint("kms:Action", i), Resource: "*", Principal: people["alice"], ResourceAccount: ours}
		for range 2 {
			policy.Evaluate(&r, &policy.Policies{Resource: d})
			if want := i%policy.MaxRemembered + 1; d.Remembers() != want {
				t.Fatalf("after %d actions it remembers %d, not %d", i+1, d.Remembers(), want)
			}
		}
	}
}
