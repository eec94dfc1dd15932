package keysvc_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

func TestCreateAndDescribeKey(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	c := sdk(keysvctest.NewServer(t, keysvctest.WithClock(func() time.Time { return now })))
	out, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{
		Description: aws.String("first"),
		KeySpec:     types.KeySpecSymmetricDefault,
		KeyUsage:    types.KeyUsageTypeEncryptDecrypt,
		Origin:      types.OriginTypeAwsKms,
		MultiRegion: aws.Bool(false),
		Tags:        []types.Tag{{TagKey: aws.String("k"), TagValue: aws.String("")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := out.KeyMetadata
	if *m.Arn != arnPrefix+"key/"+*m.KeyId || *m.AWSAccountId != "000000000000" || *m.Description != "first" ||
		!m.Enabled || m.KeyState != types.KeyStateEnabled || m.KeyManager != types.KeyManagerTypeCustomer ||
		m.KeySpec != types.KeySpecSymmetricDefault || m.KeyUsage != types.KeyUsageTypeEncryptDecrypt ||
		m.Origin != types.OriginTypeAwsKms || *m.MultiRegion || !m.CreationDate.Equal(now) ||
		len(*m.CurrentKeyMaterialId) != 64 || !slices.Equal(m.EncryptionAlgorithms, []types.EncryptionAlgorithmSpec{"SYMMETRIC_DEFAULT"}) {
		t.Errorf("CreateKey answers %+v", *m)
	}
	if _, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: m.KeyId}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{*m.KeyId, *m.Arn, "alias/a", arnPrefix + "alias/a"} {
		got, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &name})
		if err != nil || *got.KeyMetadata.Arn != *m.Arn || *got.KeyMetadata.CurrentKeyMaterialId != *m.CurrentKeyMaterialId {
			t.Errorf("DescribeKey(%s): %v", name, err)
		}
	}
}

func TestCreateKeyRefusals(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	tags := func(n int) (list []types.Tag) {
		for i := range n {
			list = append(list, types.Tag{TagKey: aws.String(fmt.Sprint("k", i)), TagValue: aws.String("v")})
		}
		return list
	}
	tag := func(k, v string) []types.Tag { return []types.Tag{{TagKey: &k, TagValue: &v}} }
	for name, tt := range map[string]struct {
		in   kms.CreateKeyInput
		code string // "" is allowed
	}{
		"longest description":  {kms.CreateKeyInput{Description: aws.String(strings.Repeat("é", 8192))}, ""},
		"too long description": {kms.CreateKeyInput{Description: aws.String(strings.Repeat("d", 8193))}, "ValidationException"},
		"50 tags":              {kms.CreateKeyInput{Tags: tags(50)}, ""},
		"51 tags":              {kms.CreateKeyInput{Tags: tags(51)}, "TagException"},
		"long tag":             {kms.CreateKeyInput{Tags: tag(strings.Repeat("k", 128), strings.Repeat("v", 256))}, ""},
		"too long tag key":     {kms.CreateKeyInput{Tags: tag(strings.Repeat("k", 129), "v")}, "ValidationException"},
		"too long tag value":   {kms.CreateKeyInput{Tags: tag("k", strings.Repeat("v", 257))}, "ValidationException"},
		"reserved tag":         {kms.CreateKeyInput{Tags: tag("AWS:k", "v")}, "TagException"},
		"duplicate tag":        {kms.CreateKeyInput{Tags: append(tag("k", "v"), tag("k", "w")...)}, "TagException"},
		"no policy":            {kms.CreateKeyInput{Policy: aws.String("{}")}, "MalformedPolicyDocumentException"},
		"RSA":                  {kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048}, "UnsupportedOperationException"},
		//lint:ignore SA1019 old programs still send it
		"old name of spec": {kms.CreateKeyInput{CustomerMasterKeySpec: types.CustomerMasterKeySpecSymmetricDefault}, ""},
		"no such spec":     {kms.CreateKeyInput{KeySpec: "AES_1"}, "ValidationException"},
		"usage":            {kms.CreateKeyInput{KeyUsage: types.KeyUsageTypeSignVerify}, "ValidationException"},
		"external":         {kms.CreateKeyInput{Origin: types.OriginTypeExternal}, "UnsupportedOperationException"},
		"multi-region":     {kms.CreateKeyInput{MultiRegion: aws.Bool(true)}, "UnsupportedOperationException"},
	} {
		t.Run(name, func(t *testing.T) {
			before := listAll(t, c)
			_, err := c.CreateKey(t.Context(), &tt.in)
			if tt.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused(t, err, tt.code)
			if after := listAll(t, c); len(after) != len(before) {
				t.Error("a refused CreateKey made a key")
			}
		})
	}
}

func listAll(t *testing.T, c *kms.Client) (ids []string) {
	t.Helper()
	p := kms.NewListKeysPaginator(c, &kms.ListKeysInput{Limit: aws.Int32(3)})
	for p.HasMorePages() {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Keys {
			if *k.KeyArn != arnPrefix+"key/"+*k.KeyId {
				t.Errorf("ListKeys gives %s the ARN %s", *k.KeyId, *k.KeyArn)
			}
			ids = append(ids, *k.KeyId)
		}
	}
	return ids
}

func TestListKeysPages(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	var want []string
	for range 101 {
		want = append(want, newKey(t, c))
	}
	slices.Sort(want)
	if got := listAll(t, c); !slices.Equal(got, want) {
		t.Errorf("pages of 3 give %d keys, in order and once each: %t", len(got), slices.Equal(got, want))
	}
	for limit, n := range map[int32]int{0: 100, 1: 1, 100: 100, 101: 101, 102: 101, 1000: 101} {
		in := &kms.ListKeysInput{}
		if limit > 0 {
			in.Limit = &limit
		}
		out, err := c.ListKeys(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Keys) != n || out.Truncated != (n < 101) || (out.NextMarker != nil) != out.Truncated {
			t.Errorf("limit %d: %d keys, truncated %t, marker %v", limit, len(out.Keys), out.Truncated, out.NextMarker)
		}
	}
	_, err := c.ListKeys(t.Context(), &kms.ListKeysInput{Limit: aws.Int32(1001)})
	says(t, err, "ValidationException", "1 validation error detected: Value '1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000")
	_, err = c.ListKeys(t.Context(), &kms.ListKeysInput{Limit: aws.Int32(0)})
	refused(t, err, "ValidationException")
	_, err = c.ListKeys(t.Context(), &kms.ListKeysInput{Marker: aws.String("made up")})
	refused(t, err, "InvalidMarkerException")
}

func TestEnableAndDisable(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	id := newKey(t, c)
	state := func() types.KeyState {
		out, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		if err != nil {
			t.Fatal(err)
		}
		if out.KeyMetadata.Enabled != (out.KeyMetadata.KeyState == types.KeyStateEnabled) {
			t.Errorf("Enabled is %t in state %s", out.KeyMetadata.Enabled, out.KeyMetadata.KeyState)
		}
		return out.KeyMetadata.KeyState
	}
	enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p")})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing, and is no error
		if _, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id}); err != nil {
			t.Fatal(err)
		}
		if s := state(); s != types.KeyStateDisabled {
			t.Errorf("a disabled key is %s", s)
		}
	}
	disabled := arnPrefix + "key/" + id + " is disabled."
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p")})
	says(t, err, "DisabledException", disabled)
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob})
	says(t, err, "DisabledException", disabled)
	_, err = c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
	says(t, err, "DisabledException", disabled)
	_, err = c.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
	says(t, err, "DisabledException", disabled)
	_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: enc.CiphertextBlob, DestinationKeyId: aws.String(newKey(t, c))})
	says(t, err, "DisabledException", disabled)
	// The state is checked before the ciphertext.
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &id, CiphertextBlob: []byte("no blob at all")})
	says(t, err, "DisabledException", disabled)
	// These work in any state.
	if _, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/off"), TargetKeyId: &id}); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob})
	if err != nil || string(out.Plaintext) != "p" {
		t.Errorf("an enabled key decrypts to %v, %v", out, err)
	}
}

func TestKeyIdentifiers(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	id := newKey(t, c)
	if _, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: &id}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ code, message string }{
		unknownID:                           {"NotFoundException", "Key '" + arnPrefix + "key/" + unknownID + "' does not exist"},
		arnPrefix + "key/" + unknownID:      {"NotFoundException", "Key '" + arnPrefix + "key/" + unknownID + "' does not exist"},
		"alias/none":                        {"NotFoundException", "Alias " + arnPrefix + "alias/none is not found."},
		arnPrefix + "alias/none":            {"NotFoundException", "Alias " + arnPrefix + "alias/none is not found."},
		"foo":                               {"NotFoundException", "Invalid keyId 'foo'"},
		strings.ToUpper(id):                 {"NotFoundException", "Invalid keyId '" + strings.ToUpper(id) + "'"},
		"alias/A":                           {"NotFoundException", "Alias " + arnPrefix + "alias/A is not found."},
		"arn:aws:kms:us-east-1:0:foo/" + id: {"InvalidArnException", "Invalid arn arn:aws:kms:us-east-1:0:foo/" + id},
		"arn:aws:s3:::x":                    {"InvalidArnException", "Invalid arn arn:aws:s3:::x"},
		"arn:aws:kms:eu-west-1:000000000000:key/" + id: {"NotFoundException", "Invalid arn eu-west-1"},
		strings.Repeat("k", 2049):                      {"ValidationException", "1 validation error detected: Value '" + strings.Repeat("k", 2049) + "' at 'keyId' failed to satisfy constraint: Member must have length less than or equal to 2048"},
	} {
		_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &name})
		says(t, err, tt.code, tt.message)
		_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &name, Plaintext: []byte("p")})
		says(t, err, tt.code, tt.message)
		_, err = c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &name})
		if !strings.Contains(name, "alias/") {
			says(t, err, tt.code, tt.message)
		}
	}
	// Some actions take no alias, not even an existing one.
	_, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: aws.String("alias/a")})
	refused(t, err, "InvalidArnException")
	_, err = c.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: aws.String("alias/a")})
	refused(t, err, "InvalidArnException")
	_, err = c.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: aws.String("alias/a")})
	refused(t, err, "InvalidArnException")
}
