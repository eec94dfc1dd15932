package keysvc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// identityPolicyOf is an identity policy of n characters that count: white space does not.
func identityPolicyOf(n int) string {
	const before, after = `{"Version":"2012-10-17",` + "\n\t " + `"Statement":{"Effect":"Allow","Action":"kms:`, `","Resource":"*"}}`
	return before + strings.Repeat("x", n-len(before)-len(after)+3) + after
}

// trustOf is a role trust policy of n characters.
func trustOf(n int) string {
	const before, after = `{"Version":"2012-10-17","Statement":{"Sid":"`, `","Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"sts:AssumeRole"}}`
	return before + strings.Repeat("x", n-len(before)-len(after)) + after
}

func entityTags(n int) []kmsapi.EntityTag {
	tags := make([]kmsapi.EntityTag, n)
	for i := range tags {
		tags[i] = kmsapi.EntityTag{TagKey: fmt.Sprint("k", i), TagValue: "v"}
	}
	return tags
}

// TestIdentityLimits tries each limit at what is allowed and at one more.
func TestIdentityLimits(t *testing.T) {
	srv := keysvctest.NewServer(t)
	i, ctx := srv.Client().Identity(""), t.Context()
	newUser(t, i, "alice")
	_, err := i.CreateRole(ctx, &kmsapi.CreateRoleInput{RoleName: "reader", AssumeRolePolicyDocument: trustRoot})
	must(t, err)
	arn := newManaged(t, i, "p", allowList)
	createUser := func(in kmsapi.CreateUserInput) error {
		_, err := i.CreateUser(ctx, &in)
		return err
	}
	createRole := func(in kmsapi.CreateRoleInput) error {
		_, err := i.CreateRole(ctx, &in)
		return err
	}
	createPolicy := func(in kmsapi.CreatePolicyInput) error {
		_, err := i.CreatePolicy(ctx, &in)
		return err
	}
	tooLong := func(n int) string { return fmt.Sprintf("Member must have length less than or equal to %d", n) }
	for name, limit := range map[string]struct {
		n             int
		do            func(n int) error
		code, message string // of the refusal of one more
	}{
		"name of a user": {64, func(n int) error {
			return createUser(kmsapi.CreateUserInput{UserName: strings.Repeat("u", n)})
		}, kmsapi.CodeValidation, tooLong(64)},
		"name of a role": {64, func(n int) error {
			return createRole(kmsapi.CreateRoleInput{RoleName: strings.Repeat("r", n), AssumeRolePolicyDocument: trustRoot})
		}, kmsapi.CodeValidation, tooLong(64)},
		"name of a policy": {128, func(n int) error {
			return createPolicy(kmsapi.CreatePolicyInput{PolicyName: strings.Repeat("p", n), PolicyDocument: allowList})
		}, kmsapi.CodeValidation, tooLong(128)},
		"path": {512, func(n int) error {
			return createUser(kmsapi.CreateUserInput{UserName: fmt.Sprint("path", n), Path: aws.String("/" + strings.Repeat("p", n-2) + "/")})
		}, kmsapi.CodeValidation, tooLong(512)},
		"access keys": {2, func(int) error {
			_, err := i.CreateAccessKey(ctx, "alice")
			return err
		}, kmsapi.CodeEntityLimitExceeded, "Cannot exceed quota for AccessKeysPerUser: 2"},
		"policies of a user": {10, func(n int) error {
			return i.Attach(ctx, user, "alice", newManaged(t, i, fmt.Sprint("user", n), allowList))
		}, kmsapi.CodeEntityLimitExceeded, "Cannot exceed quota for PoliciesPerUser: 10"},
		"policies of a role": {10, func(n int) error {
			return i.Attach(ctx, role, "reader", newManaged(t, i, fmt.Sprint("role", n), allowList))
		}, kmsapi.CodeEntityLimitExceeded, "Cannot exceed quota for PoliciesPerRole: 10"},
		"inline policies of a user": {2048, func(n int) error {
			if err := i.PutInline(ctx, user, "alice", "first", identityPolicyOf(1000)); err != nil {
				return err
			}
			return i.PutInline(ctx, user, "alice", "second", identityPolicyOf(n-1000))
		}, kmsapi.CodeEntityLimitExceeded, "Maximum policy size of 2048 bytes exceeded for user alice"},
		"inline policies of a role": {10240, func(n int) error {
			return i.PutInline(ctx, role, "reader", "p", identityPolicyOf(n))
		}, kmsapi.CodeEntityLimitExceeded, "Maximum policy size of 10240 bytes exceeded for role reader"},
		"managed policy": {6144, func(n int) error {
			return createPolicy(kmsapi.CreatePolicyInput{PolicyName: fmt.Sprint("long", n), PolicyDocument: identityPolicyOf(n)})
		}, kmsapi.CodeEntityLimitExceeded, "Cannot exceed quota for PolicySize: 6144"},
		"versions": {5 - 1, func(int) error {
			_, err := i.CreatePolicyVersion(ctx, arn, allowRandom)
			return err
		}, kmsapi.CodeEntityLimitExceeded, "A managed policy can have up to 5 versions. Before you create a new version, you must delete an existing version."},
		"trust policy": {2048, func(n int) error { return i.UpdateTrust(ctx, "reader", trustOf(n)) },
			kmsapi.CodeEntityLimitExceeded, "Cannot exceed quota for ACLSizePerRole: 2048"},
		"session": {43200, func(n int) error {
			return i.UpdateRole(ctx, &kmsapi.UpdateRoleInput{RoleName: "reader", MaxSessionDuration: &n})
		},
			kmsapi.CodeValidation, "Member must have value less than or equal to 43200"},
		"description of a role": {1000, func(n int) error {
			return i.UpdateRole(ctx, &kmsapi.UpdateRoleInput{RoleName: "reader", Description: aws.String(strings.Repeat("d", n))})
		}, kmsapi.CodeValidation, tooLong(1000)},
		"tags of a request": {50, func(n int) error { return i.Tag(ctx, role, "reader", entityTags(n)) }, kmsapi.CodeValidation, tooLong(50)},
		"tags of a user": {50, func(n int) error {
			if err := i.Tag(ctx, user, "alice", entityTags(25)); err != nil {
				return err
			}
			return i.Tag(ctx, user, "alice", entityTags(n)[25:])
		}, kmsapi.CodeEntityLimitExceeded, "Cannot exceed quota for TagsPerUser: 50"},
		"key of a tag": {128, func(n int) error {
			return i.Tag(ctx, user, localName, []kmsapi.EntityTag{{TagKey: strings.Repeat("k", n)}})
		}, kmsapi.CodeValidation, tooLong(128)},
		"value of a tag": {256, func(n int) error {
			return i.Tag(ctx, user, localName, []kmsapi.EntityTag{{TagKey: "k", TagValue: strings.Repeat("v", n)}})
		}, kmsapi.CodeValidation, tooLong(256)},
	} {
		t.Run(name, func(t *testing.T) {
			first := limit.n
			if limit.n <= 10 {
				first = 1 // what there may be several of is made one by one
			}
			for n := first; n <= limit.n; n++ {
				if err := limit.do(n); err != nil {
					t.Fatalf("%d: %v", n, err)
				}
			}
			err := limit.do(limit.n + 1)
			mustNot(t, err, limit.code, "")
			if err == nil || !strings.Contains(err.Error(), limit.message) {
				t.Errorf("%d: %v does not say %q", limit.n+1, err, limit.message)
			}
		})
	}
}

func TestNamesOfIdentities(t *testing.T) {
	srv := keysvctest.NewServer(t, keysvctest.WithOwner(7))
	i, ctx := srv.Client().Identity(""), t.Context()
	const badName = "The specified value for userName is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-"
	for name, message := range map[string]string{ // "": is accepted
		"alice+=,.@_-": "", "-": "", "007": "", "4294967296": "",
		"":      "Value null at 'userName' failed to satisfy constraint: Member must not be null",
		"a b":   badName,
		"a*":    badName,
		"a/b":   badName,
		"älice": badName,
		// The users of this machine are there already, the owner and root as the
		// account root.
		"1000": "User with name 1000 already exists.",
		"0":    "The name 0 is the number of a user of this machine.",
		"7":    "The name 7 is the number of a user of this machine.",
	} {
		_, err := i.CreateUser(ctx, &kmsapi.CreateUserInput{UserName: name})
		if (err == nil) != (message == "") || err != nil && !strings.Contains(err.Error(), message) {
			t.Errorf("%q: %v, want %q", name, err, message)
		}
	}
	_, err := i.CreateUser(ctx, &kmsapi.CreateUserInput{UserName: "ALICE+=,.@_-"})
	mustNot(t, err, kmsapi.CodeEntityAlreadyExists, "User with name ALICE+=,.@_- already exists.")

	for n, path := range []string{"", "x", "/x", "x/", "//", "/a//b/", "/a*/", "/a?/", "/${aws:username}/", "/ä/", "/a b/"} {
		_, err := i.CreateUser(ctx, &kmsapi.CreateUserInput{UserName: fmt.Sprint("path", n), Path: &path})
		mustNot(t, err, kmsapi.CodeValidation, "")
	}
	for n, path := range []string{"/local/", "/local/x/"} {
		_, err := i.CreateUser(ctx, &kmsapi.CreateUserInput{UserName: fmt.Sprint("path", n), Path: &path})
		mustNot(t, err, kmsapi.CodeInvalidInput, "The path /local/ is that of the users of this machine.")
	}
	mustNot(t, i.Delete(ctx, user, "1000"), kmsapi.CodeInvalidInput, hereARN+"user/local/1000 is a user of this machine, and as such not in IAM's hands.")

	for name, tags := range map[string][]kmsapi.EntityTag{
		"reserved": {{TagKey: "AWS:x", TagValue: "v"}},
		"twice":    {{TagKey: "a", TagValue: "v"}, {TagKey: "A", TagValue: "w"}},
	} {
		if err := i.Tag(ctx, user, "-", tags); err == nil {
			t.Errorf("tags %s are accepted", name)
		} else {
			mustNot(t, err, kmsapi.CodeInvalidInput, "")
		}
	}
	mustNot(t, i.Tag(ctx, user, "-", []kmsapi.EntityTag{{TagKey: "a*", TagValue: "v"}}), kmsapi.CodeValidation, "")
}

func TestWhatIsInUseIsNotDeleted(t *testing.T) {
	srv := keysvctest.NewServer(t)
	i, ctx := srv.Client().Identity(""), t.Context()
	newUser(t, i, "alice")
	arn := newManaged(t, i, "p", allowList)
	key := newAccessKey(t, i, "alice")
	must(t, i.Attach(ctx, user, "alice", arn))
	must(t, i.Attach(ctx, user, "alice", arn)) // again
	must(t, i.PutInline(ctx, user, "alice", "own", allowList))
	must(t, i.SetBoundary(ctx, user, "alice", arn))
	_, err := i.CreatePolicyVersion(ctx, arn, allowRandom)
	must(t, err)
	for _, step := range []struct {
		what, code, message string
		undo                func() error
	}{
		{"user", kmsapi.CodeDeleteConflict, "Cannot delete entity, must delete access keys first.", func() error { return i.DeleteAccessKey(ctx, "alice", key.AccessKeyID) }},
		{"user", kmsapi.CodeDeleteConflict, "Cannot delete entity, must detach all policies first.", nil},
		{"policy", kmsapi.CodeDeleteConflict, "Cannot delete a policy attached to entities.", func() error { return i.Detach(ctx, user, "alice", arn) }},
		{"policy", kmsapi.CodeDeleteConflict, "Cannot delete a policy attached to entities.", func() error { return i.SetBoundary(ctx, user, "alice", "") }},
		{"policy", kmsapi.CodeDeleteConflict, "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.",
			func() error { return i.DeletePolicyVersion(ctx, arn, "v1") }},
		{"user", kmsapi.CodeDeleteConflict, "Cannot delete entity, must delete policies first.", func() error { return i.DeleteInline(ctx, user, "alice", "own") }},
	} {
		err := i.Delete(ctx, user, "alice")
		if step.what == "policy" {
			err = i.DeletePolicy(ctx, arn)
		}
		mustNot(t, err, step.code, step.message)
		if step.undo != nil {
			must(t, step.undo())
		}
	}
	mustNot(t, i.DeletePolicyVersion(ctx, arn, "v2"), kmsapi.CodeDeleteConflict, "Cannot delete the default version of a policy.")
	mustNot(t, i.Detach(ctx, user, "alice", arn), kmsapi.CodeNoSuchEntity, "Policy "+arn+" was not found.")
	mustNot(t, i.DeleteInline(ctx, user, "alice", "own"), kmsapi.CodeNoSuchEntity, "The user policy with name own cannot be found.")
	mustNot(t, i.SetBoundary(ctx, user, "alice", ""), kmsapi.CodeNoSuchEntity, "User alice does not have a permissions boundary.")
	must(t, i.Delete(ctx, user, "alice"))
	must(t, i.DeletePolicy(ctx, arn))
	mustNot(t, i.Delete(ctx, user, "alice"), kmsapi.CodeNoSuchEntity, "The user with name alice cannot be found.")
	mustNot(t, i.DeletePolicy(ctx, arn), kmsapi.CodeNoSuchEntity, "Policy "+arn+" was not found.")
	if v, err := i.CreatePolicyVersion(ctx, newManaged(t, i, "p", allowList), allowRandom); err != nil || v.PolicyVersion.VersionID != "v2" {
		t.Errorf("the second version of a new policy is %+v, %v", v, err)
	}
}
