package keysvc_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	aliceARN    = "arn:aws:iam::" + home + ":user/alice"
	bobARN      = "arn:aws:iam::" + home + ":user/bob"
	strangerARN = "arn:aws:iam::" + foreign + ":user/stranger"
)

// want is a grant to be created.
type want = kms.CreateGrantInput

func ops(names ...string) (list []types.GrantOperation) {
	for _, name := range names {
		list = append(list, types.GrantOperation(name))
	}
	return list
}

// to is a grant to somebody.
func to(arn string, operations ...string) want {
	return want{GranteePrincipal: &arn, Operations: ops(operations...)}
}

// including and being add a constraint to a grant.
func including(w want, pairs ...string) want {
	w.Constraints = &types.GrantConstraints{EncryptionContextSubset: allow("", "", pairs...).pairs()}
	return w
}

func being(w want, pairs ...string) want {
	w.Constraints = &types.GrantConstraints{EncryptionContextEquals: allow("", "", pairs...).pairs()}
	return w
}

func (s *stage) tryGrant(who string, w want) (*kms.CreateGrantOutput, error) {
	if w.KeyId == nil {
		w.KeyId = &s.key
	}
	return s.clients[who].CreateGrant(s.Context(), &w)
}

// grant makes one.
func (s *stage) grant(who string, w want) *kms.CreateGrantOutput {
	s.Helper()
	out, err := s.tryGrant(who, w)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

func (s *stage) revoke(id *string) {
	s.Helper()
	if _, err := s.clients["root"].RevokeGrant(s.Context(), &kms.RevokeGrantInput{KeyId: &s.key, GrantId: id}); err != nil {
		s.Fatal(err)
	}
}

// grants lists those on the key.
func (s *stage) grants(in kms.ListGrantsInput) (list []types.GrantListEntry) {
	s.Helper()
	in.KeyId = &s.key
	for p := kms.NewListGrantsPaginator(s.clients["root"], &in); p.HasMorePages(); {
		out, err := p.NextPage(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		list = append(list, out.Grants...)
	}
	return list
}

func TestGrantLetsIn(t *testing.T) {
	s := newStage(t, nil)
	s.check(deny("alice", "Decrypt"))
	g := s.grant("root", to(aliceARN, "Decrypt", "DescribeKey", "ReEncryptFrom"))
	s.check(allow("alice", "Decrypt"), allow("alice", "Decrypt", "any=context"), allow("alice", "DescribeKey"),
		deny("alice", "Encrypt"), deny("alice", "GenerateDataKey"), deny("alice", "ReEncrypt"), deny("alice", "GetKeyPolicy"),
		deny("alice", "EnableKey"), deny("bob", "Decrypt"), deny("stranger", "Decrypt"))
	s.grant("root", to(aliceARN, "ReEncryptTo"))
	s.check(allow("alice", "ReEncrypt"))

	// Explicit denials win.
	s.put(statements(`{"Effect": "Deny", "Principal": {"AWS": "` + aliceARN + `"}, "Action": "kms:Decrypt", "Resource": "*"}`))
	s.check(deny("alice", "Decrypt"), allow("alice", "DescribeKey"))
	s.put(statements())
	s.check(allow("alice", "Decrypt"))

	s.revoke(g.GrantId)
	s.check(deny("alice", "Decrypt"), deny("alice", "DescribeKey"), deny("alice", "ReEncrypt"))
}

func TestIdentityDenyBeatsGrant(t *testing.T) {
	s := newStage(t, map[string]string{"alice": identityPolicy(`{"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}`)})
	s.grant("root", to(aliceARN, "Decrypt", "DescribeKey"))
	s.check(deny("alice", "Decrypt"), allow("alice", "DescribeKey"))
}

func TestGrantConstraints(t *testing.T) {
	s := newStage(t, nil)
	s.grant("root", including(to(aliceARN, "Decrypt", "GenerateDataKey", "ReEncryptFrom", "DescribeKey"), "Department=IT"))
	s.grant("root", to(aliceARN, "ReEncryptTo"))
	s.grant("root", being(to(bobARN, "Decrypt", "GenerateDataKeyWithoutPlaintext", "DescribeKey"), "a=1", "b=2"))
	s.check(
		allow("alice", "Decrypt", "Department=IT"),
		allow("alice", "Decrypt", "Department=IT Purpose=test"),
		allow("alice", "Decrypt", "dePARTMENT=IT"),
		deny("alice", "Decrypt", "Department=it"),
		deny("alice", "Decrypt", "Department=IT DEPARTMENT=Finance"),
		deny("alice", "Decrypt", "Department=Finance"),
		deny("alice", "Decrypt"),
		allow("alice", "GenerateDataKey", "Department=IT"),
		deny("alice", "GenerateDataKey"),
		deny("alice", "Encrypt", "Department=IT"),
		allow("alice", "ReEncrypt", "Department=IT"),
		deny("alice", "ReEncrypt", "Department=Finance"),
		allow("alice", "DescribeKey"), // which has no context
		allow("bob", "Decrypt", "b=2 a=1"),
		deny("bob", "Decrypt", "a=1"),
		deny("bob", "Decrypt", "a=1 b=2 c=3"),
		deny("bob", "Decrypt", "a=1 b=3"),
		deny("bob", "Decrypt"),
		allow("bob", "GenerateDataKeyWithoutPlaintext", "a=1 b=2"),
		deny("bob", "GenerateDataKeyWithoutPlaintext"),
		allow("bob", "DescribeKey"),
	)
	// The constraint of a grant on the destination is about the destination's context.
	for _, g := range s.grants(kms.ListGrantsInput{GranteePrincipal: aws.String(aliceARN)}) {
		if slices.Contains(g.Operations, types.GrantOperationReEncryptTo) {
			s.revoke(g.GrantId)
		}
	}
	s.check(deny("alice", "ReEncrypt", "Department=IT"))
	g := s.grant("root", being(to(aliceARN, "ReEncryptTo"), "path=/moved"))
	s.check(allow("alice", "ReEncrypt", "Department=IT"))
	s.revoke(g.GrantId)
	s.grant("root", being(to(aliceARN, "ReEncryptTo"), "path=/elsewhere"))
	s.check(deny("alice", "ReEncrypt", "Department=IT"))
}

func TestChildGrants(t *testing.T) {
	s := newStage(t, nil)
	parent := s.grant("root", including(to(aliceARN, "CreateGrant", "Decrypt", "DescribeKey"), "Department=IT"))
	for what, w := range map[string]want{
		"no constraint":           to(bobARN, "Decrypt"),
		"another constraint":      including(to(bobARN, "Decrypt"), "Department=Finance"),
		"an operation more":       including(to(bobARN, "Decrypt", "Encrypt"), "Department=IT"),
		"RetireGrant":             including(to(bobARN, "Decrypt", "RetireGrant"), "Department=IT"),
		"a wider key":             including(to(bobARN, "Decrypt"), "Department=IT", "DEPARTMENT=Finance"),
		"an Equals without it":    being(to(bobARN, "Decrypt"), "Purpose=test"),
		"no pairs, given as such": {GranteePrincipal: aws.String(bobARN), Operations: ops("Decrypt"), Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{}}},
	} {
		_, err := s.tryGrant("alice", w)
		t.Run(what, func(t *testing.T) { refused(t, err, "AccessDeniedException") })
	}
	if n := len(s.grants(kms.ListGrantsInput{})); n != 1 {
		t.Errorf("refused requests made %d grants", n-1)
	}
	s.grant("alice", including(to(bobARN, "Decrypt"), "Department=IT"))
	s.grant("alice", being(to(bobARN, "DescribeKey"), "Department=IT", "Purpose=test"))
	s.check(allow("bob", "Decrypt", "Department=IT"), deny("bob", "Decrypt"), deny("bob", "Encrypt", "Department=IT"))

	// A child may have children, if it has CreateGrant.
	refuse := including(to(strangerARN, "Decrypt"), "Department=IT")
	_, err := s.tryGrant("bob", refuse)
	refused(t, err, "AccessDeniedException")
	s.grant("alice", including(to(bobARN, "Decrypt", "CreateGrant"), "Department=IT", "Purpose=test"))
	_, err = s.tryGrant("bob", refuse)
	refused(t, err, "AccessDeniedException")
	s.grant("bob", including(to(strangerARN, "Decrypt"), "department=IT", "Purpose=test"))
	s.check(allow("stranger", "Decrypt", "Department=IT Purpose=test"), deny("stranger", "Decrypt", "Department=IT"))

	// The others stay when the parent goes.
	s.revoke(parent.GrantId)
	s.check(deny("alice", "Decrypt", "Department=IT"), allow("bob", "Decrypt", "Department=IT"))
	_, err = s.tryGrant("alice", including(to(bobARN, "Decrypt"), "Department=IT"))
	refused(t, err, "AccessDeniedException")

	// Only the key's policy lets one revoke or list.
	_, err = s.clients["bob"].ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &s.key})
	refused(t, err, "AccessDeniedException")
}

// TestWhoRetires: the grant says who may, and the accounts that created it and own the key.
func TestWhoRetires(t *testing.T) {
	const retire = `{"Effect": "Allow", "Action": "kms:RetireGrant", "Resource": "*"}`
	s := newStage(t, nil)
	carol := identityPolicy(retire)
	s.hire(home, "carol", carol)          // in the account that created the grants
	s.hire(foreign, "their carol", carol) // in another
	s.hire(home, "alice", identityPolicy(strings.Replace(retire, "Allow", "Deny", 1)))
	s.hire(home, "dave")
	// A key policy has no say, whatever it says.
	s.put(statements(`{"Effect": "Allow", "Principal": "*", "Action": "kms:RetireGrant", "Resource": "*"}`,
		`{"Effect": "Deny", "Principal": "*", "Action": "kms:RetireGrant", "Resource": "*", "Condition": {"ArnNotEquals": {"aws:PrincipalArn": "`+aliceARN+`"}}}`))
	retiring := func(w want, arn string) want {
		w.RetiringPrincipal = &arn
		return w
	}
	for _, c := range []struct {
		what     string
		w        want
		may, not []string
	}{
		{"a plain grant", to(bobARN, "Decrypt"),
			[]string{"root", "carol"}, []string{"bob", "dave", "stranger", "their carol", "stranger's root"}},
		{"a grant with RetireGrant", to(bobARN, "Decrypt", "RetireGrant"), []string{"bob"}, []string{"dave"}},
		{"a constrained grant with RetireGrant", including(to(bobARN, "Decrypt", "RetireGrant"), "a=1"), []string{"bob"}, nil},
		{"a grant with a retiring principal", retiring(to(bobARN, "Decrypt"), "arn:aws:iam::"+home+":user/dave"), []string{"dave", "root"}, []string{"bob"}},
		{"a retiring principal elsewhere", retiring(to(bobARN, "Decrypt"), strangerARN), []string{"stranger"}, []string{"their carol", "stranger's root"}},
		{"a retiring account", retiring(to(bobARN, "Decrypt"), "arn:aws:iam::"+foreign+":root"),
			[]string{"stranger's root", "their carol"}, []string{"stranger", "bob"}},
		{"one whom a policy forbids it", retiring(to(aliceARN, "Decrypt", "RetireGrant"), aliceARN), nil, []string{"alice"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			for _, who := range c.not {
				g := s.grant("root", c.w)
				for _, in := range []kms.RetireGrantInput{{KeyId: &s.key, GrantId: g.GrantId}, {GrantToken: g.GrantToken}} {
					_, err := s.clients[who].RetireGrant(t.Context(), &in)
					t.Run(who, func(t *testing.T) { refused(t, err, "AccessDeniedException") })
				}
				if len(s.grants(kms.ListGrantsInput{GrantId: g.GrantId})) != 1 {
					t.Errorf("%s retired it", who)
				}
			}
			for _, who := range c.may {
				for _, byToken := range []bool{true, false} {
					g := s.grant("root", c.w)
					in := kms.RetireGrantInput{KeyId: &s.key, GrantId: g.GrantId}
					if byToken {
						in = kms.RetireGrantInput{GrantToken: g.GrantToken}
					}
					if _, err := s.clients[who].RetireGrant(t.Context(), &in); err != nil {
						t.Errorf("%s: %v", who, err)
					}
					if len(s.grants(kms.ListGrantsInput{GrantId: g.GrantId})) != 0 {
						t.Errorf("%s retired it, and it is there", who)
					}
				}
			}
		})
	}
}

func TestGrantToAnotherAccount(t *testing.T) {
	s := newStage(t, nil)
	_, err := s.clients["stranger"].Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.key, Plaintext: []byte("p")})
	refused(t, err, "AccessDeniedException")
	s.grant("root", to(strangerARN, "Encrypt", "Decrypt", "CreateGrant"))
	s.check(allow("stranger", "Encrypt"), allow("stranger", "Decrypt"), deny("stranger", "DescribeKey"), deny("stranger's root", "Encrypt"))

	// What a foreigner creates was issued by the foreigner's account, which may retire it.
	child := s.grant("stranger", to(bobARN, "Encrypt"))
	entries := s.grants(kms.ListGrantsInput{GrantId: child.GrantId})
	if len(entries) != 1 || *entries[0].IssuingAccount != "arn:aws:iam::"+foreign+":root" || *entries[0].KeyId != s.key {
		t.Errorf("the child is %+v", entries)
	}
	if _, err := s.clients["stranger's root"].RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: child.GrantToken}); err != nil {
		t.Error(err)
	}
	s.check(deny("bob", "Encrypt"))

	// Of a key that does not let it in a foreigner cannot tell which grants it has.
	for _, id := range []string{*child.GrantId, strings.Repeat("0", 64)} {
		for _, key := range []string{s.key, arnPrefix + "key/" + unknownID} {
			_, err := s.clients["stranger"].RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: &key, GrantId: &id})
			refused(t, err, "AccessDeniedException")
			_, err = s.clients["stranger"].RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: &key, GrantId: &id})
			refused(t, err, "AccessDeniedException")
			_, err = s.clients["stranger"].ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &key})
			refused(t, err, "AccessDeniedException")
		}
	}
}

// TestGrantToAccount: the account's own policies say which of its users the grant is for.
func TestGrantToAccount(t *testing.T) {
	s := newStage(t, map[string]string{"stranger": identityPolicy(`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}`)})
	s.hire(foreign, "their bob")
	s.grant("root", to("arn:aws:iam::"+foreign+":root", "Encrypt", "Decrypt"))
	s.check(allow("stranger's root", "Encrypt"), allow("stranger", "Decrypt"), deny("stranger", "Encrypt"), deny("their bob", "Decrypt"),
		deny("alice", "Decrypt"))
}

// TestRecreatedGrantee: who gets the name of somebody who is gone gets nothing else.
func TestRecreatedGrantee(t *testing.T) {
	s := newStage(t, nil)
	w := to(aliceARN, "Decrypt")
	w.RetiringPrincipal = aws.String(aliceARN)
	g := s.grant("root", w)
	s.check(allow("alice", "Decrypt"))
	s.hire(home, "alice")
	s.check(deny("alice", "Decrypt"))
	_, err := s.clients["alice"].RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: g.GrantToken})
	refused(t, err, "AccessDeniedException")
	if list := s.grants(kms.ListGrantsInput{GranteePrincipal: aws.String(aliceARN)}); len(list) != 0 {
		t.Errorf("the new alice has %+v", list)
	}
	list := s.grants(kms.ListGrantsInput{})
	if len(list) != 1 || !strings.HasPrefix(*list[0].GranteePrincipal, "AIDA") || *list[0].RetiringPrincipal != *list[0].GranteePrincipal {
		t.Fatalf("the old grant is listed as %+v", list)
	}
	if list := s.grants(kms.ListGrantsInput{GranteePrincipal: list[0].GranteePrincipal}); len(list) != 1 {
		t.Error("a grantee who is gone cannot be looked for")
	}

}

// TestGrantConditions: a policy may limit which grants one creates.
func TestGrantConditions(t *testing.T) {
	s := newStage(t, nil)
	retiredByBob := to(bobARN, "Decrypt")
	retiredByBob.RetiringPrincipal = aws.String(bobARN)
	for _, c := range []struct {
		condition string
		yes, no   []want
	}{
		{`"StringEquals": {"kms:GranteePrincipal": "` + bobARN + `"}`, []want{to(bobARN, "Decrypt")}, []want{to(aliceARN, "Decrypt")}},
		{`"StringEquals": {"kms:RetiringPrincipal": "` + bobARN + `"}`, []want{retiredByBob}, []want{to(bobARN, "Decrypt")}},
		{`"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt", "Decrypt"]}`,
			[]want{to(bobARN, "Decrypt"), to(bobARN, "Decrypt", "Encrypt")}, []want{to(bobARN, "Decrypt", "DescribeKey")}},
		{`"StringEquals": {"kms:GrantConstraintType": "EncryptionContextSubset"}`,
			[]want{including(to(bobARN, "Decrypt"), "a=1")}, []want{to(bobARN, "Decrypt"), being(to(bobARN, "Decrypt"), "a=1")}},
		{`"Null": {"kms:GrantConstraintType": "true", "kms:RetiringPrincipal": "true"}`,
			[]want{to(bobARN, "Decrypt")}, []want{including(to(bobARN, "Decrypt"), "a=1"), retiredByBob}},
		{`"StringEquals": {"kms:EncryptionContext:a": "1"}`,
			[]want{including(to(bobARN, "Decrypt"), "a=1")}, []want{to(bobARN, "Decrypt"), including(to(bobARN, "Decrypt"), "a=2")}},
		{`"Bool": {"kms:GrantIsForAWSResource": "false"}`, []want{to(bobARN, "Decrypt")}, nil},
		{`"Bool": {"kms:GrantIsForAWSResource": "true"}`, nil, []want{to(bobARN, "Decrypt")}},
	} {
		s.put(statements(`{"Effect": "Allow", "Principal": {"AWS": "` + aliceARN + `"}, "Action": "kms:CreateGrant", "Resource": "*", "Condition": {` + c.condition + `}}`))
		for _, w := range c.yes {
			if _, err := s.tryGrant("alice", w); err != nil {
				t.Errorf("%s: %v", c.condition, err)
			}
		}
		for _, w := range c.no {
			_, err := s.tryGrant("alice", w)
			t.Run(c.condition, func(t *testing.T) { refused(t, err, "AccessDeniedException") })
		}
	}
}

// TestGrantIsForAWSResource: it says that a service asks for the caller, and only the
// service itself can say so.
func TestGrantIsForAWSResource(t *testing.T) {
	s := newStage(t, nil)
	alice, err := s.srv.Service.HireUser(home, "/", "alice")
	if err != nil {
		t.Fatal(err)
	}
	s.clients["alice"] = s.client(alice)
	alice.ViaService = "ec2.us-east-1.amazonaws.com"
	s.clients["ec2 for alice"] = s.client(alice)
	s.put(statements(`{"Effect": "Allow", "Principal": {"AWS": "` + aliceARN + `"}, "Action": ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
		"Resource": "*", "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}}}`))
	g := s.grant("ec2 for alice", including(to(bobARN, "Decrypt"), "aws:ebs:id=vol-1"))
	id := g.GrantId
	for who, allowed := range map[string]bool{"alice": false, "ec2 for alice": true} {
		c := s.clients[who]
		_, create := s.tryGrant(who, to(bobARN, "Decrypt"))
		_, list := c.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &s.key})
		_, revoke := c.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: &s.key, GrantId: id, DryRun: aws.Bool(true)})
		for what, err := range map[string]error{"create": create, "list": list, "revoke": revoke} {
			t.Run(fmt.Sprint(who, " ", what), func(t *testing.T) {
				switch {
				case !allowed:
					refused(t, err, "AccessDeniedException")
				case what == "revoke":
					refused(t, err, "DryRunOperationException")
				case err != nil:
					t.Error(err)
				}
			})
		}
	}
}

// TestGrantToRole: it is for every session of the role, within the role's boundary; a grant
// to one session is that one's alone.
func TestGrantToRole(t *testing.T) {
	const onlyDecrypt = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}}`
	s := newStage(t, nil)
	for _, c := range []struct{ role, boundary string }{{"free", ""}, {"bounded", onlyDecrypt}} {
		sessions, err := s.srv.Service.HireRole(home, c.role, c.boundary, "one", "two")
		if err != nil {
			t.Fatal(err)
		}
		s.clients[c.role+"/one"], s.clients[c.role+"/two"] = s.client(sessions[0]), s.client(sessions[1])
	}
	s.grant("root", to("arn:aws:iam::"+home+":role/free", "Decrypt", "Encrypt"))
	bounded := s.grant("root", to("arn:aws:iam::"+home+":role/bounded", "Decrypt", "Encrypt"))
	s.check(allow("free/one", "Encrypt"), allow("free/two", "Decrypt"), deny("free/one", "DescribeKey"), deny("alice", "Decrypt"),
		allow("bounded/one", "Decrypt"), deny("bounded/one", "Encrypt"))

	// To the session itself, the boundary does not matter ("Permissions boundaries").
	s.revoke(bounded.GrantId)
	s.grant("root", to("arn:aws:sts::"+home+":assumed-role/bounded/two", "Encrypt"))
	s.check(allow("bounded/two", "Encrypt"), deny("bounded/one", "Encrypt"), deny("bounded/two", "Decrypt"), deny("free/two", "DescribeKey"))
	_, err := s.tryGrant("root", to("arn:aws:sts::"+home+":assumed-role/nobody/two", "Encrypt"))
	refused(t, err, "InvalidArnException")
}
