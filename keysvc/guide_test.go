package keysvc_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// TestIdentityPolicyExamples goes through "IAM policy examples" of the AWS KMS
// Developer Guide (customer-managed-policies), with this account in the place of
// theirs: the key has the default key policy, and alice the example's.
func TestIdentityPolicyExamples(t *testing.T) {
	const (
		keys      = `"Resource": "arn:aws:kms:*:000000000000:key/*"`
		everybody = `"Resource": "*"`
		use       = `"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt"]`
	)
	for name, tt := range map[string]struct {
		identity []string // statements; KEY is the key's ARN
		says     []sentence
	}{
		"view KMS keys in the console": {
			identity: []string{
				`{"Effect": "Allow", "Action": ["kms:GetPublicKey", "kms:GetKeyRotationStatus", "kms:GetKeyPolicy", "kms:DescribeKey", "kms:ListKeyPolicies", "kms:ListResourceTags"], ` + keys + `}`,
				`{"Effect": "Allow", "Action": ["kms:ListKeys", "kms:ListAliases", "iam:ListRoles", "iam:ListUsers"], ` + everybody + `}`},
			says: []sentence{
				allow("alice", "GetKeyRotationStatus"), allow("alice", "GetKeyPolicy"), allow("alice", "DescribeKey"), allow("alice", "ListKeyPolicies"),
				allow("alice", "ListResourceTags"), allow("alice", "ListKeys"), allow("alice", "ListAliases"),
				deny("alice", "Encrypt"), deny("alice", "CreateKey"), deny("alice", "TagResource", "a=b"), deny("alice", "DisableKey"), deny("alice", "ScheduleKeyDeletion", "days=7"),
				deny("alice", "CreateAlias", "alias/a"), deny("bob", "ListKeys"), deny("bob", "ListAliases"), deny("bob", "ListKeyPolicies"), deny("bob", "ListResourceTags"),
			},
		},
		"create KMS keys": {
			identity: []string{`{"Effect": "Allow", "Action": "kms:CreateKey", ` + everybody + `}`},
			says: []sentence{
				allow("alice", "CreateKey"), deny("alice", "CreateKey", "a=b"), // tags are another permission
				deny("alice", "DescribeKey"), deny("alice", "ListKeys"), deny("bob", "CreateKey"),
			},
		},
		"create KMS keys with tags and aliases": {
			identity: []string{
				`{"Effect": "Allow", "Action": "kms:TagResource", ` + keys + `}`,
				`{"Effect": "Allow", "Action": "kms:CreateAlias", "Resource": "arn:aws:kms:*:000000000000:alias/*"}`,
				`{"Effect": "Allow", "Action": ["kms:CreateKey", "kms:ListKeys", "kms:ListAliases"], ` + everybody + `}`},
			says: []sentence{
				allow("alice", "CreateKey"), allow("alice", "CreateKey", "a=b"), allow("alice", "ListKeys"), allow("alice", "ListAliases"), allow("alice", "TagResource", "a=b"),
				deny("alice", "CreateAlias", "alias/a"), // the permission on the key is the key policy's to give
				deny("alice", "Encrypt"), deny("alice", "UntagResource", "a=b"),
			},
		},
		"an alias needs both permissions": {
			identity: []string{
				`{"Effect": "Allow", "Action": "kms:CreateAlias", "Resource": "arn:aws:kms:*:000000000000:alias/*"}`,
				`{"Effect": "Allow", "Action": "kms:CreateAlias", "Resource": "KEY"}`},
			says: []sentence{allow("alice", "CreateAlias", "alias/a"), deny("bob", "CreateAlias", "alias/b")},
		},
		"encrypt and decrypt with any KMS key in an account": {
			identity: []string{`{` + use + `, ` + keys + `}`},
			says: []sentence{
				allow("alice", "Encrypt"), allow("alice", "Decrypt", "a=b"),
				deny("alice", "GenerateDataKey"), deny("alice", "ReEncrypt"), deny("alice", "DescribeKey"), deny("bob", "Encrypt"), deny("stranger", "Encrypt"),
			},
		},
		"encrypt and decrypt with the KMS keys of another account": {
			identity: []string{`{` + use + `, "Resource": "arn:aws:kms:*:111122223333:key/*"}`},
			says:     []sentence{deny("alice", "Encrypt"), deny("alice", "Decrypt")},
		},
		"encrypt and decrypt with any KMS key in an account and Region": {
			identity: []string{`{` + use + `, "Resource": ["arn:aws:kms:us-east-1:000000000000:key/*"]}`},
			says:     []sentence{allow("alice", "Encrypt"), allow("alice", "Decrypt"), deny("alice", "GenerateDataKey")},
		},
		"encrypt and decrypt in another Region": {
			identity: []string{`{` + use + `, "Resource": ["arn:aws:kms:us-west-2:000000000000:key/*"]}`},
			says:     []sentence{deny("alice", "Encrypt"), deny("alice", "Decrypt")},
		},
		"encrypt and decrypt with specific KMS keys": {
			identity: []string{`{` + use + `, "Resource": ["arn:aws:kms:us-east-1:000000000000:key/0987dcba-09fe-87dc-65ba-ab0987654321", "KEY"]}`},
			says:     []sentence{allow("alice", "Encrypt"), allow("alice", "Decrypt"), deny("alice", "DescribeKey")},
		},
		"encrypt and decrypt with other KMS keys": {
			identity: []string{`{` + use + `, "Resource": ["arn:aws:kms:us-east-1:000000000000:key/0987dcba-09fe-87dc-65ba-ab0987654321"]}`},
			says:     []sentence{deny("alice", "Encrypt"), deny("alice", "Decrypt")},
		},
		// "You cannot use a key id, alias name, or alias ARN to identify a KMS key in an
		// IAM policy statement" (cmks-in-iam-policies).
		"an alias ARN is no KMS key": {
			identity: []string{`{` + use + `, "Resource": "arn:aws:kms:us-east-1:000000000000:alias/a"}`},
			says:     []sentence{allow("root", "CreateAlias", "alias/a"), deny("alice", "Encrypt"), deny("alice", "DescribeKey by alias/a")},
		},
		"prevent a user from disabling or deleting any KMS keys": {
			identity: []string{anything, `{"Effect": "Deny", "Action": ["kms:DisableKey", "kms:ScheduleKeyDeletion"], ` + everybody + `}`},
			says: []sentence{
				deny("alice", "DisableKey"), deny("alice", "ScheduleKeyDeletion", "days=7"), allow("alice", "Encrypt"), allow("alice", "EnableKey"),
				allow("root", "DisableKey"), allow("root", "ScheduleKeyDeletion", "days=7"),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, nil)
			s.attach("alice", tt.identity...)
			s.check(tt.says...)
		})
	}
}

// TestAliasExamples is "Controlling access to aliases" (alias-access): an alias
// operation is a permission on the alias and one on each key that it is about.
func TestAliasExamples(t *testing.T) {
	s := newStage(t, nil)
	ctx, root := t.Context(), s.clients["root"]
	other := arnPrefix + "key/" + newKey(t, root)
	alias := aws.String("alias/test-key")
	to := func(resource string) string {
		return `{"Effect": "Allow", "Action": ["kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias"], "Resource": "` + resource + `"}`
	}
	theAlias, current, next := to(arnPrefix+*alias), to(s.key), to(other)
	for _, op := range []struct {
		name  string
		needs []string
		ready func() error
		do    func(c *kms.Client) error
	}{
		{"CreateAlias", []string{theAlias, current}, func() error { return nil }, func(c *kms.Client) error {
			_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: &s.key})
			return err
		}},
		{"UpdateAlias", []string{theAlias, current, next}, func() error {
			_, err := root.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: &s.key})
			return err
		}, func(c *kms.Client) error {
			_, err := c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: &other})
			return err
		}},
		{"DeleteAlias", []string{theAlias, next}, func() error { return nil }, func(c *kms.Client) error {
			_, err := c.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: alias})
			return err
		}},
	} {
		if err := op.ready(); err != nil {
			t.Fatal(err)
		}
		for i := range op.needs {
			s.attach("alice", slices.Delete(slices.Clone(op.needs), i, i+1)...)
			refused(t, op.do(s.clients["alice"]), "AccessDeniedException")
		}
		s.attach("alice", op.needs...)
		if err := op.do(s.clients["alice"]); err != nil {
			t.Errorf("%s with every permission that it needs: %v", op.name, err)
		}
	}

	// "Limiting alias permissions".
	s.attach("alice", to(arnPrefix+"alias/*"), to(s.key),
		`{"Effect": "Deny", "Action": ["kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias"], "Resource": "`+arnPrefix+`alias/Restricted*"}`)
	s.check(allow("alice", "CreateAlias", "alias/free"), deny("alice", "CreateAlias", "alias/Restricted"), deny("alice", "CreateAlias", "alias/Restricted/a"),
		allow("alice", "CreateAlias", "alias/restricted"))
	origin := func(value string) string {
		return `{"Effect": "Allow", "Action": "kms:CreateAlias", "Resource": "arn:aws:kms:us-east-1:000000000000:key/*", "Condition": {"StringEquals": {"kms:KeyOrigin": "` + value + `"}}}`
	}
	s.attach("alice", to(arnPrefix+"alias/*"), origin("AWS_KMS"))
	s.check(allow("alice", "CreateAlias", "alias/ours"))
	s.attach("alice", to(arnPrefix+"alias/*"), origin("EXTERNAL"))
	s.check(deny("alice", "CreateAlias", "alias/theirs"))
}
