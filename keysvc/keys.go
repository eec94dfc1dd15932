package keysvc

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// The values that the API knows for members of CreateKey.
var (
	keySpecs = []string{"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521",
		"ECC_SECG_P256K1", "SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2",
		"ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "ECC_NIST_EDWARDS25519"}
	keyUsages = []string{"SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"}
	origins   = []string{"AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"}
)

// CreateKey makes a symmetric encryption key with material of its own.
func (s *Service) CreateKey(_ context.Context, caller Caller, in *kmsapi.CreateKeyInput) (*kmsapi.CreateKeyOutput, error) {
	if err := checkCreateKey(in); err != nil {
		return nil, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	var out *kmsapi.CreateKeyOutput
	a := access{caller: caller, action: kmsapi.OpCreateKey, conditions: func(c *policy.Context) {
		setKeyKind(c, kmsapi.SpecSymmetricDefault, kmsapi.UsageEncryptDecrypt, kmsapi.OriginAWSKMS)
		c.Set("kms:MultiRegion", "false")
		c.Set("kms:BypassPolicyLockoutSafetyCheck", strconv.FormatBool(in.BypassPolicyLockoutSafetyCheck))
		setRequestTags(c, in.Tags)
	}}
	err := s.perform(a, func(materials) error {
		r := s.newRecord(caller.Account, caller.ARN)
		r.Description, r.Tags = in.Description, in.Tags
		if err := s.mayTagNew(caller, &r); err != nil {
			return err
		}
		if in.Policy != nil {
			var err error
			if r.Policy, err = s.acceptPolicy(caller, r, *in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
				return err
			}
		}
		k, err := s.makeKey(r)
		if err != nil {
			return err
		}
		caller.call.uses(&access{key: k})
		out = &kmsapi.CreateKeyOutput{KeyMetadata: k.metadata()}
		return nil
	})
	return out, err
}

// mayTagNew refuses tags for a key that is about to be made unless the caller may
// kms:TagResource by an identity-based policy: what the new key's own policy says does
// not count ("IAM policy examples", Allow a user to create KMS keys).
func (s *Service) mayTagNew(caller Caller, r *keyRecord) error {
	if len(r.Tags) == 0 {
		return nil
	}
	return s.authorize(&access{caller: caller, action: kmsapi.OpTagResource, newKey: keyARN(r.Account, r.ID), conditions: func(c *policy.Context) {
		setKeyKind(c, r.Spec, r.Usage, r.Origin)
		c.Set("kms:CallerAccount", caller.Account)
		c.Set("aws:ResourceAccount", r.Account)
		setRequestTags(c, r.Tags)
	}})
}

func checkCreateKey(in *kmsapi.CreateKeyInput) error {
	var v violations
	v.description(in.Description)
	v.oneOf(in.KeySpec, "keySpec", keySpecs)
	v.oneOf(in.CustomerMasterKeySpec, "customerMasterKeySpec", keySpecs)
	v.oneOf(in.KeyUsage, "keyUsage", keyUsages)
	v.oneOf(in.Origin, "origin", origins)
	v.optionalText(in.Policy, "policy", 131072)
	v.tags(in.Tags)
	if err := v.err(); err != nil {
		return err
	}
	if in.KeySpec != nil && in.CustomerMasterKeySpec != nil {
		return errorf(kmsapi.CodeValidation, "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	}
	if err := checkTags(in.Tags); err != nil {
		return err
	}
	if in.Policy != nil {
		if _, err := parseKeyPolicy(*in.Policy); err != nil {
			return err
		}
	}
	return checkSupported(in)
}

// checkSupported refuses what the service could store but not honour.
func checkSupported(in *kmsapi.CreateKeyInput) error {
	is := func(p *string, only string) bool { return p == nil || *p == only }
	switch {
	case !is(in.KeySpec, kmsapi.SpecSymmetricDefault), !is(in.CustomerMasterKeySpec, kmsapi.SpecSymmetricDefault):
		return errorf(kmsapi.CodeUnsupportedOperation, "KeySpec must be %s.", kmsapi.SpecSymmetricDefault)
	case !is(in.KeyUsage, kmsapi.UsageEncryptDecrypt):
		return errorf(kmsapi.CodeValidation, "KeyUsage %s is not compatible with KeySpec %s", *in.KeyUsage, kmsapi.SpecSymmetricDefault)
	case !is(in.Origin, kmsapi.OriginAWSKMS), in.CustomKeyStoreID != nil, in.XksKeyID != nil:
		return errorf(kmsapi.CodeUnsupportedOperation, "Origin must be %s.", kmsapi.OriginAWSKMS)
	case in.MultiRegion != nil && *in.MultiRegion:
		return errorf(kmsapi.CodeUnsupportedOperation, "Multi-Region keys are not supported.")
	}
	return nil
}

// newRecord describes a symmetric key to come, which has no material yet.
func (s *Service) newRecord(account, principal string) keyRecord {
	now := s.now()
	return keyRecord{
		Schema:     recordSchema,
		ID:         uuid.NewString(),
		Spec:       kmsapi.SpecSymmetricDefault,
		Usage:      kmsapi.UsageEncryptDecrypt,
		Origin:     kmsapi.OriginAWSKMS,
		Region:     Region,
		State:      kmsapi.StateEnabled,
		CreatedAt:  now,
		CreatedBy:  principal,
		Account:    account,
		UsageSince: now,
		Simulated:  s.simulated,
	}
}

// makeKey gives r material and stores it as a new key, with the aliases that it is
// born with, and then puts it into the index. Call it with changing held.
func (s *Service) makeKey(r keyRecord, aliases ...*alias) (_ *key, err error) {
	m, err := generateMaterial()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.bytes.Free()
		}
	}()
	r.Materials = []materialRecord{{ID: m.id, CreatedAt: r.CreatedAt}}
	k, err := newKey(r)
	if err != nil {
		return nil, err
	}
	k.materials = []material{m}
	err = s.db.Update(func(tx store.SealedTx) error {
		if err := tx.Set(materialRecordName(r.ID, m.id), m.bytes.Bytes()); err != nil {
			return err
		}
		for _, a := range aliases {
			if err := putRecord(tx, a.recordName(), a); err != nil {
				return err
			}
		}
		return putRecord(tx, keyRecordName(r.ID), r)
	})
	if err != nil {
		return nil, err
	}
	s.showKey(k)
	for _, a := range aliases {
		s.index.setAlias(a)
	}
	s.log.Info("created a key", "key", k.arn, "principal", r.CreatedBy)
	return k, nil
}

// DescribeKey returns a key's metadata.
func (s *Service) DescribeKey(_ context.Context, caller Caller, in *kmsapi.DescribeKeyInput) (*kmsapi.DescribeKeyOutput, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.tokens(in.GrantTokens)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := s.knownTokens(in.GrantTokens); err != nil {
		return nil, err
	}
	a, err := s.accessNamed(caller, kmsapi.OpDescribeKey, in.KeyID)
	if err != nil {
		return nil, err
	}
	var out *kmsapi.DescribeKeyOutput
	err = s.perform(a, func(materials) error {
		out = &kmsapi.DescribeKeyOutput{KeyMetadata: a.key.metadata()}
		return nil
	})
	return out, err
}

func (k *key) metadata() kmsapi.KeyMetadata {
	r := k.record
	m := kmsapi.KeyMetadata{
		AWSAccountID:          r.Account,
		Arn:                   k.arn,
		CreationDate:          epochSeconds(r.CreatedAt),
		CurrentKeyMaterialID:  r.Materials[len(r.Materials)-1].ID,
		CustomerMasterKeySpec: r.Spec,
		Description:           r.Description,
		Enabled:               r.State == kmsapi.StateEnabled,
		EncryptionAlgorithms:  []string{kmsapi.SpecSymmetricDefault},
		KeyID:                 r.ID,
		KeyManager:            r.manager(),
		KeySpec:               r.Spec,
		KeyState:              r.State,
		KeyUsage:              r.Usage,
		MultiRegion:           r.MultiRegion,
		Origin:                r.Origin,
	}
	if r.Deletion != nil {
		m.DeletionDate = epochSeconds(r.Deletion.Date)
	}
	return m
}

// epochSeconds is a JSON 1.1 timestamp, in milliseconds' precision as AWS's.
func epochSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// ListKeys returns a page of the keys of the caller's account.
func (s *Service) ListKeys(_ context.Context, caller Caller, in *kmsapi.ListKeysInput) (*kmsapi.ListKeysOutput, error) {
	var v violations
	v.number(in.Limit, "limit", 1, 1000)
	v.optionalText(in.Marker, "marker", 1024)
	if err := v.err(); err != nil {
		return nil, err
	}
	out := &kmsapi.ListKeysOutput{Keys: []kmsapi.KeyListEntry{}}
	err := s.perform(access{caller: caller, action: kmsapi.OpListKeys}, func(materials) error {
		ids, next, err := page(s.index.keyIDs(caller.Account), func(id string) string { return id }, in.Limit, 100, in.Marker)
		if err != nil {
			return err
		}
		for _, id := range ids {
			out.Keys = append(out.Keys, kmsapi.KeyListEntry{KeyArn: keyARN(caller.Account, id), KeyID: id})
		}
		out.NextMarker, out.Truncated = next, next != ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// UpdateKeyDescription replaces a key's description.
func (s *Service) UpdateKeyDescription(_ context.Context, caller Caller, in *kmsapi.UpdateKeyDescriptionInput) (*kmsapi.Empty, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	if in.Description == nil {
		v.add("null", "description", "Member must not be null")
	} else {
		v.description(*in.Description)
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	err := s.changeKey(caller, in.KeyID, kmsapi.OpUpdateKeyDescription, func(k *key) error {
		r := k.record
		r.Description = *in.Description
		return s.replaceKey(k, r)
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// page cuts a page out of a list that is sorted by nameOf.
func page[T any](all []T, nameOf func(T) string, limit *int, normal int, marker *string) (items []T, next string, err error) {
	n := normal
	if limit != nil {
		n = *limit
	}
	if marker != nil {
		after, err := parseMarker(*marker)
		if err != nil {
			return nil, "", err
		}
		// Beyond the named item, whether or not it still exists.
		at, found := slices.BinarySearchFunc(all, after, func(item T, name string) int { return strings.Compare(nameOf(item), name) })
		if found {
			at++
		}
		all = all[at:]
	}
	if len(all) <= n {
		return all, "", nil
	}
	return all[:n], makeMarker(nameOf(all[n-1])), nil
}
