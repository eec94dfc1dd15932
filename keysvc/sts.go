package keysvc

import (
	"context"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// stsActions is what there is of the Security Token Service.
func stsActions() map[string]action {
	return map[string]action{
		kmsapi.OpGetCallerIdentity: as((*Service).GetCallerIdentity),
	}
}

// GetCallerIdentity tells callers who they are. It needs no permission, and a policy
// that denies it has no effect, as at AWS.
func (s *Service) GetCallerIdentity(_ context.Context, caller Caller, _ *kmsapi.GetCallerIdentityInput) (*kmsapi.GetCallerIdentityOutput, error) {
	out := &kmsapi.GetCallerIdentityOutput{Arn: caller.ARN, UserID: caller.UniqueID, Account: caller.Principal.Account}
	if caller.Type == policy.Account {
		out.UserID = caller.Principal.Account // the root user has no other
	}
	return out, nil
}
