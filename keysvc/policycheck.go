package keysvc

import (
	"errors"
	"fmt"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// The kinds of policies that CheckPolicy knows.
const (
	KeyPolicyType      = "key"
	IdentityPolicyType = "identity"
	TrustPolicyType    = "trust"
)

// policyKinds are the kinds in the order in which a policy without faults is
// taken for one.
var policyKinds = []struct {
	name string
	kind policy.Kind
}{{KeyPolicyType, policy.KeyPolicy}, {IdentityPolicyType, policy.IdentityPolicy}, {TrustPolicyType, policy.TrustPolicy}}

// CheckPolicy finds the faults of a policy that can be found without knowing who
// exists: what makes a service refuse it. Of kind "" it is taken for the kind that it
// comes nearest to.
func CheckPolicy(kind string, text []byte) (*kmsapi.PolicyCheck, error) {
	var best *kmsapi.PolicyCheck
	for _, k := range policyKinds {
		if kind != "" && kind != k.name {
			continue
		}
		faults, err := policyFaults(k.kind, text)
		if err != nil {
			return nil, err
		}
		if best == nil || len(faults) < len(best.Faults) {
			best = &kmsapi.PolicyCheck{PolicyType: k.name, Faults: faults}
		}
	}
	if best == nil {
		return nil, fmt.Errorf("there are no %s policies", kind)
	}
	return best, nil
}

func policyFaults(kind policy.Kind, text []byte) ([]kmsapi.PolicyFault, error) {
	out := []kmsapi.PolicyFault{}
	if kind == policy.KeyPolicy && len(text) > kmsapi.MaxPolicy {
		out = append(out, kmsapi.PolicyFault{Line: 1, Column: 1,
			Message: fmt.Sprintf("the policy has %d bytes, a key policy at most %d", len(text), kmsapi.MaxPolicy)})
	}
	_, err := policy.Parse(kind, text)
	var faults policy.Faults
	if err != nil && !errors.As(err, &faults) {
		return nil, err
	}
	for _, f := range faults {
		out = append(out, kmsapi.PolicyFault{Line: f.Line, Column: f.Column, Message: f.Message})
	}
	return out, nil
}
