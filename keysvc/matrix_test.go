package keysvc_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

// What a row of the matrix says for Enabled, Disabled and PendingDeletion.
const (
	ok       = ""
	disabled = "DisabledException: %s is disabled."
	pending  = "KMSInvalidStateException: %s is pending deletion."
	notYet   = "KMSInvalidStateException: %s is not pending deletion."
)

// subject is a key in some state, and what operations on it need.
type subject struct {
	*kms.Client
	id, other string // other is an enabled key
	blob      []byte // under id
	alias     string // of id
	elsewhere string // an alias of other
	grant     string // on id, to somebody
}

type operation struct {
	do      func(*testing.T, subject) error
	answers [3]string
}

var (
	always      = [3]string{ok, ok, ok}
	crypto      = [3]string{ok, disabled, pending}
	management  = [3]string{ok, ok, pending}
	unaffected  = always // the operation is on no key
	onlyPending = [3]string{notYet, notYet, ok}
)

// newPolicy is not the one that a key has already.
const newPolicy = `{"Statement":{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"kms:*","Resource":"*"}}`

// matrix is AWS's table of key states, for the operations there are.
var matrix = map[string]operation{
	"CancelKeyDeletion": {func(t *testing.T, s subject) error {
		_, err := s.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &s.id})
		return err
	}, onlyPending},
	"CreateAlias": {func(t *testing.T, s subject) error {
		_, err := s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/new"), TargetKeyId: &s.id})
		return err
	}, management},
	"CreateGrant": {func(t *testing.T, s subject) error {
		_, err := s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &s.id, GranteePrincipal: aws.String(localUser(5001)),
			Operations: []types.GrantOperation{types.GrantOperationDecrypt}})
		return err
	}, crypto},
	"CreateKey": {func(t *testing.T, s subject) error {
		_, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{})
		return err
	}, unaffected},
	"Decrypt": {func(t *testing.T, s subject) error {
		_, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: s.blob})
		return err
	}, crypto},
	"DeleteAlias": {func(t *testing.T, s subject) error {
		_, err := s.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: &s.alias})
		return err
	}, always},
	"DescribeKey": {func(t *testing.T, s subject) error {
		_, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &s.id})
		return err
	}, always},
	"DisableKey": {func(t *testing.T, s subject) error {
		_, err := s.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &s.id})
		return err
	}, management},
	"DisableKeyRotation": {func(t *testing.T, s subject) error {
		_, err := s.DisableKeyRotation(t.Context(), &kms.DisableKeyRotationInput{KeyId: &s.id})
		return err
	}, crypto},
	"EnableKey": {func(t *testing.T, s subject) error {
		_, err := s.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &s.id})
		return err
	}, management},
	"EnableKeyRotation": {func(t *testing.T, s subject) error {
		_, err := s.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: &s.id})
		return err
	}, crypto},
	"Encrypt": {func(t *testing.T, s subject) error {
		_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.alias, Plaintext: []byte("p")})
		return err
	}, crypto},
	"GenerateDataKey": {func(t *testing.T, s subject) error {
		_, err := s.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &s.id, KeySpec: types.DataKeySpecAes256})
		return err
	}, crypto},
	"GenerateDataKeyWithoutPlaintext": {func(t *testing.T, s subject) error {
		_, err := s.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &s.id, KeySpec: types.DataKeySpecAes256})
		return err
	}, crypto},
	"GenerateRandom": {func(t *testing.T, s subject) error {
		_, err := s.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
		return err
	}, unaffected},
	"GetKeyLastUsage": {func(t *testing.T, s subject) error {
		_, err := s.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: &s.id})
		return err
	}, always},
	"GetKeyPolicy": {func(t *testing.T, s subject) error {
		_, err := s.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &s.id})
		return err
	}, always},
	"GetKeyRotationStatus": {func(t *testing.T, s subject) error {
		_, err := s.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &s.id})
		return err
	}, always},
	"ListAliases": {func(t *testing.T, s subject) error {
		_, err := s.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: &s.id})
		return err
	}, always},
	"ListKeyPolicies": {func(t *testing.T, s subject) error {
		_, err := s.ListKeyPolicies(t.Context(), &kms.ListKeyPoliciesInput{KeyId: &s.id})
		return err
	}, always},
	"ListGrants": {func(t *testing.T, s subject) error {
		_, err := s.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &s.id})
		return err
	}, always},
	"ListKeyRotations": {func(t *testing.T, s subject) error {
		_, err := s.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: &s.id})
		return err
	}, always},
	"ListKeys": {func(t *testing.T, s subject) error {
		_, err := s.ListKeys(t.Context(), &kms.ListKeysInput{})
		return err
	}, unaffected},
	"ListResourceTags": {func(t *testing.T, s subject) error {
		_, err := s.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &s.id})
		return err
	}, always},
	"PutKeyPolicy": {func(t *testing.T, s subject) error {
		_, err := s.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &s.id, Policy: aws.String(newPolicy)})
		return err
	}, always},
	"ReEncrypt": {func(t *testing.T, s subject) error {
		_, err := s.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: s.blob, DestinationKeyId: &s.other})
		return err
	}, crypto},
	"ReEncrypt, as destination": {func(t *testing.T, s subject) error {
		enc, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.other, Plaintext: []byte("p")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: enc.CiphertextBlob, DestinationKeyId: &s.id})
		return err
	}, crypto},
	"ListRetirableGrants": {func(t *testing.T, s subject) error {
		_, err := s.ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(localUser(5001))})
		return err
	}, unaffected},
	"RetireGrant": {func(t *testing.T, s subject) error {
		_, err := s.RetireGrant(t.Context(), &kms.RetireGrantInput{KeyId: &s.id, GrantId: &s.grant})
		return err
	}, always},
	"RevokeGrant": {func(t *testing.T, s subject) error {
		_, err := s.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: &s.id, GrantId: &s.grant})
		return err
	}, always},
	"RotateKeyOnDemand": {func(t *testing.T, s subject) error {
		_, err := s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &s.id})
		return err
	}, crypto},
	"ScheduleKeyDeletion": {func(t *testing.T, s subject) error {
		_, err := s.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &s.id})
		return err
	}, management},
	"TagResource": {func(t *testing.T, s subject) error {
		_, err := s.TagResource(t.Context(), &kms.TagResourceInput{KeyId: &s.id, Tags: makeTags(0, 1, "v")})
		return err
	}, management},
	"UntagResource": {func(t *testing.T, s subject) error {
		_, err := s.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: &s.id, TagKeys: []string{"k"}})
		return err
	}, management},
	"UpdateAlias, to the key": {func(t *testing.T, s subject) error {
		_, err := s.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: &s.elsewhere, TargetKeyId: &s.id})
		return err
	}, management},
	"UpdateAlias": {func(t *testing.T, s subject) error { // away from the key
		_, err := s.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: &s.alias, TargetKeyId: &s.other})
		return err
	}, always},
	"UpdateKeyDescription": {func(t *testing.T, s subject) error {
		_, err := s.UpdateKeyDescription(t.Context(), &kms.UpdateKeyDescriptionInput{KeyId: &s.id, Description: aws.String("d")})
		return err
	}, management},
}

// TestKeyStateMatrix does every operation on a key of each state, and looks
// that a refused one left the key as it was.
func TestKeyStateMatrix(t *testing.T) {
	for _, name := range keysvc.ActionNames() {
		if _, known := matrix[name]; !known {
			t.Errorf("the matrix lacks %s", name)
		}
	}
	for i, state := range []types.KeyState{types.KeyStateEnabled, types.KeyStateDisabled, types.KeyStatePendingDeletion} {
		c := sdk(keysvctest.NewServer(t))
		for name, op := range matrix {
			s := newSubject(t, c, state)
			before := snapshot(t, s)
			err := op.do(t, s)
			switch want := op.answers[i]; {
			case want == ok && err != nil:
				t.Errorf("%s in state %s: %v", name, state, err)
			case want != ok:
				code, message, _ := strings.Cut(fmt.Sprintf(want, arnPrefix+"key/"+s.id), ": ")
				t.Run(fmt.Sprint(name, " in state ", state), func(t *testing.T) { says(t, err, code, message) })
				if after := snapshot(t, s); after != before {
					t.Errorf("%s in state %s was refused and did something", name, state)
				}
			}
			if _, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/new")}); err != nil {
				refused(t, err, "NotFoundException")
			}
		}
	}
}

// TestEveryOperationIsAuthorized does them all as somebody who may do nothing.
func TestEveryOperationIsAuthorized(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c, nobody := sdk(srv), sdkAs(srv, otherUID)
	for _, state := range []types.KeyState{types.KeyStateEnabled, types.KeyStatePendingDeletion} {
		for name, op := range matrix {
			if name == "ReEncrypt, as destination" {
				continue // its first step is refused
			}
			s := newSubject(t, c, state)
			before := snapshot(t, s)
			s.Client = nobody
			err := op.do(t, s)
			t.Run(fmt.Sprint(name, " in state ", state), func(t *testing.T) { refused(t, err, "AccessDeniedException") })
			s.Client = c
			if snapshot(t, s) != before {
				t.Errorf("%s was refused and did something", name)
			}
		}
	}
}

// TestOperationsWithoutAliases: these take a key's id or ARN only.
func TestOperationsWithoutAliases(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	for _, name := range []string{"CancelKeyDeletion", "CreateGrant", "DisableKey", "DisableKeyRotation", "EnableKey", "EnableKeyRotation", "GetKeyLastUsage",
		"GetKeyPolicy", "GetKeyRotationStatus", "ListAliases", "ListGrants", "ListKeyPolicies", "ListKeyRotations", "ListResourceTags", "PutKeyPolicy", "RetireGrant", "RevokeGrant", "RotateKeyOnDemand", "ScheduleKeyDeletion",
		"TagResource", "UntagResource", "UpdateKeyDescription"} {
		s := newSubject(t, c, types.KeyStateEnabled)
		for id, code := range map[string]string{
			s.alias:                         "InvalidArnException",
			arnPrefix + s.alias:             "InvalidArnException",
			unknownID:                       "NotFoundException",
			arnPrefix + "key/" + unknownID:  "NotFoundException",
			strings.Repeat("k", 2048):       "NotFoundException",
			strings.Repeat("k", 2049):       "ValidationException",
			"arn:aws:kms:us-east-1:0:key/x": "NotFoundException",
		} {
			s.id = id
			err := matrix[name].do(t, s)
			t.Run(name, func(t *testing.T) { refused(t, err, code) })
		}
	}
}

// snapshot is all that can be seen of the key.
func snapshot(t *testing.T, s subject) string {
	t.Helper()
	status, err := s.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &s.id})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := s.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &s.id})
	if err != nil {
		t.Fatal(err)
	}
	aliases, err := s.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: &s.id})
	if err != nil {
		t.Fatal(err)
	}
	grants, err := s.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &s.id})
	if err != nil {
		t.Fatal(err)
	}
	all, err := json.Marshal([]any{describe(t, s.Client, s.id), tagsOf(t, s.Client, s.id), status.KeyRotationEnabled, status.NextRotationDate, policy.Policy, aliases.Aliases, grants.Grants})
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// localUser is what a user of this machine is called.
func localUser(uid int) string { return fmt.Sprint("arn:aws:iam::000000000000:user/local/", uid) }

func newSubject(t *testing.T, c *kms.Client, state types.KeyState) subject {
	t.Helper()
	s := subject{Client: c, id: newKey(t, c), other: newKey(t, c)}
	s.alias, s.elsewhere = "alias/"+s.id, "alias/"+s.other
	enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.id, Plaintext: []byte("p")})
	if err != nil {
		t.Fatal(err)
	}
	s.blob = enc.CiphertextBlob
	for alias, id := range map[string]string{s.alias: s.id, s.elsewhere: s.other} {
		if err := createAlias(t, c, alias, id); err != nil {
			t.Fatal(err)
		}
	}
	made, err := c.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &s.id, GranteePrincipal: aws.String(localUser(5000)),
		Operations: []types.GrantOperation{types.GrantOperationDecrypt}})
	if err != nil {
		t.Fatal(err)
	}
	s.grant = *made.GrantId
	switch state {
	case types.KeyStateDisabled:
		_, err = c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &s.id})
	case types.KeyStatePendingDeletion:
		schedule(t, c, s.id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStatesToCome: keys with imported material, of custom key stores and of
// several Regions have states that no key has here yet.
func TestStatesToCome(t *testing.T) {
	const (
		e, d, x, i, u, c, w = 0, 1, 2, 3, 4, 5, 6 // as States has them
		yes                 = ""
	)
	invalid := func(what string) string { return "KMSInvalidStateException: KEY is " + what + "." }
	row := func(enabled, disabled, deleted, imported, unavailable, creating, updating string) []string {
		return []string{e: enabled, d: disabled, x: deleted, i: imported, u: unavailable, c: creating, w: updating}
	}
	del, imp, una, cre, upd := invalid("pending deletion"), invalid("pending import"), invalid("unavailable"), invalid("creating"), invalid("updating")
	not := invalid("not pending deletion")
	off := "DisabledException: KEY is disabled."
	for action, want := range map[string][]string{
		"Encrypt":             row(yes, off, del, imp, una, cre, yes),
		"ReEncryptTo":         row(yes, off, del, imp, una, cre, yes),
		"RotateKeyOnDemand":   row(yes, off, del, imp, una, cre, yes),
		"CreateGrant":         row(yes, off, del, imp, yes, cre, yes),
		"RevokeGrant":         row(yes, yes, yes, yes, yes, yes, yes),
		"EnableKey":           row(yes, yes, del, imp, una, cre, upd),
		"DisableKey":          row(yes, yes, del, imp, una, cre, upd),
		"ScheduleKeyDeletion": row(yes, yes, del, yes, yes, cre, upd),
		"CancelKeyDeletion":   row(not, not, yes, not, not, not, not),
		"TagResource":         row(yes, yes, del, yes, yes, yes, yes),
		"UpdateAlias":         row(yes, yes, del, yes, yes, yes, yes),
		"DescribeKey":         row(yes, yes, yes, yes, yes, yes, yes),
		"ListResourceTags":    row(yes, yes, yes, yes, yes, yes, yes),
	} {
		var got []string
		for _, state := range keysvc.States {
			got = append(got, keysvc.Permits(state, action))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s in the states %q answers\n%q, not\n%q", action, keysvc.States, got, want)
		}
	}
}
