package policy_test

import (
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// The examples of the AWS KMS Developer Guide and the IAM User Guide, with this
// package's people in the place of theirs.

var cast = strings.NewReplacer(
	"111122223333:user/KMSAdminUser", "111122223333:user/mallory",
	"111122223333:user/ExampleUser", "111122223333:user/local/alice",
	"712816755609:user/alice", "111122223333:user/local/alice",
	"111122223333:role/KMSAdminRole", "111122223333:role/app/Administrators",
	"111122223333:role/ExampleRole", "111122223333:role/app/Engineering",
	"111122223333:role/RoleForExampleApp", "111122223333:role/app/Engineering",
	"111122223333:role/TestTeam", "111122223333:role/app/Engineering",
	"111122223333:role/testers", "111122223333:role/app/Engineering",
	"111122223333:role/developer", "111122223333:role/app/Engineering",
)

// consolePolicy is "Creating a key policy", example key policy: what the console writes.
var consolePolicy = cast.Replace(`{
  "Version": "2012-10-17",
  "Id": "key-consolepolicy-2",
  "Statement": [
    {
      "Sid": "Enable IAM policies",
      "Effect": "Allow",
      "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
      "Action": "kms:*",
      "Resource": "*"
    },
    {
      "Sid": "Allow access for Key Administrators",
      "Effect": "Allow",
      "Principal": {"AWS": [
        "arn:aws:iam::111122223333:user/KMSAdminUser",
        "arn:aws:iam::111122223333:role/KMSAdminRole"
      ]},
      "Action": [
        "kms:Create*", "kms:Describe*", "kms:Enable*", "kms:List*", "kms:Put*", "kms:Update*", "kms:Revoke*", "kms:Disable*",
        "kms:Get*", "kms:Delete*", "kms:TagResource", "kms:UntagResource", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"
      ],
      "Resource": "*"
    },
    {
      "Sid": "Allow use of the key",
      "Effect": "Allow",
      "Principal": {"AWS": [
        "arn:aws:iam::111122223333:user/ExampleUser",
        "arn:aws:iam::111122223333:role/ExampleRole",
        "arn:aws:iam::444455556666:root"
      ]},
      "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
      "Resource": "*"
    },
    {
      "Sid": "Allow attachment of persistent resources",
      "Effect": "Allow",
      "Principal": {"AWS": [
        "arn:aws:iam::111122223333:user/ExampleUser",
        "arn:aws:iam::111122223333:role/ExampleRole",
        "arn:aws:iam::444455556666:root"
      ]},
      "Action": ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
      "Resource": "*",
      "Condition": {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    }
  ]
}`)

func TestConsolePolicy(t *testing.T) {
	w := given(t, policies{key: consolePolicy})
	// The administrator manages the key and cannot use it.
	for _, action := range []string{"kms:CreateGrant", "kms:DescribeKey", "kms:EnableKeyRotation", "kms:ListGrants", "kms:PutKeyPolicy", "kms:UpdateAlias", "kms:GetKeyPolicy", "kms:DeleteAlias", "kms:TagResource", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"} {
		w.allow("mallory", action)
	}
	for _, action := range []string{"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ImportKeyMaterial"} {
		w.deny("mallory", action)
	}
	// Users use it and cannot manage it.
	for _, who := range []string{"alice", "carol", "dave"} {
		for _, action := range []string{"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey"} {
			w.allow(who, action)
		}
		for _, action := range []string{"kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:CreateGrant", "kms:RetireGrant"} {
			w.deny(who, action)
		}
		// Grants only through a service.
		for _, action := range []string{"kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"} {
			w.allow(who, action, with{"kms:GrantIsForAWSResource": "true"})
			w.deny(who, action, with{"kms:GrantIsForAWSResource": "false"})
		}
		w.deny(who, "kms:Verify", with{"kms:GrantIsForAWSResource": "true"})
	}
	w.allow("root", "kms:PutKeyPolicy")
	// The other account's users need an IAM policy there.
	w.allow("theirs", "kms:Decrypt")
	w.deny("bob", "kms:Decrypt")
	w = given(t, policies{key: consolePolicy, identity: []string{`{
		"Sid": "AllowUseOfKeyInAccount111122223333",
		"Effect": "Allow",
		"Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
		"Resource": "` + keyARN + `"}`}})
	w.allow("bob", "kms:Decrypt")
	w.deny("bob", "kms:CreateGrant", with{"kms:GrantIsForAWSResource": "true"})
	w.deny("bob", "kms:PutKeyPolicy")
	w.deny("bob", "kms:Decrypt", with{"resource": otherKey})
}

// TestExternalUsers is "Allowing users in other accounts to use a KMS key", with particular
// users.
func TestExternalUsers(t *testing.T) {
	key := `{
		"Sid": "Allow an external account to use this KMS key",
		"Effect": "Allow",
		"Principal": {"AWS": ["arn:aws:iam::444455556666:role/ExampleRole", "arn:aws:iam::444455556666:user/bob"]},
		"Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
		"Resource": "*"}`
	given(t, policies{key: key}).deny("bob", "kms:Decrypt")
	w := given(t, policies{key: key, identity: []string{`{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}`}})
	w.allow("bob", "kms:Decrypt")
	w.deny("bob", "kms:PutKeyPolicy")
	w.deny("theirs", "kms:Decrypt")
}

// example runs a statement of the guides: carol or alice, one action.
func example(t *testing.T, statement string) *world {
	t.Helper()
	return given(t, policies{key: cast.Replace(statement) + ", " + to(thirds)})
}

func TestEncryptionContextExamples(t *testing.T) {
	app, stage, dept, project := "kms:EncryptionContext:AppName", "kms:EncryptionContext:Stage", "kms:EncryptionContext:Department", "kms:EncryptionContext:Project"

	w := example(t, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/RoleForExampleApp"}, "Action": "kms:GenerateDataKey", "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:AppName": "ExampleApp"}}}`)
	w.allow("carol", "kms:GenerateDataKey", with{app: "ExampleApp"})
	w.allow("carol", "kms:GenerateDataKey", with{app: "ExampleApp", stage: "Test"})
	w.deny("carol", "kms:GenerateDataKey", with{app: "exampleapp"})
	w.deny("carol", "kms:GenerateDataKey")
	w.deny("carol", "kms:Decrypt", with{app: "ExampleApp"})

	// Exactly this pair.
	w = example(t, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::712816755609:user/alice"}, "Action": "kms:GenerateDataKey", "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:AppName": "ExampleApp"}, "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["AppName"]}}}`)
	w.allow("alice", "kms:GenerateDataKey", with{app: "ExampleApp", "kms:EncryptionContextKeys": []string{"AppName"}})
	w.deny("alice", "kms:GenerateDataKey", with{app: "ExampleApp", stage: "Test", "kms:EncryptionContextKeys": []string{"AppName", "Stage"}})
	w.deny("alice", "kms:GenerateDataKey")

	// Never this pair.
	w = given(t, policies{key: to("*") + cast.Replace(`, {"Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::111122223333:role/RoleForExampleApp"}, "Action": "kms:Decrypt", "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:Stage": ["Restricted", "Production"]}}}`)})
	w.forbid("carol", "kms:Decrypt", with{stage: "Restricted"})
	w.forbid("carol", "kms:Decrypt", with{stage: "Production"})
	w.allow("carol", "kms:Decrypt", with{stage: "Test"})
	w.allow("carol", "kms:Decrypt")
	w.allow("alice", "kms:Decrypt", with{stage: "Restricted"})

	// Both pairs; exactly both.
	both := `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/RoleForExampleApp"}, "Action": "kms:Decrypt", "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:Department": "IT", "kms:EncryptionContext:Project": "Alpha"}`
	w = example(t, both+"}}")
	w.allow("carol", "kms:Decrypt", with{dept: "IT", project: "Alpha"})
	w.deny("carol", "kms:Decrypt", with{dept: "IT"})
	w.deny("carol", "kms:Decrypt", with{dept: "IT", project: "Beta"})
	w = example(t, both+`, "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["Department", "Project"]}}}`)
	w.allow("carol", "kms:Decrypt", with{dept: "IT", project: "Alpha", "kms:EncryptionContextKeys": []string{"Project", "Department"}})
	w.deny("carol", "kms:Decrypt", with{dept: "IT", project: "Alpha", "kms:EncryptionContextKeys": []string{"Project", "Department", "Stage"}})

	// A key in any case; in the right case; some context at all.
	w = example(t, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/RoleForExampleApp"}, "Action": "kms:Decrypt", "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:Appname": "ExampleApp"}}}`)
	w.allow("carol", "kms:Decrypt", with{app: "ExampleApp"})
	w = example(t, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/RoleForExampleApp"}, "Action": "kms:GenerateDataKey", "Resource": "*",
		"Condition": {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "AppName"}, "StringEquals": {"kms:EncryptionContext:AppName": "ExampleApp"}}}`)
	w.allow("carol", "kms:GenerateDataKey", with{app: "ExampleApp", "kms:EncryptionContextKeys": []string{"AppName", "Project"}})
	w.deny("carol", "kms:GenerateDataKey", with{"kms:EncryptionContext:appname": "ExampleApp", "kms:EncryptionContextKeys": []string{"appname"}})
	w.deny("carol", "kms:GenerateDataKey", with{app: "Other", "kms:EncryptionContextKeys": []string{"AppName"}})
	w.deny("carol", "kms:GenerateDataKey")
	w = example(t, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/RoleForExampleApp"}, "Action": ["kms:Encrypt", "kms:GenerateDataKey*"], "Resource": "*",
		"Condition": {"Null": {"kms:EncryptionContextKeys": false}}}`)
	w.allow("carol", "kms:Encrypt", with{"kms:EncryptionContextKeys": []string{"x"}})
	w.deny("carol", "kms:Encrypt")

	// The caller's name as a value.
	w = example(t, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/ExampleUser"}, "Action": ["kms:Decrypt", "kms:Encrypt"], "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:user": "${aws:username}"}}}`)
	w.allow("alice", "kms:Decrypt", with{"kms:EncryptionContext:user": "alice"})
	w.deny("alice", "kms:Decrypt", with{"kms:EncryptionContext:user": "bob"})
	w = example(t, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/TestTeam"}, "Action": ["kms:Decrypt", "kms:Encrypt"], "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:sub": "${cognito-identity.amazonaws.com:sub}"}}}`)
	w.allow("carol", "kms:Decrypt", with{"kms:EncryptionContext:sub": "us-east-1:42", "cognito-identity.amazonaws.com:sub": "us-east-1:42"})
	w.deny("carol", "kms:Decrypt", with{"kms:EncryptionContext:sub": "us-east-1:42"})

	// A volume's public files: what kmsfs uses it for.
	w = example(t, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/ExampleUser"}, "Action": "kms:Decrypt", "Resource": "*",
		"Condition": {"StringLike": {"kms:EncryptionContext:kmsfs:path": "/public/*"}}}`)
	w.allow("alice", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/public/a/b.txt"})
	w.deny("alice", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/private/public/a"})
	w.deny("alice", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/public"})
	w.deny("alice", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:volume": "/public/a"})
}

func TestConditionKeyExamples(t *testing.T) {
	user := `"Principal": {"AWS": "arn:aws:iam::111122223333:user/ExampleUser"}, "Resource": "*", `
	role := `"Principal": {"AWS": "arn:aws:iam::111122223333:role/testers"}, "Resource": "*", `

	// kms:CallerAccount and kms:ViaService: the key of Amazon EBS.
	w := example(t, `{"Sid": "Allow access through EBS for all principals in the account that are authorized to use EBS", "Effect": "Allow", "Principal": {"AWS": "*"},
		"Condition": {"StringEquals": {"kms:CallerAccount": "111122223333", "kms:ViaService": "ec2.us-west-2.amazonaws.com"}},
		"Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:DescribeKey"], "Resource": "*"}`)
	ebs := with{"kms:CallerAccount": ours, "kms:ViaService": "ec2.us-west-2.amazonaws.com"}
	for _, who := range []string{"alice", "mallory", "carol", "root"} {
		w.allow(who, "kms:CreateGrant", ebs)
		w.deny(who, "kms:PutKeyPolicy", ebs)
		w.deny(who, "kms:Decrypt", with{"kms:CallerAccount": ours})
		w.deny(who, "kms:Decrypt", with{"kms:CallerAccount": ours, "kms:ViaService": "rds.us-west-2.amazonaws.com"})
	}
	w.deny("bob", "kms:CreateGrant", with{"kms:CallerAccount": theirs, "kms:ViaService": "ec2.us-west-2.amazonaws.com"})

	w = example(t, `{"Effect": "Allow", `+user+`"Action": ["kms:Encrypt", "kms:Decrypt"], "Condition": {"StringEquals": {"kms:ViaService": ["ec2.us-west-2.amazonaws.com", "rds.us-west-2.amazonaws.com"]}}}`)
	w.allow("alice", "kms:Decrypt", with{"kms:ViaService": "rds.us-west-2.amazonaws.com"})
	w.deny("alice", "kms:Decrypt", with{"kms:ViaService": "lambda.us-west-2.amazonaws.com"})
	w.deny("alice", "kms:Decrypt")
	w = example(t, `{"Effect": "Deny", `+user+`"Action": ["kms:Encrypt"], "Condition": {"StringEquals": {"kms:ViaService": ["lambda.us-west-2.amazonaws.com"]}}}, {"Effect": "Allow", `+user+`"Action": "kms:*"}`)
	w.forbid("alice", "kms:Encrypt", with{"kms:ViaService": "lambda.us-west-2.amazonaws.com"})
	w.allow("alice", "kms:Encrypt")

	// Deny unless.
	w = given(t, policies{key: to("*"), identity: nil})
	w.allow("carol", "kms:Decrypt")
	w = given(t, policies{key: to("*") + cast.Replace(`, {"Sid": "Allow only one encryption algorithm with this asymmetric KMS key", "Effect": "Deny", `+role+`
		"Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*"], "Condition": {"StringNotEquals": {"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}}}`)})
	w.allow("carol", "kms:Decrypt", with{"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_256"})
	w.forbid("carol", "kms:Decrypt", with{"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_1"})
	w.forbid("carol", "kms:Decrypt")
	w.allow("alice", "kms:Decrypt", with{"kms:EncryptionAlgorithm": "RSAES_OAEP_SHA_1"})

	// Grants.
	w = example(t, `{"Effect": "Allow", `+user+`"Action": "kms:CreateGrant", "Condition": {"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt", "ReEncryptTo"]}}}`)
	w.allow("alice", "kms:CreateGrant", with{"kms:GrantOperations": []string{"Encrypt"}})
	w.allow("alice", "kms:CreateGrant", with{"kms:GrantOperations": []string{"ReEncryptTo", "Encrypt"}})
	w.deny("alice", "kms:CreateGrant", with{"kms:GrantOperations": []string{"Encrypt", "Decrypt"}})
	w = example(t, `{"Effect": "Allow", `+user+`"Action": "kms:CreateGrant", "Condition": {"StringEquals": {"kms:GrantConstraintType": "EncryptionContextEquals"}}}`)
	w.allow("alice", "kms:CreateGrant", with{"kms:GrantConstraintType": "EncryptionContextEquals"})
	w.deny("alice", "kms:CreateGrant", with{"kms:GrantConstraintType": "EncryptionContextSubset"})
	w.deny("alice", "kms:CreateGrant")
	w = example(t, `{"Effect": "Allow", `+user+`"Action": "kms:CreateGrant", "Condition": {"StringEquals": {"kms:RetiringPrincipal": ["arn:aws:iam::111122223333:role/LimitedAdminRole", "arn:aws:iam::111122223333:user/OpsAdmin"]}}}`)
	w.allow("alice", "kms:CreateGrant", with{"kms:RetiringPrincipal": "arn:aws:iam::111122223333:user/OpsAdmin"})
	w.deny("alice", "kms:CreateGrant", with{"kms:RetiringPrincipal": aliceARN})

	// Numbers, booleans, null.
	w = example(t, `{"Effect": "Allow", `+user+`"Action": "kms:ImportKeyMaterial", "Condition": {"NumericLessThanEquals": {"kms:ValidTo": "1546257599.0"}}}`)
	w.allow("alice", "kms:ImportKeyMaterial", with{"kms:ValidTo": "1546257599"})
	w.deny("alice", "kms:ImportKeyMaterial", with{"kms:ValidTo": "1546257600"})
	w.deny("alice", "kms:ImportKeyMaterial")
	w = example(t, `{"Effect": "Allow", `+user+`"Action": "kms:ReEncrypt*", "Condition": {"Bool": {"kms:ReEncryptOnSameKey": true}}}`)
	w.allow("alice", "kms:ReEncryptTo", with{"kms:ReEncryptOnSameKey": "true"})
	w.deny("alice", "kms:ReEncryptTo", with{"kms:ReEncryptOnSameKey": "false"})
	w = example(t, `{"Effect": "Allow", `+user+`"Action": "kms:PutKeyPolicy", "Condition": {"Null": {"kms:BypassPolicyLockoutSafetyCheck": true}}}`)
	w.allow("alice", "kms:PutKeyPolicy")
	w.deny("alice", "kms:PutKeyPolicy", with{"kms:BypassPolicyLockoutSafetyCheck": "true"})
	w = example(t, `{"Effect": "Allow", `+user+`"Action": ["kms:GenerateDataKeyPair", "kms:GenerateDataKeyPairWithoutPlaintext"], "Condition": {"StringLike": {"kms:DataKeyPairSpec": "RSA*"}}}`)
	w.allow("alice", "kms:GenerateDataKeyPair", with{"kms:DataKeyPairSpec": "RSA_2048"})
	w.deny("alice", "kms:GenerateDataKeyPair", with{"kms:DataKeyPairSpec": "ECC_NIST_P256"})

	// Aliases in a request.
	w = example(t, `{"Sid": "Key policy using a request alias condition", "Effect": "Allow", `+role+`"Action": ["kms:Decrypt", "kms:GenerateDataKey*", "kms:DescribeKey"], "Condition": {"StringLike": {"kms:RequestAlias": "alias/*alpha*"}}}`)
	w.allow("carol", "kms:DescribeKey", with{"kms:RequestAlias": "alias/project-alpha"})
	w.deny("carol", "kms:DescribeKey", with{"kms:RequestAlias": "alias/beta"})
	w.deny("carol", "kms:DescribeKey")
}

// TestABAC is "ABAC for AWS KMS": tags and aliases of the key, in IAM policies only.
func TestABAC(t *testing.T) {
	tag := `{"Sid": "IAMPolicyWithResourceTag", "Effect": "Allow", "Action": ["kms:GenerateDataKeyWithoutPlaintext", "kms:Decrypt"], "Resource": "arn:aws:kms:us-east-1:111122223333:key/*",
		"Condition": {"StringEquals": {"aws:ResourceTag/Project": "Alpha"}}}`
	w := given(t, policies{key: policy.DefaultKeyPolicy(ours), identity: []string{tag}})
	w.allow("alice", "kms:Decrypt", with{"aws:ResourceTag/Project": "Alpha"})
	w.deny("alice", "kms:Decrypt", with{"aws:ResourceTag/Project": "Beta"})
	w.deny("alice", "kms:Decrypt")
	w.deny("alice", "kms:Decrypt", with{"aws:ResourceTag/Project": "Alpha", "resource": "arn:aws:kms:eu-west-1:111122223333:key/x"})

	w = given(t, policies{key: policy.DefaultKeyPolicy(ours), identity: []string{
		`{"Sid": "IAMAllowCryptographicOperations", "Effect": "Allow", "Action": ["kms:Encrypt", "kms:GenerateDataKey*", "kms:Decrypt", "kms:ReEncrypt*"], "Resource": "arn:aws:kms:*:111122223333:key/*"},
		 {"Sid": "IAMDenyOnTag", "Effect": "Deny", "Action": "kms:*", "Resource": "arn:aws:kms:*:111122223333:key/*", "Condition": {"StringEquals": {"aws:ResourceTag/Type": "Reserved"}}},
		 {"Sid": "IAMDenyNoTag", "Effect": "Deny", "Action": "kms:*", "Resource": "arn:aws:kms:*:111122223333:key/*", "Condition": {"Null": {"aws:ResourceTag/Type": "true"}}}`}})
	w.allow("alice", "kms:Decrypt", with{"aws:ResourceTag/Type": "Free"})
	w.forbid("alice", "kms:Decrypt", with{"aws:ResourceTag/Type": "Reserved"})
	w.forbid("alice", "kms:Decrypt")

	aliases := with{"kms:ResourceAliases": []string{"alias/Test1", "alias/Test2"}}
	w = given(t, policies{key: policy.DefaultKeyPolicy(ours), identity: []string{
		`{"Sid": "AliasBasedIAMPolicy", "Effect": "Allow", "Action": ["kms:EnableKey", "kms:DisableKey"], "Resource": "arn:aws:kms:*:111122223333:key/*",
		  "Condition": {"ForAllValues:StringLike": {"kms:ResourceAliases": ["alias/*Test*"]}, "ForAnyValue:StringLike": {"kms:ResourceAliases": ["alias/*Test*"]}}}`}})
	w.allow("alice", "kms:EnableKey", aliases)
	w.deny("alice", "kms:EnableKey", with{"kms:ResourceAliases": []string{"alias/Test1", "alias/finance"}})
	w.deny("alice", "kms:EnableKey")

	// In a key policy they are as if they were not there, also as variables.
	in := func(condition string) policies {
		return policies{key: `{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*", "Condition": ` + condition + `}`}
	}
	both := with{"aws:ResourceTag/Project": "Alpha", "kms:ResourceAliases": []string{"alias/Test1"}, "kms:Test": "Alpha"}
	given(t, in(`{"StringEquals": {"aws:ResourceTag/Project": "Alpha"}}`)).deny("alice", "kms:Decrypt", both)
	given(t, in(`{"StringEquals": {"AWS:resourceTag/Project": "Alpha"}}`)).deny("alice", "kms:Decrypt", both)
	given(t, in(`{"Null": {"aws:ResourceTag/Project": true}}`)).allow("alice", "kms:Decrypt", both)
	given(t, in(`{"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/Test1"}}`)).deny("alice", "kms:Decrypt", both)
	given(t, in(`{"Null": {"KMS:resourcealiases": true}}`)).allow("alice", "kms:Decrypt", both)
	given(t, in(`{"StringEquals": {"kms:Test": "${aws:ResourceTag/Project}"}}`)).deny("alice", "kms:Decrypt", both)
	given(t, in(`{"StringEquals": {"kms:Test": "${kms:Test}"}}`)).allow("alice", "kms:Decrypt", both)
	// Only these: keys that look alike count.
	given(t, in(`{"StringEquals": {"kms:ResourceAliasesX": "1", "aws:RequestTag/Project": "2"}}`)).allow("alice", "kms:Decrypt", with{"kms:ResourceAliasesX": "1", "aws:RequestTag/Project": "2"})
}

// TestRoleInAnotherAccount is "Troubleshooting key access", example 2.
func TestRoleInAnotherAccount(t *testing.T) {
	key := `{
      "Id": "key-policy-acct-2",
      "Version": "2012-10-17",
      "Statement": [
          {"Sid": "Permission to use IAM policies", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::444455556666:root"}, "Action": "kms:*", "Resource": "*"},
          {"Sid": "Allow account 1 to use this KMS key", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
           "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"],
           "Resource": "*"}
      ]}`
	theirKey := with{"resource": "arn:aws:kms:us-west-2:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab", "account": theirs}
	iam := `{"Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey", "kms:PutKeyPolicy"],
		"Resource": ["arn:aws:kms:us-west-2:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab"]}`
	w := given(t, policies{key: key, identity: []string{iam}})
	w.allow("carol", "kms:Decrypt", theirKey)
	w.deny("carol", "kms:PutKeyPolicy", theirKey)
	given(t, policies{key: key}).deny("carol", "kms:Decrypt", theirKey)
}

// TestUserGuideExamples are the tables of "Conditions with multiple context keys or
// values" and "Single-valued vs. multivalued context keys".
func TestUserGuideExamples(t *testing.T) {
	condition := func(arn string) policies {
		return policies{identity: []string{`{"Sid": "ExamplePolicy", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::amzn-s3-demo-bucket",
			"Condition": {"StringEquals": {"aws:RequestTag/department": ["finance", "hr", "legal"], "aws:RequestTag/role": ["audit", "security"]},
			"` + arn + `": {"aws:SourceArn": ["arn:aws:iam::222222222222:user/Ana", "arn:aws:iam::222222222222:user/Mary"]}}}`}}
	}
	facts := func(department, role, who string) with {
		f := with{"resource": "arn:aws:s3:::amzn-s3-demo-bucket", "account": "", "aws:SourceArn": "arn:aws:iam::222222222222:user/" + who}
		if department != "" {
			f["aws:RequestTag/department"] = department
		}
		if role != "" {
			f["aws:RequestTag/role"] = role
		}
		return f
	}
	w := given(t, condition("ArnLike"))
	w.allow("alice", "s3:ListBucket", facts("legal", "audit", "Mary"))
	w.deny("alice", "s3:ListBucket", facts("hr", "audit", "Nikki"))
	w.deny("alice", "s3:ListBucket", facts("hr", "payroll", "Mary"))
	w.deny("alice", "s3:ListBucket", facts("hr", "", "Mary"))
	w.deny("alice", "s3:ListBucket", facts("", "", "Mary"))
	w = given(t, condition("ArnNotLike"))
	w.allow("alice", "s3:ListBucket", facts("legal", "audit", "Nikki"))
	w.deny("alice", "s3:ListBucket", facts("hr", "audit", "Mary"))
	w.deny("alice", "s3:ListBucket", facts("hr", "payroll", "Nikki"))
	w.deny("alice", "s3:ListBucket", facts("hr", "", "Nikki"))
	w.deny("alice", "s3:ListBucket", facts("", "", "Nikki"))

	tags := func(keys ...string) with { return with{"aws:TagKeys": keys, "account": ""} }
	w = given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "ec2:DeleteTags", "Resource": "*",
		"Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["environment", "cost-center"]}, "Null": {"aws:TagKeys": "false"}}}`}})
	w.allow("alice", "ec2:DeleteTags", tags("environment"))
	w.allow("alice", "ec2:DeleteTags", tags("cost-center"))
	w.allow("alice", "ec2:DeleteTags", tags("environment", "cost-center"))
	w.deny("alice", "ec2:DeleteTags", tags("environment", "dept"))
	w.deny("alice", "ec2:DeleteTags", tags())
	w = given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "ec2:DeleteTags", "Resource": "*", "Condition": {"ForAnyValue:StringEquals": {"aws:TagKeys": ["environment", "cost-center"]}}}`}})
	w.allow("alice", "ec2:DeleteTags", tags("environment"))
	w.allow("alice", "ec2:DeleteTags", tags("environment", "dept"))
	w.deny("alice", "ec2:DeleteTags", tags("dept"))
	w.deny("alice", "ec2:DeleteTags", tags())

	// A role's ARN as aws:PrincipalArn, and everybody: not limited by session policies.
	w = given(t, policies{session: []string{allowNothing}, key: `{"Effect": "Allow", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"ArnEquals": {"aws:PrincipalArn": "` + roleARN + `"}}}`})
	w.allow("carol", "kms:Decrypt")
	w.deny("alice", "kms:Decrypt")

	// "DenyCrossAuditAccess", the alternative to NotPrincipal.
	w = given(t, policies{key: to("*") + `, {"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*", "Condition": {"ArnNotEquals": {"aws:PrincipalArn": "` + roleARN + `"}}}`})
	w.allow("carol", "kms:Decrypt")
	w.forbid("alice", "kms:Decrypt")
	w.forbid("ec2", "kms:Decrypt")

	// Carlos, "Example identity-based and resource-based policy evaluation".
	w = given(t, policies{identity: []string{`
		{"Sid": "AllowS3ListRead", "Effect": "Allow", "Action": ["s3:GetBucketLocation", "s3:ListAllMyBuckets"], "Resource": "arn:aws:s3:::*"},
		{"Sid": "AllowS3Self", "Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::carlossalazar/*", "arn:aws:s3:::carlossalazar"]},
		{"Sid": "DenyS3Logs", "Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::*log*"}`}})
	w.allow("alice", "s3:PutObject", with{"resource": "arn:aws:s3:::carlossalazar/x", "account": ""})
	w.forbid("alice", "s3:PutObject", with{"resource": "arn:aws:s3:::carlossalazar-logs/x", "account": ""})
	w.deny("alice", "s3:PutObject", with{"resource": "arn:aws:s3:::other/x", "account": ""})
}
