package keysvc

import (
	"context"
	"fmt"
	"regexp"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// keyPolicy compiles the key's policy.
func (r *keyRecord) keyPolicy() (*policy.Document, error) {
	if r.Policy == nil {
		return policy.Parse(policy.KeyPolicy, []byte(policy.DefaultKeyPolicy(r.Account)))
	}
	d, err := r.Policy.Load(policy.KeyPolicy)
	if err != nil {
		return nil, fmt.Errorf("key policy: %w", err)
	}
	return d, nil
}

// parseKeyPolicy checks a policy of a request as far as it can be checked without
// knowing who exists.
func parseKeyPolicy(text string) (*policy.Document, error) {
	if len(text) > kmsapi.MaxPolicy {
		return nil, errorf(kmsapi.CodeLimitExceeded, "The policy document is %d bytes long, more than the limit of %d bytes.", len(text), kmsapi.MaxPolicy)
	}
	d, err := policy.Parse(policy.KeyPolicy, []byte(text))
	if err != nil {
		return nil, errorf(kmsapi.CodeMalformedPolicy, "%s", err)
	}
	return d, nil
}

// acceptPolicy ties text to the principals it names, who exist, as the policy of
// a key with record r, which the caller will be able to change again.
func (s *Service) acceptPolicy(caller Caller, r keyRecord, text string, bypass bool) (*identity.Bound, error) {
	d, err := parseKeyPolicy(text)
	if err != nil {
		return nil, err
	}
	_, accepted, err := identity.Bind(d, s.bindIDs())
	if err != nil {
		return nil, errorf(kmsapi.CodeMalformedPolicy, "Policy contains a statement with one or more invalid principals. %s", err)
	}
	r.Policy = &accepted
	if bypass {
		return r.Policy, nil
	}
	k, err := newKey(r)
	if err != nil {
		return nil, err
	}
	again := access{caller: caller, action: kmsapi.OpPutKeyPolicy, key: k, conditions: bypassCondition(false)}
	if !s.decide(&again, new(evaluation)).Allowed() {
		return nil, errorf(kmsapi.CodeMalformedPolicy, "The new key policy will not allow you to update the key policy in the future.")
	}
	return r.Policy, nil
}

// PutKeyPolicy replaces a key's policy.
func (s *Service) PutKeyPolicy(_ context.Context, caller Caller, in *kmsapi.PutKeyPolicyInput) (*kmsapi.Empty, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.policyName(in.PolicyName)
	v.text(in.Policy, "policy", maxPolicyMember)
	if err := v.err(); err != nil {
		return nil, err
	}
	if _, err := parseKeyPolicy(in.Policy); err != nil {
		return nil, err
	}
	given := bypassCondition(in.BypassPolicyLockoutSafetyCheck)
	err := s.changeKeyIf(caller, in.KeyID, kmsapi.OpPutKeyPolicy, given, func(k *key) error {
		if err := checkPolicyExists(in.PolicyName); err != nil {
			return err
		}
		r := k.record
		var err error
		if r.Policy, err = s.acceptPolicy(caller, r, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return err
		}
		if err := s.replaceKey(k, r); err != nil {
			return err
		}
		s.log.Info("changed a key's policy", "key", k.arn, "principal", caller.ARN)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// GetKeyPolicy returns a key's policy as it was given, except for principals that do
// not exist any more.
func (s *Service) GetKeyPolicy(_ context.Context, caller Caller, in *kmsapi.GetKeyPolicyInput) (*kmsapi.GetKeyPolicyOutput, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.policyName(in.PolicyName)
	if err := v.err(); err != nil {
		return nil, err
	}
	var out *kmsapi.GetKeyPolicyOutput
	err := s.readKey(caller, in.KeyID, kmsapi.OpGetKeyPolicy, func(k *key) error {
		if err := checkPolicyExists(in.PolicyName); err != nil {
			return err
		}
		out = &kmsapi.GetKeyPolicyOutput{Policy: k.policy.WithIDs(s.bindIDs()), PolicyName: kmsapi.DefaultPolicyName}
		return nil
	})
	return out, err
}

// ListKeyPolicies returns the names of a key's policies, which is one.
func (s *Service) ListKeyPolicies(_ context.Context, caller Caller, in *kmsapi.ListKeyPoliciesInput) (*kmsapi.ListKeyPoliciesOutput, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.number(in.Limit, "limit", 1, 1000)
	v.optionalText(in.Marker, "marker", 1024)
	if err := v.err(); err != nil {
		return nil, err
	}
	out := new(kmsapi.ListKeyPoliciesOutput)
	err := s.readKey(caller, in.KeyID, kmsapi.OpListKeyPolicies, func(*key) error {
		names, next, err := page([]string{kmsapi.DefaultPolicyName}, func(name string) string { return name }, in.Limit, 100, in.Marker)
		if err != nil {
			return err
		}
		out.PolicyNames = append([]string{}, names...)
		out.NextMarker, out.Truncated = next, next != ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// maxPolicyMember is the limit of the API's model. More than kmsapi.MaxPolicy has
// an error of its own.
const maxPolicyMember = 131072

var policyNamePattern = regexp.MustCompile(`^[\w]+$`)

// policyName checks the shape of an optional name of a policy.
func (v *violations) policyName(name *string) {
	v.optionalText(name, "policyName", 128)
	if name != nil && *name != "" && !policyNamePattern.MatchString(*name) {
		v.add(quoted(*name), "policyName", `Member must satisfy regular expression pattern: [\w]+`)
	}
}

func checkPolicyExists(name *string) error {
	if name != nil && *name != kmsapi.DefaultPolicyName {
		return errorf(kmsapi.CodeNotFound, "No such policy exists")
	}
	return nil
}
