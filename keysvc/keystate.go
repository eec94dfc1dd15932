package keysvc

import (
	"context"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// permits checks the key's state, as AWS's table of key states has it.
func (k *key) permits(action string) error {
	state := k.record.State
	in := func(states ...string) error {
		for _, s := range states {
			if s == state {
				return nil
			}
		}
		return k.invalidState()
	}
	switch action {
	case kmsapi.OpDescribeKey, kmsapi.OpListAliases, kmsapi.OpDeleteAlias, kmsapi.OpListResourceTags,
		kmsapi.OpGetKeyRotationStatus, kmsapi.OpListKeyRotations, kmsapi.OpGetKeyLastUsage,
		kmsapi.OpListGrants, kmsapi.OpRetireGrant, kmsapi.OpRevokeGrant,
		kmsapi.OpGetKeyPolicy, kmsapi.OpPutKeyPolicy, kmsapi.OpListKeyPolicies:
		return nil // in any state
	case kmsapi.OpEnableKey, kmsapi.OpDisableKey:
		return in(kmsapi.StateEnabled, kmsapi.StateDisabled)
	case kmsapi.OpScheduleKeyDeletion:
		return in(kmsapi.StateEnabled, kmsapi.StateDisabled, kmsapi.StatePendingImport, kmsapi.StateUnavailable)
	case kmsapi.OpCancelKeyDeletion:
		if state != kmsapi.StatePendingDeletion {
			return errorf(kmsapi.CodeInvalidState, "%s is not pending deletion.", k.arn)
		}
		return nil
	case kmsapi.OpCreateAlias, kmsapi.OpUpdateAlias, kmsapi.OpTagResource, kmsapi.OpUntagResource, kmsapi.OpUpdateKeyDescription:
		if state == kmsapi.StatePendingDeletion {
			return k.invalidState()
		}
		return nil
	}
	// Cryptographic operations, those on rotation, and CreateGrant.
	if state == kmsapi.StateDisabled {
		return errorf(kmsapi.CodeDisabled, "%s is disabled.", k.arn)
	}
	if action == kmsapi.OpCreateGrant && state == kmsapi.StateUnavailable {
		return nil
	}
	return in(kmsapi.StateEnabled, kmsapi.StateUpdating)
}

func (k *key) invalidState() error {
	return errorf(kmsapi.CodeInvalidState, "%s %s", k.arn, stateClause(k.record.State))
}

// stateClause is how AWS words a state in KMSInvalidStateException.
func stateClause(state string) string {
	switch state {
	case kmsapi.StatePendingDeletion:
		return "is pending deletion."
	case kmsapi.StatePendingImport:
		return "is pending import."
	case kmsapi.StateCreating:
		return "is creating."
	case kmsapi.StateUpdating:
		return "is updating."
	}
	return "is unavailable."
}

// EnableKey makes a disabled key usable again. A rotation that was due
// meanwhile follows at once.
func (s *Service) EnableKey(_ context.Context, caller Caller, in *kmsapi.KeyIDInput) (*kmsapi.Empty, error) {
	return s.setState(caller, in.KeyID, kmsapi.OpEnableKey, kmsapi.StateEnabled)
}

// DisableKey makes a key unusable until it is enabled again.
func (s *Service) DisableKey(_ context.Context, caller Caller, in *kmsapi.KeyIDInput) (*kmsapi.Empty, error) {
	return s.setState(caller, in.KeyID, kmsapi.OpDisableKey, kmsapi.StateDisabled)
}

func (s *Service) setState(caller Caller, keyID, action, state string) (*kmsapi.Empty, error) {
	err := s.changeKey(caller, keyID, action, func(k *key) error {
		if k.record.State == state {
			return nil
		}
		r := k.record
		r.State = state
		if err := s.replaceKey(k, r); err != nil {
			return err
		}
		s.log.Info("changed a key's state", "key", k.arn, "state", state, "principal", caller.ARN)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}
