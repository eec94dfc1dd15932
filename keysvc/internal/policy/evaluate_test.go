package policy_test

import (
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

const (
	noIdentity = " because no identity-based policy allows the kms:Decrypt action"
	noResource = " because no resource-based policy allows the kms:Decrypt action"
	noBoundary = " because no permissions boundary allows the kms:Decrypt action"
	noSession  = " because no session policy allows the kms:Decrypt action"

	allowDecrypt = `{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}`
	denyDecrypt  = `{"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}`
	allowNothing = `{"Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*"}`
)

// to is a key policy's statement that allows kms:Decrypt.
func to(principal string) string {
	return `{"Effect": "Allow", "Principal": {"AWS": "` + principal + `"}, "Action": "kms:Decrypt", "Resource": "*"}`
}

func not(principal string) string {
	return `{"Effect": "Deny", "Principal": {"AWS": "` + principal + `"}, "Action": "kms:Decrypt", "Resource": "*"}`
}

func TestDefaultKeyPolicy(t *testing.T) {
	w := given(t, policies{key: policy.DefaultKeyPolicy(ours)})
	w.allow("root", "kms:Decrypt")
	w.allow("root", "kms:PutKeyPolicy")
	w.because(noIdentity, "alice", "kms:Decrypt")
	w.because(noIdentity, "carol", "kms:Decrypt")
	w.because(noResource, "bob", "kms:Decrypt")
	w.because(noResource, "theirs", "kms:Decrypt")
	w.because(noResource, "ec2", "kms:Decrypt")
	w.because(noResource, "stranger", "kms:Decrypt")

	w = given(t, policies{key: policy.DefaultKeyPolicy(ours), identity: []string{allowDecrypt}})
	w.allow("alice", "kms:Decrypt")
	w.allow("carol", "kms:Decrypt")
	w.deny("alice", "kms:Encrypt")
	w.because(noResource, "bob", "kms:Decrypt")
	w.because(noResource, "ec2", "kms:Decrypt")
}

// TestNoResourcePolicy is about actions on no key, on aliases, and on keys of others.
func TestNoResourcePolicy(t *testing.T) {
	w := given(t, policies{identity: []string{allowNothing, allowDecrypt}})
	for _, account := range []string{"", ours} {
		w.allow("alice", "kms:ListKeys", with{"resource": "*", "account": account})
		w.allow("alice", "kms:Decrypt", with{"account": account})
		w.allow("root", "kms:CreateKey", with{"resource": "*", "account": account})
		w.deny("alice", "kms:CreateKey", with{"resource": "*", "account": account})
	}
	w.because(noResource, "alice", "kms:Decrypt", with{"account": theirs})
	w.because(noResource, "root", "kms:Decrypt", with{"account": theirs})
	w.because(noResource, "bob", "kms:Decrypt")
	w.allow("bob", "kms:ListKeys", with{"resource": "*", "account": ""})

	w = given(t, policies{})
	w.because(noIdentity, "alice", "kms:Decrypt", with{"account": ""})
	w.because(noIdentity, "stranger", "kms:Decrypt", with{"account": ""})
	w.because(noResource, "stranger", "kms:Decrypt")
}

// TestKeyPolicyReach follows the table of the IAM User Guide on resource-based policies and
// implicit denies of other policies: whom a statement names decides what limits it.
func TestKeyPolicyReach(t *testing.T) {
	type row struct {
		principal, who                          string
		alone, bounded, scoped, boundAndAllowed bool
	}
	for _, r := range []row{
		{principal: aliceARN, who: "alice", alone: true, bounded: true, scoped: true, boundAndAllowed: true},
		{principal: sessionARN, who: "carol", alone: true, bounded: true, scoped: true, boundAndAllowed: true},
		{principal: "arn:aws:sts::111122223333:federated-user/frank", who: "frank", alone: true, bounded: true, scoped: true, boundAndAllowed: true},
		{principal: roleARN, who: "carol", alone: true, boundAndAllowed: true},
		{principal: "AROAENGINEERING12345", who: "carol", alone: true, boundAndAllowed: true},
		{principal: "AIDAALICEALICEALICE1", who: "alice", alone: true, bounded: true, scoped: true, boundAndAllowed: true},
		{principal: "*", who: "carol", alone: true, bounded: true, scoped: true, boundAndAllowed: true},
		{principal: "*", who: "alice", alone: true, bounded: true, scoped: true, boundAndAllowed: true},
		{principal: ours, who: "alice"},
		{principal: ours, who: "carol"},
		{principal: ours, who: "root", alone: true, bounded: true, scoped: true, boundAndAllowed: true},
		{principal: aliceARN, who: "mallory"},
		{principal: sessionARN, who: "dave"},
		{principal: roleARN, who: "dave", alone: true, boundAndAllowed: true},
		{principal: theirs, who: "alice"},
	} {
		check := func(p policies, want bool) {
			t.Helper()
			p.key = to(r.principal)
			w := given(t, p)
			if want {
				w.allow(r.who, "kms:Decrypt")
			} else {
				w.deny(r.who, "kms:Decrypt")
			}
		}
		check(policies{}, r.alone)
		check(policies{boundary: allowNothing}, r.bounded)
		check(policies{session: []string{allowNothing}}, r.scoped)
		check(policies{boundary: allowDecrypt, session: []string{allowNothing, allowDecrypt}}, r.boundAndAllowed)
	}
}

// TestOwnPolicies is about what the account principal delegates.
func TestOwnPolicies(t *testing.T) {
	for _, who := range []string{"alice", "carol", "frank"} {
		w := given(t, policies{key: to(ours), identity: []string{allowNothing, allowDecrypt}})
		w.allow(who, "kms:Decrypt")
		w = given(t, policies{key: to(ours), identity: []string{allowDecrypt}, boundary: allowDecrypt, session: []string{allowNothing, allowDecrypt}})
		w.allow(who, "kms:Decrypt")
		w = given(t, policies{key: to(ours), identity: []string{allowDecrypt}, boundary: allowNothing, session: []string{allowDecrypt}})
		w.because(noBoundary, who, "kms:Decrypt")
		w = given(t, policies{key: to(ours), identity: []string{allowDecrypt}, session: []string{allowNothing, allowNothing}})
		w.because(noSession, who, "kms:Decrypt")
		w = given(t, policies{key: to(ours), boundary: allowDecrypt, session: []string{allowDecrypt}})
		w.because(noIdentity, who, "kms:Decrypt")
		w = given(t, policies{key: to(ours), identity: []string{allowNothing}})
		w.because(noIdentity, who, "kms:Decrypt")
		w = given(t, policies{key: to(theirs), identity: []string{allowDecrypt}})
		w.because(noResource, who, "kms:Decrypt")
	}
	// What limits a role's grant in the key policy limits the account's too, and is named.
	w := given(t, policies{key: to(roleARN) + "," + to(ours), identity: []string{allowDecrypt}, boundary: allowNothing})
	w.because(noBoundary, "carol", "kms:Decrypt")
	w = given(t, policies{key: to(roleARN) + "," + to(ours), session: []string{allowNothing}})
	w.because(noSession, "carol", "kms:Decrypt")
	w = given(t, policies{key: to(roleARN) + "," + to(ours), session: []string{allowDecrypt}})
	w.allow("carol", "kms:Decrypt")
	// The conditions of the delegating statement count.
	w = given(t, policies{identity: []string{allowDecrypt},
		key: `{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*", "Condition": {"StringEquals": {"kms:ViaService": "ec2.us-east-1.amazonaws.com"}}}`})
	w.allow("alice", "kms:Decrypt", with{"kms:ViaService": "ec2.us-east-1.amazonaws.com"})
	w.deny("alice", "kms:Decrypt")
	// The account root is limited by what limits everybody.
	w = given(t, policies{key: to(theirs), boundary: allowNothing})
	w.because(noBoundary, "theirs", "kms:Decrypt")
	w = given(t, policies{session: []string{allowNothing}})
	w.because(noSession, "root", "kms:Decrypt")
}

func TestCrossAccount(t *testing.T) {
	for _, principal := range []string{bobARN, theirs, "arn:aws:iam::444455556666:root", "*", "AIDABOBBOBBOBBOBBOB1"} {
		w := given(t, policies{key: to(principal)})
		w.because(noIdentity, "bob", "kms:Decrypt")
		w = given(t, policies{key: to(principal), identity: []string{allowDecrypt}})
		w.allow("bob", "kms:Decrypt")
		w = given(t, policies{key: to(principal), identity: []string{allowDecrypt}, boundary: allowNothing})
		w.because(noBoundary, "bob", "kms:Decrypt")
		w = given(t, policies{key: to(principal), identity: []string{allowDecrypt}, session: []string{allowNothing}})
		w.because(noSession, "bob", "kms:Decrypt")
	}
	w := given(t, policies{key: to(theirs)})
	w.allow("theirs", "kms:Decrypt")
	w = given(t, policies{key: to(bobARN), identity: []string{allowDecrypt}})
	w.because(noResource, "theirs", "kms:Decrypt")
	w.because(noResource, "alice", "kms:Decrypt")
	w = given(t, policies{key: to(ours), identity: []string{allowDecrypt}})
	w.because(noResource, "bob", "kms:Decrypt")
	// A role or its session from another account needs its own policies all the same.
	for _, principal := range []string{roleARN, sessionARN} {
		w = given(t, policies{key: to(principal)})
		w.because(noIdentity, "carol", "kms:Decrypt", with{"account": theirs})
		w = given(t, policies{key: to(principal), identity: []string{allowDecrypt}})
		w.allow("carol", "kms:Decrypt", with{"account": theirs})
	}
	// A resource of unknown owner is somebody else's.
	w = given(t, policies{key: to(aliceARN)})
	w.because(noIdentity, "alice", "kms:Decrypt", with{"account": ""})
	// Nobody in particular has no policies of his own.
	w = given(t, policies{key: to("*")})
	w.because(noIdentity, "stranger", "kms:Decrypt")
	w.because(noIdentity, "stranger", "kms:Decrypt", with{"account": ""})
}

func TestService(t *testing.T) {
	statement := `{"Effect": "Allow", "Principal": {"Service": ["rds.amazonaws.com", "ec2.amazonaws.com"]}, "Action": "kms:Decrypt", "Resource": "*"}`
	w := given(t, policies{key: statement})
	w.allow("ec2", "kms:Decrypt")
	w.deny("alice", "kms:Decrypt")
	w = given(t, policies{key: `{"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "kms:Decrypt", "Resource": "*"}`})
	w.because(noResource, "ec2", "kms:Decrypt")
	w = given(t, policies{key: to("*")})
	w.allow("ec2", "kms:Decrypt")
}

// TestServiceName: nobody becomes a service by being called like one.
func TestServiceName(t *testing.T) {
	w := given(t, policies{key: `{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "kms:Decrypt", "Resource": "*"}`})
	r := &policy.Request{Principal: policy.Principal{Type: policy.User, ARN: "ec2.amazonaws.com", Account: ours}, Action: "kms:Decrypt", Resource: keyARN, ResourceAccount: ours}
	if policy.Evaluate(r, w.p).Allowed() {
		t.Error("a user is taken for a service")
	}
}

func TestExplicitDeny(t *testing.T) {
	for _, who := range []string{"root", "alice", "carol", "bob", "ec2"} {
		w := given(t, policies{key: to("*") + "," + not("*"), identity: []string{allowDecrypt}, grant: policy.GrantToPrincipal})
		w.because(" with an explicit deny in a resource-based policy", who, "kms:Decrypt")
		w = given(t, policies{key: to("*"), identity: []string{allowDecrypt, denyDecrypt}, grant: policy.GrantToPrincipal})
		w.because(" with an explicit deny in an identity-based policy", who, "kms:Decrypt")
		w = given(t, policies{key: to("*"), identity: []string{allowDecrypt}, boundary: allowDecrypt + "," + denyDecrypt, grant: policy.GrantToPrincipal})
		w.because(" with an explicit deny in a permissions boundary", who, "kms:Decrypt")
		w = given(t, policies{key: to("*"), identity: []string{allowDecrypt}, session: []string{allowDecrypt, denyDecrypt}, grant: policy.GrantToPrincipal})
		w.because(" with an explicit deny in a session policy", who, "kms:Decrypt")
	}
	// A Deny covers whom its principal covers: the account all that are in it.
	for _, c := range []struct {
		principal string
		forbidden []string
	}{
		{ours, []string{"root", "alice", "mallory", "carol", "dave", "frank"}},
		{"arn:aws:iam::444455556666:root", []string{"bob", "theirs"}},
		{roleARN, []string{"carol", "dave"}},
		{sessionARN, []string{"carol"}},
		{aliceARN, []string{"alice"}},
		{"AIDABOBBOBBOBBOBBOB1", []string{"bob"}},
		{"*", names},
	} {
		w := given(t, policies{key: to("*") + "," + not(c.principal), identity: []string{allowDecrypt}})
		for _, who := range names {
			forbidden := false
			for _, f := range c.forbidden {
				forbidden = forbidden || f == who
			}
			if forbidden {
				w.forbid(who, "kms:Decrypt")
			} else {
				w.allow(who, "kms:Decrypt")
			}
		}
	}
}

// TestNotPrincipal is the two examples of the IAM User Guide, and its warnings: an
// exception is effective only with the account, and for a session with the role.
func TestNotPrincipal(t *testing.T) {
	except := func(principals string) policies {
		return policies{key: to("*") + `, {"Effect": "Deny", "NotPrincipal": {"AWS": [` + principals + `]}, "Action": "kms:*", "Resource": "*"}`, identity: []string{allowDecrypt}}
	}
	w := given(t, except(`"arn:aws:iam::111122223333:user/local/alice", "arn:aws:iam::111122223333:root"`))
	w.allow("alice", "kms:Decrypt")
	w.allow("root", "kms:Decrypt")
	for _, who := range []string{"mallory", "carol", "dave", "frank", "bob", "theirs", "ec2", "stranger"} {
		w.forbid(who, "kms:Decrypt")
	}
	given(t, except(`"arn:aws:iam::111122223333:user/local/alice"`)).forbid("alice", "kms:Decrypt")
	given(t, except(`"111122223333"`)).forbid("alice", "kms:Decrypt")

	w = given(t, except(`"`+sessionARN+`", "`+roleARN+`", "111122223333"`))
	w.allow("carol", "kms:Decrypt")
	w.forbid("dave", "kms:Decrypt")
	given(t, except(`"`+sessionARN+`", "111122223333"`)).forbid("carol", "kms:Decrypt")
	given(t, except(`"`+sessionARN+`", "`+roleARN+`"`)).forbid("carol", "kms:Decrypt")
	given(t, except(`"`+roleARN+`", "111122223333"`)).forbid("carol", "kms:Decrypt")

	w = given(t, except(`"arn:aws:sts::111122223333:federated-user/frank", "111122223333"`))
	w.allow("frank", "kms:Decrypt")
	given(t, except(`"arn:aws:sts::111122223333:federated-user/frank"`)).forbid("frank", "kms:Decrypt")

	w = given(t, except(`"*"`))
	for _, who := range []string{"alice", "carol", "bob", "ec2"} {
		w.allow(who, "kms:Decrypt")
	}
	w = given(t, policies{key: to("*") + `, {"Effect": "Deny", "NotPrincipal": "*", "Action": "kms:*", "Resource": "*"}`, identity: []string{allowDecrypt}})
	for _, who := range []string{"alice", "carol", "bob", "ec2"} {
		w.allow(who, "kms:Decrypt")
	}
	w = given(t, policies{key: to("*") + `, {"Effect": "Deny", "NotPrincipal": {"Service": "ec2.amazonaws.com"}, "Action": "kms:*", "Resource": "*"}`})
	w.allow("ec2", "kms:Decrypt")
	w.forbid("alice", "kms:Decrypt")

	// With a permissions boundary nothing helps.
	bounded := except(`"*"`)
	bounded.boundary = allowDecrypt
	given(t, bounded).forbid("alice", "kms:Decrypt")
}

func TestGrants(t *testing.T) {
	w := given(t, policies{key: to(thirds), grant: policy.GrantToPrincipal})
	for _, who := range []string{"alice", "carol", "bob", "root", "ec2"} {
		w.allow(who, "kms:Decrypt")
	}
	w = given(t, policies{key: to(thirds), grant: policy.GrantToPrincipal, boundary: allowNothing, session: []string{allowNothing}})
	w.allow("carol", "kms:Decrypt")
	for _, p := range []policies{{}, {boundary: allowDecrypt, session: []string{allowDecrypt}}} {
		p.key, p.grant = to(thirds), policy.GrantToRole
		given(t, p).allow("carol", "kms:Decrypt")
		given(t, p).allow("carol", "kms:Decrypt", with{"account": theirs})
	}
	given(t, policies{key: to(thirds), grant: policy.GrantToRole, boundary: allowNothing}).because(noBoundary, "carol", "kms:Decrypt")
	given(t, policies{key: to(thirds), grant: policy.GrantToRole, session: []string{allowNothing}}).because(noSession, "carol", "kms:Decrypt")
	given(t, policies{key: to(ours), grant: policy.NoGrant}).because(noIdentity, "carol", "kms:Decrypt")

	w = given(t, policies{key: to(thirds), grant: policy.GrantToAccount})
	w.allow("root", "kms:Decrypt")
	w.because(noIdentity, "alice", "kms:Decrypt")
	w = given(t, policies{key: to(thirds), grant: policy.GrantToAccount, identity: []string{allowDecrypt}})
	for _, who := range []string{"alice", "carol"} {
		w.allow(who, "kms:Decrypt")
		w.allow(who, "kms:Decrypt", with{"account": theirs})
		w.deny(who, "kms:Encrypt")
	}
	given(t, policies{key: to(thirds), grant: policy.GrantToAccount, identity: []string{allowDecrypt}, boundary: allowNothing}).
		because(noBoundary, "alice", "kms:Decrypt")
}

func TestTrustPolicy(t *testing.T) {
	// KMS's example: AssumeRolePolicyDocument of the role Engineering, one statement, no
	// resource.
	w := given(t, policies{trust: `{"Version": "2012-10-17", "Statement": {"Principal": {"AWS": "arn:aws:iam::111122223333:user/local/alice"}, "Effect": "Allow", "Action": "sts:AssumeRole"}}`})
	w.allow("alice", "sts:AssumeRole", with{"resource": roleARN})
	w.because(" because no role trust policy allows the sts:AssumeRole action", "mallory", "sts:AssumeRole", with{"resource": roleARN})
	w.deny("alice", "sts:TagSession", with{"resource": roleARN})

	w = given(t, policies{trust: `{"Principal": {"AWS": "111122223333"}, "Effect": "Allow", "Action": "sts:*"}`})
	w.because(" because no identity-based policy allows the sts:AssumeRole action", "alice", "sts:AssumeRole", with{"resource": roleARN})
	w = given(t, policies{trust: `{"Principal": {"AWS": "111122223333"}, "Effect": "Allow", "Action": "sts:*"}`,
		identity: []string{`{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::*:role/app/*"}`}})
	w.allow("alice", "sts:AssumeRole", with{"resource": roleARN})
	w.deny("alice", "sts:AssumeRole", with{"resource": "arn:aws:iam::111122223333:role/other"})

	w = given(t, policies{trust: `{"Principal": "*", "Effect": "Allow", "Action": "sts:AssumeRole"}, {"Principal": "*", "Effect": "Deny", "Action": "sts:*", "Condition": {"StringNotEquals": {"sts:ExternalId": "12345"}}}`})
	w.allow("alice", "sts:AssumeRole", with{"sts:ExternalId": "12345"})
	w.because(" with an explicit deny in the role trust policy", "alice", "sts:AssumeRole")
}

func TestDecision(t *testing.T) {
	p := given(t, policies{
		key: `{"Sid": "first", "Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:D*", "Resource": "*"},
		      {"Sid": "second", "Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:Decrypt", "Resource": "*"},
		      {"Sid": "alice may encrypt", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/local/alice"}, "Action": "kms:Encrypt", "Resource": "*"},
		      {"Sid": "never verify", "Effect": "Deny", "Principal": "*", "Action": "kms:Verify", "Resource": "*"}`,
		identity: []string{`{"Sid": "elsewhere", "Effect": "Allow", "Action": "kms:Sign", "Resource": "*"}`, `{"Sid": "mine", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}`},
	}).p
	for _, c := range []struct {
		who, action string
		outcome     policy.Outcome
		policy      policy.PolicyType
		document    *policy.Document
		sid         string
	}{
		{"alice", "kms:Decrypt", policy.Allowed, policy.IdentityBased, p.Identity[1], "mine"},
		{"root", "kms:Decrypt", policy.Allowed, policy.ResourceBased, p.Resource, "first"},
		{"alice", "kms:Encrypt", policy.Allowed, policy.ResourceBased, p.Resource, "alice may encrypt"},
		{"alice", "kms:Verify", policy.ExplicitDeny, policy.ResourceBased, p.Resource, "never verify"},
		{"mallory", "kms:Encrypt", policy.ImplicitDeny, policy.ResourceBased, nil, ""},
		{"alice", "kms:DescribeKey", policy.ImplicitDeny, policy.IdentityBased, nil, ""},
	} {
		r := &policy.Request{Principal: people[c.who], Action: c.action, Resource: keyARN, ResourceAccount: ours}
		d := policy.Evaluate(r, p)
		sid := ""
		if d.Statement != nil {
			sid = d.Statement.Sid
		}
		if d.Outcome != c.outcome || d.Policy != c.policy || d.Document != c.document || sid != c.sid {
			t.Errorf("%s: %s: %v by %v %q", c.who, c.action, d.Outcome, d.Policy, sid)
		}
	}
	// Who allows first is named; the rest would have done as well.
	for _, c := range []struct {
		who    string
		p      policies
		policy policy.PolicyType
	}{
		{"alice", policies{key: to(ours), identity: []string{allowDecrypt}, grant: policy.GrantToPrincipal}, policy.IdentityBased},
		{"alice", policies{key: to(aliceARN), identity: []string{allowDecrypt}, grant: policy.GrantToPrincipal}, policy.ResourceBased},
		{"carol", policies{key: to(roleARN), identity: []string{allowDecrypt}, grant: policy.GrantToPrincipal}, policy.ResourceBased},
		{"carol", policies{key: to(roleARN), session: []string{allowNothing}, grant: policy.GrantToPrincipal}, policy.GrantPolicy},
		{"carol", policies{key: to(thirds), session: []string{allowDecrypt}, grant: policy.GrantToRole}, policy.GrantPolicy},
		{"carol", policies{key: to(thirds), identity: []string{allowDecrypt}, grant: policy.GrantToAccount}, policy.GrantPolicy},
		{"root", policies{key: to(ours)}, policy.ResourceBased},
	} {
		r := &policy.Request{Principal: people[c.who], Action: "kms:Decrypt", Resource: keyARN, ResourceAccount: ours}
		d := policy.Evaluate(r, given(t, c.p).p)
		if !d.Allowed() || d.Policy != c.policy || d.Message(r) != "" || (d.Statement == nil) != (d.Policy == policy.GrantPolicy) {
			t.Errorf("%s: %v by %v, %q", c.who, d.Outcome, d.Policy, d.Message(r))
		}
	}
	r := &policy.Request{Principal: people["alice"], Action: "kms:Decrypt", Resource: keyARN, ResourceAccount: ours}
	want := "User: " + aliceARN + " is not authorized to perform: kms:Decrypt on resource: " + keyARN + noResource
	if m := policy.Evaluate(r, given(t, policies{key: to(bobARN)}).p).Message(r); m != want {
		t.Errorf("message: %s", m)
	}
	r = &policy.Request{Principal: people["theirs"], Action: "kms:ListKeys", Resource: "*"}
	if d := policy.Evaluate(r, &policy.Policies{}); !d.Allowed() || d.Policy != policy.AccountRoot || d.Policy.String() != "account root" {
		t.Errorf("the root user's own: %+v", d)
	}
	r = &policy.Request{Action: "kms:Decrypt", Resource: keyARN, ResourceAccount: ours}
	d := policy.Evaluate(r, &policy.Policies{Grant: policy.GrantToPrincipal})
	if !d.Allowed() || d.Policy != policy.GrantPolicy || d.Policy.String() != "grant" || d.Outcome.String() != "allow" {
		t.Errorf("a grant: %+v", d)
	}
	want = "User: anonymous is not authorized to perform: kms:Decrypt on resource: " + keyARN + noResource
	if d := policy.Evaluate(r, &policy.Policies{}); d.Message(r) != want {
		t.Errorf("message: %s", d.Message(r))
	}
	if policy.ImplicitDeny.String() != "implicit deny" || policy.ExplicitDeny.String() != "explicit deny" {
		t.Error("outcomes are called otherwise")
	}
}

func TestBind(t *testing.T) {
	key := to(aliceARN) + "," + to(malloryARN) + "," + to(roleARN)
	// mallory was created again: the policy knows the older one.
	w := given(t, policies{key: key, ids: uniqueIDs})
	w.allow("alice", "kms:Decrypt")
	w.deny("mallory", "kms:Decrypt")
	w.allow("carol", "kms:Decrypt")
	given(t, policies{key: key}).allow("mallory", "kms:Decrypt")
	given(t, policies{key: to(sessionARN), ids: uniqueIDs}).allow("carol", "kms:Decrypt")
	given(t, policies{key: to(sessionARN), ids: map[string]string{sessionARN: "AROAOLDERENGINEERING:carol"}}).deny("carol", "kms:Decrypt")
	given(t, policies{key: to(roleARN), ids: map[string]string{roleARN: "AROAOLDERENGINEERING"}}).deny("carol", "kms:Decrypt")
	// A Deny follows the principal as well.
	w = given(t, policies{key: to("*") + "," + not(malloryARN), ids: uniqueIDs})
	w.allow("mallory", "kms:Decrypt")
}
