package keysvc_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

func policyOf(t *testing.T, c *kms.Client, key string) string {
	t.Helper()
	out, err := c.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &key})
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(out.PolicyName) != "default" {
		t.Errorf("the policy is called %v", out.PolicyName)
	}
	return *out.Policy
}

func TestKeyPolicyIsKeptAsGiven(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := sdk(srv)
	id := newKey(t, c)
	if got := policyOf(t, c, id); !strings.Contains(got, `"Sid" : "Enable IAM User Permissions"`) || !strings.Contains(got, "arn:aws:iam::000000000000:root") {
		t.Errorf("a new key has the policy %s", got)
	}
	text := " " + statements(toAccount, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/local/54321"}, "Action": "kms:DescribeKey", "Resource": "*"}`) + "\n"
	for _, name := range []*string{nil, aws.String("default")} {
		if _, err := c.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &id, Policy: &text, PolicyName: name}); err != nil {
			t.Fatal(err)
		}
	}
	made, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: &text})
	if err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	srv.Start()
	c = sdk(srv)
	for _, key := range []string{id, *made.KeyMetadata.KeyId} {
		if got := policyOf(t, c, key); got != text {
			t.Errorf("the policy came back as %q", got)
		}
		if _, err := sdkAs(srv, otherUID).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &key}); err != nil {
			t.Errorf("after a restart whom the policy names is refused: %v", err)
		}
	}
	names, err := c.ListKeyPolicies(t.Context(), &kms.ListKeyPoliciesInput{KeyId: &id})
	if err != nil || len(names.PolicyNames) != 1 || names.PolicyNames[0] != "default" || names.Truncated || names.NextMarker != nil {
		t.Errorf("the policies are %+v, %v", names, err)
	}
	_, err = c.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &id, PolicyName: aws.String("other")})
	says(t, err, "NotFoundException", "No such policy exists")
	_, err = c.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &id, Policy: &text, PolicyName: aws.String("other")})
	says(t, err, "NotFoundException", "No such policy exists")
	_, err = c.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &id, PolicyName: aws.String("no name")})
	refused(t, err, "ValidationException")
	_, err = c.ListKeyPolicies(t.Context(), &kms.ListKeyPoliciesInput{KeyId: &id, Marker: aws.String("x")})
	refused(t, err, "InvalidMarkerException")
	_, err = c.ListKeyPolicies(t.Context(), &kms.ListKeyPoliciesInput{KeyId: &id, Limit: aws.Int32(1001)})
	refused(t, err, "ValidationException")
}

func TestKeyPoliciesThatAreRefused(t *testing.T) {
	s := newStage(t, nil)
	c := s.clients["root"]
	before := policyOf(t, c, s.key)
	sized := func(n int) string {
		text := statements(toAccount)
		return text + strings.Repeat(" ", n-len(text))
	}
	const principals = "Policy contains a statement with one or more invalid principals. line 1, column "
	names := func(arn string) string {
		return statements(toAccount, `{"Effect": "Allow", "Principal": {"AWS": "`+arn+`"}, "Action": "kms:*", "Resource": "*"}`)
	}
	for name, tt := range map[string]struct{ policy, code, message string }{
		"the largest":         {sized(32768), "", ""},
		"too large":           {sized(32769), "LimitExceededException", "The policy document is 32769 bytes long"},
		"beyond the model":    {sized(131073), "ValidationException", "1 validation error detected"},
		"not JSON":            {"{", "MalformedPolicyDocumentException", "line 1, column 2"},
		"an unknown operator": {statements(`{` + toAlice + `, "Action": "kms:*", "Condition": {"StringLikes": {"a:b": "c"}}}`), "MalformedPolicyDocumentException", "line 1, column "},
		"a role of nobody":    {names("arn:aws:iam::000000000000:role/nobody"), "MalformedPolicyDocumentException", principals},
		"a user of nobody":    {names("arn:aws:iam::000000000000:user/carol"), "MalformedPolicyDocumentException", principals},
		"a user elsewhere":    {names("arn:aws:iam::111122223333:user/alice"), "MalformedPolicyDocumentException", principals},
		"an id of nobody":     {names("AIDAAAAAAAAAAAAAAAAAA"), "MalformedPolicyDocumentException", principals},
		"a user":              {names("arn:aws:iam::000000000000:user/alice"), "", ""},
		"a local user":        {names("arn:aws:iam::000000000000:user/local/54321"), "", ""},
		"any account":         {names("999988887777"), "", ""},
		"a lockout": {`{"Statement": {` + toAlice + `, "Action": "kms:*"}}`, "MalformedPolicyDocumentException",
			"The new key policy will not allow you to update the key policy in the future."},
		"a lockout by deny": {statements(toAccount, `{"Effect": "Deny", "Principal": "*", "Action": "kms:Put*", "Resource": "*"}`), "MalformedPolicyDocumentException",
			"The new key policy will not allow you to update the key policy in the future."},
	} {
		t.Run(name, func(t *testing.T) {
			keys := len(listAll(t, c))
			_, created := c.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: &tt.policy})
			_, put := c.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &s.key, Policy: &tt.policy})
			for _, err := range []error{created, put} {
				switch {
				case tt.code == "" && err != nil:
					t.Error(err)
				case tt.code != "":
					refused(t, err, tt.code)
					if err != nil && !strings.Contains(err.Error(), tt.message) {
						t.Errorf("%v does not say %q", err, tt.message)
					}
				}
			}
			if tt.code == "" {
				s.put(before)
				return
			}
			if policyOf(t, c, s.key) != before {
				t.Error("a refused policy is in force")
			}
			if len(listAll(t, c)) != keys {
				t.Error("a refused policy made a key")
			}
		})
	}
}

// TestLockout: who asks for it may lock himself out, and nobody else can be let
// in by it.
func TestLockout(t *testing.T) {
	s := newStage(t, map[string]string{"alice": identityPolicy(anything)})
	root := s.clients["root"]
	text := `{"Statement": {` + toAlice + `, "Action": ["kms:PutKeyPolicy", "kms:GetKeyPolicy"]}}`
	in := &kms.PutKeyPolicyInput{KeyId: &s.key, Policy: &text}
	_, err := root.PutKeyPolicy(t.Context(), in)
	refused(t, err, "MalformedPolicyDocumentException")
	in.BypassPolicyLockoutSafetyCheck = true
	if _, err := root.PutKeyPolicy(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	s.check(deny("root", "GetKeyPolicy"), allow("alice", "GetKeyPolicy"))
	_, err = root.PutKeyPolicy(t.Context(), in)
	refused(t, err, "AccessDeniedException")
	// Alice gives it back.
	back := statements(toAccount)
	if _, err := s.clients["alice"].PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &s.key, Policy: &back}); err != nil {
		t.Fatal(err)
	}
	s.check(allow("root", "GetKeyPolicy"))

	// The bypass is something that policies can forbid.
	s.put(statements(`{"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*", "Condition": {"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "true"}}}`))
	_, err = root.PutKeyPolicy(t.Context(), in)
	refused(t, err, "AccessDeniedException")
	s.put(back)
}

// TestRecreatedUserInheritsNothing: a policy is about who had the name when it was
// put, also after a restart.
func TestRecreatedUserInheritsNothing(t *testing.T) {
	s := newStage(t, nil)
	text := statements(`{` + toAlice + `, "Action": "kms:*"}`)
	s.put(text)
	s.check(allow("alice", "Encrypt"))
	if got := policyOf(t, s.clients["root"], s.key); got != text {
		t.Errorf("the policy is %s", got)
	}
	s.hire(home, "alice")
	s.check(deny("alice", "Encrypt"))
	// What is read says so: putting it back does not let the new user in.
	shown := policyOf(t, s.clients["root"], s.key)
	_, id, _ := strings.Cut(shown, `{"AWS": "AIDA`)
	id, _, _ = strings.Cut(id, `"`)
	if len(id) != 17 || strings.Replace(shown, "AIDA"+id, "arn:aws:iam::000000000000:user/alice", 1) != text {
		t.Errorf("the policy of a deleted user is shown as %s", shown)
	}
	_, err := s.clients["root"].PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &s.key, Policy: &shown})
	refused(t, err, "MalformedPolicyDocumentException")
	s.srv.Stop()
	s.srv.Start()
	s.clients["root"] = sdk(s.srv)
	s.hire(home, "alice")
	s.check(deny("alice", "Encrypt"))
	s.put(text)
	s.check(allow("alice", "Encrypt"))
}

// TestManagedKeyIsMadeOnce, however many ask for it first.
func TestManagedKeyIsMadeOnce(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/aws/ebs")}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if keys := listAll(t, c); len(keys) != 1 {
		t.Errorf("there are %d keys", len(keys))
	}
}

func TestManagedKeys(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := sdk(srv)
	if n := len(listAll(t, c)); n != 0 {
		t.Fatalf("there are %d keys", n)
	}
	for _, alias := range []string{"alias/aws/kmsfs", "alias/aws/ebs"} {
		m := describe(t, c, alias)
		if m.KeyManager != types.KeyManagerTypeAws || aws.ToString(m.Description) == "" {
			t.Errorf("%s is of %s, %q", alias, m.KeyManager, aws.ToString(m.Description))
		}
		if again := describe(t, c, arnPrefix+alias); *again.KeyId != *m.KeyId {
			t.Errorf("%s is another key the second time", alias)
		}
		status, err := c.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: m.KeyId})
		if err != nil || !status.KeyRotationEnabled {
			t.Errorf("%s is not rotated: %v", alias, err)
		}
		// Nobody can change it.
		for name, op := range matrix {
			switch name {
			case "CancelKeyDeletion", "CreateAlias", "DisableKey", "DisableKeyRotation", "EnableKey", "EnableKeyRotation", "PutKeyPolicy",
				"RotateKeyOnDemand", "ScheduleKeyDeletion", "TagResource", "UntagResource", "UpdateAlias, to the key", "UpdateKeyDescription":
				s := subject{Client: c, id: *m.KeyId, elsewhere: "alias/elsewhere"}
				if name == "UpdateAlias, to the key" {
					if err := createAlias(t, c, s.elsewhere, newKey(t, c)); err != nil {
						t.Fatal(err)
					}
				}
				err := op.do(t, s)
				t.Run(alias+" "+name, func(t *testing.T) { refused(t, err, "AccessDeniedException") })
				if name == "UpdateAlias, to the key" {
					if _, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: &s.elsewhere}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		_, err = c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: &alias})
		refused(t, err, "NotAuthorizedException")
	}
	if _, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String("alias/aws/kmsfs"), KeySpec: types.DataKeySpecAes256}); err != nil {
		t.Error(err)
	}
	// The key of EBS is for EC2 only, and no request says that it comes from there.
	_, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String("alias/aws/ebs"), KeySpec: types.DataKeySpecAes256})
	refused(t, err, "AccessDeniedException")
	_, err = sdkAs(srv, otherUID).GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String("alias/aws/kmsfs"), KeySpec: types.DataKeySpecAes256})
	refused(t, err, "AccessDeniedException")
	_, err = c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/aws/s3")})
	refused(t, err, "NotFoundException")

	id := describe(t, c, "alias/aws/ebs").KeyId
	srv.Stop()
	srv.Start()
	if again := describe(t, sdk(srv), "alias/aws/ebs"); *again.KeyId != *id || again.KeyManager != types.KeyManagerTypeAws {
		t.Errorf("after a restart alias/aws/ebs is %+v", again)
	}
}
