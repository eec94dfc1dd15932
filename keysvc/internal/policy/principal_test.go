package policy_test

import (
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// TestEverybody: "*" alone names everybody, as it does below "AWS".
func TestEverybody(t *testing.T) {
	for text, column := range map[string]int{`"*"`: 47, `{"AWS": "*"}`: 55} {
		d, err := policy.Parse(policy.KeyPolicy, []byte(`{"Statement": {"Effect": "Deny", "Principal": `+text+`, "Action": "kms:*", "Resource": "*"}}`))
		if err != nil {
			t.Fatal(err)
		}
		want := policy.NamedPrincipal{Kind: policy.AnyPrincipal, Value: "*", Line: 1, Column: column}
		if got := d.Principals(); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestParsePrincipal(t *testing.T) {
	for text, want := range map[string]policy.NamedPrincipal{
		"arn:aws:iam::111122223333:root":              {Kind: policy.AccountPrincipal, Account: "111122223333"},
		"111122223333":                                {Kind: policy.AccountPrincipal, Account: "111122223333"},
		"arn:aws:iam::111122223333:user/a/b":          {Kind: policy.UserPrincipal, Account: "111122223333"},
		"arn:aws:iam::111122223333:role/r":            {Kind: policy.RolePrincipal, Account: "111122223333"},
		"arn:aws:sts::111122223333:assumed-role/r/s":  {Kind: policy.SessionPrincipal, Account: "111122223333"},
		"arn:aws:sts::111122223333:federated-user/fu": {Kind: policy.FederatedUserPrincipal, Account: "111122223333"},
		"AIDAEXAMPLEEXAMPLE":                          {Kind: policy.UniqueIDPrincipal},
		"ec2.amazonaws.com":                           {Kind: policy.ServicePrincipal},
	} {
		want.Value = text
		if got, ok := policy.ParsePrincipal(text); !ok || got != want {
			t.Errorf("%s: %+v %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "*", "alice", "arn:aws:iam::111122223333:group/g", "arn:aws:iam::111122223333:root/x",
		"arn:aws:iam::1:user/a", "arn:aws:iam::111122223333:user/*", "arn:aws:kms:us-east-1:111122223333:key/k", "a..b"} {
		if got, ok := policy.ParsePrincipal(text); ok {
			t.Errorf("%q is a principal: %+v", text, got)
		}
	}
}
