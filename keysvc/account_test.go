package keysvc_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc"
)

// TestAccountsAreApart: what an account lists, names and destroys is its own.
func TestAccountsAreApart(t *testing.T) {
	s := newStage(t, nil)
	here, there := s.clients["root"], s.clients["stranger's root"]
	// Nobody makes another account's AWS managed keys.
	_, err := there.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(arnPrefix + "alias/aws/ebs")})
	refused(t, err, "AccessDeniedException")
	foreignKey := newKey(t, there)
	foreignARN := "arn:aws:kms:us-east-1:111122223333:key/" + foreignKey
	if m := describe(t, there, foreignKey); *m.Arn != foreignARN || *m.AWSAccountId != foreign {
		t.Errorf("the key is %s of %s", *m.Arn, *m.AWSAccountId)
	}
	for c, want := range map[*kms.Client]string{here: s.key, there: foreignARN} {
		out, err := c.ListKeys(t.Context(), &kms.ListKeysInput{})
		if err != nil || len(out.Keys) != 1 || *out.Keys[0].KeyArn != want || !strings.HasSuffix(want, "/"+*out.Keys[0].KeyId) {
			t.Errorf("the keys are %+v, %v, not %s", out, err, want)
		}
	}
	// The same alias in both accounts, before and after a restart.
	for c, key := range map[*kms.Client]string{here: s.key, there: foreignARN} {
		if err := createAlias(t, c, "alias/same", key); err != nil {
			t.Fatal(err)
		}
	}
	both := func() {
		t.Helper()
		for c, key := range map[*kms.Client]string{here: s.key, there: foreignARN} {
			if m := describe(t, c, "alias/same"); *m.Arn != key {
				t.Errorf("alias/same is %s, not %s", *m.Arn, key)
			}
			out, err := c.ListAliases(t.Context(), &kms.ListAliasesInput{})
			if err != nil || len(out.Aliases) != 1 || !strings.HasSuffix(key, *out.Aliases[0].TargetKeyId) {
				t.Errorf("the aliases are %+v, %v", out, err)
			}
		}
	}
	both()
	s.srv.Stop()
	s.srv.Start()
	here, there = sdk(s.srv), s.client(keysvc.RootOf(foreign))
	both()
	// No alias of one account points at a key of another.
	err = createAlias(t, there, "alias/b", s.key)
	refused(t, err, "AccessDeniedException")
	_, err = there.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/same"), TargetKeyId: &s.key})
	refused(t, err, "AccessDeniedException")
	if _, err := there.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/same")}); err != nil {
		t.Fatal(err)
	}
	if m := describe(t, here, "alias/same"); *m.Arn != s.key {
		t.Errorf("alias/same is %s", *m.Arn)
	}
	_, err = there.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/same")})
	refused(t, err, "NotFoundException")
	// A bare key id is one of the caller's account.
	_, err = here.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &foreignKey})
	says(t, err, "NotFoundException", "Key '"+arnPrefix+"key/"+foreignKey+"' does not exist")
	// Each account has AWS managed keys of its own.
	if a, b := describe(t, here, "alias/aws/ebs"), describe(t, there, "alias/aws/ebs"); *a.KeyId == *b.KeyId || *b.AWSAccountId != foreign {
		t.Errorf("alias/aws/ebs is %s and %s", *a.Arn, *b.Arn)
	}
}

// TestForeignKeysShowNothing: a key of another account that does not let the
// caller in answers as one that there is not.
func TestForeignKeysShowNothing(t *testing.T) {
	s := newStage(t, map[string]string{"stranger": identityPolicy(anything)})
	if err := createAlias(t, s.clients["root"], "alias/a", s.key); err != nil {
		t.Fatal(err)
	}
	blob := s.blob(allow("root", "Encrypt"))
	c := s.clients["stranger"]
	who := "User: arn:aws:iam::111122223333:user/stranger is not authorized to perform: kms:"
	const why = " because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"
	both := func() {
		t.Helper()
		for _, name := range []string{s.key, arnPrefix + "key/" + unknownID, arnPrefix + "alias/a", arnPrefix + "alias/none"} {
			resource := name
			if name == arnPrefix+"alias/a" {
				resource = s.key
			}
			_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &name})
			says(t, err, "AccessDeniedException", who+"DescribeKey on resource: "+resource+why)
			_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &name, Plaintext: []byte("p")})
			says(t, err, "AccessDeniedException", who+"Encrypt on resource: "+resource+why)
			_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{SourceKeyId: &name, CiphertextBlob: blob, DestinationKeyId: &name})
			refused(t, err, "AccessDeniedException")
			if strings.Contains(name, "alias/") {
				continue
			}
			_, err = c.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &name, Policy: aws.String(statements(toStranger))})
			says(t, err, "AccessDeniedException", who+"PutKeyPolicy on resource: "+name+why)
		}
	}
	both()
	_, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob})
	says(t, err, "AccessDeniedException", "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
	// Nor does an explicit deny show, or the key's state.
	s.put(statements(`{"Effect": "Deny", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"}`))
	if _, err := s.clients["root"].DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &s.key}); err != nil {
		t.Fatal(err)
	}
	both()
	// Whom the key lets in is told what his own account lacks.
	s.put(statements(toStranger))
	s.hire(foreign, "stranger")
	_, err = s.clients["stranger"].DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &s.key})
	says(t, err, "AccessDeniedException", who+"DescribeKey on resource: "+s.key+" because no identity-based policy allows the kms:DescribeKey action")
}

// TestTagsAndAliasesDecide: ABAC, which is for identity policies only.
func TestTagsAndAliasesDecide(t *testing.T) {
	byTag := `"Condition": {"StringEquals": {"aws:ResourceTag/team": "a"}}`
	byAlias := `"Condition": {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/project-*"}}`
	byRequest := `"Condition": {"StringEquals": {"kms:RequestAlias": "alias/a"}}`
	s := newStage(t, map[string]string{
		"alice": identityPolicy(`{"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*", `+byTag+`}`,
			`{"Effect": "Allow", "Action": "kms:GenerateDataKey", "Resource": "*", `+byAlias+`}`,
			`{"Effect": "Allow", "Action": "kms:DescribeKey", "Resource": "*", `+byRequest+`}`),
	})
	root := s.clients["root"]
	s.check(deny("alice", "Encrypt"), deny("alice", "GenerateDataKey"), deny("alice", "DescribeKey"))
	if _, err := root.TagResource(t.Context(), &kms.TagResourceInput{KeyId: &s.key, Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("a")}}}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alias/a", "alias/project-x"} {
		if err := createAlias(t, root, name, s.key); err != nil {
			t.Fatal(err)
		}
	}
	s.check(allow("alice", "Encrypt"), allow("alice", "GenerateDataKey"), deny("alice", "DescribeKey"), allow("alice", "DescribeKey by alias/a"))
	// An alias that leaves takes the permission with it.
	if _, err := root.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/project-x"), TargetKeyId: aws.String(newKey(t, root))}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: &s.key, TagKeys: []string{"team"}}); err != nil {
		t.Fatal(err)
	}
	s.check(deny("alice", "Encrypt"), deny("alice", "GenerateDataKey"))
	// In a key policy neither exists.
	s.hire(home, "bob", identityPolicy(`{"Effect": "Allow", "Action": "kms:ListAliases", "Resource": "*"}`))
	s.put(statements(`{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/bob"}, "Action": "kms:Encrypt", "Resource": "*", `+byTag+`}`,
		`{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/bob"}, "Action": "kms:GenerateDataKey", "Resource": "*", "Condition": {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/*"}}}`))
	if _, err := root.TagResource(t.Context(), &kms.TagResourceInput{KeyId: &s.key, Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("a")}}}); err != nil {
		t.Fatal(err)
	}
	s.check(deny("bob", "Encrypt"), deny("bob", "GenerateDataKey"))
}
