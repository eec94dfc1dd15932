package kmsclient

import (
	"context"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// GetKeyPolicy returns a key's policy.
func (c *Client) GetKeyPolicy(ctx context.Context, keyID string) (*kmsapi.GetKeyPolicyOutput, error) {
	return call[kmsapi.GetKeyPolicyOutput](ctx, c, kmsapi.OpGetKeyPolicy, &kmsapi.GetKeyPolicyInput{KeyID: keyID})
}

// PutKeyPolicy replaces a key's policy. Bypass allows one that the caller will not
// be able to replace.
func (c *Client) PutKeyPolicy(ctx context.Context, keyID, policy string, bypass bool) error {
	_, err := call[kmsapi.Empty](ctx, c, kmsapi.OpPutKeyPolicy,
		&kmsapi.PutKeyPolicyInput{KeyID: keyID, Policy: policy, BypassPolicyLockoutSafetyCheck: bypass})
	return err
}

// ListKeyPolicies returns the names of a key's policies. There is one.
func (c *Client) ListKeyPolicies(ctx context.Context, keyID string) (*kmsapi.ListKeyPoliciesOutput, error) {
	return call[kmsapi.ListKeyPoliciesOutput](ctx, c, kmsapi.OpListKeyPolicies, &kmsapi.ListKeyPoliciesInput{KeyID: keyID})
}
