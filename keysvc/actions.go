package keysvc

import (
	"context"
	"errors"
	"log/slog"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// action runs one request: it decodes body, calls the Service's method and
// returns the method's output.
type action func(ctx context.Context, s *Service, c Caller, body []byte) (any, error)

// as makes an action of one of Service's methods.
func as[In, Out any](method func(*Service, context.Context, Caller, *In) (*Out, error)) action {
	return func(ctx context.Context, s *Service, c Caller, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		out, err := recorded(ctx, s, c, method, in)
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// actions is the API of this service.
func actions() map[string]action {
	return map[string]action{
		kmsapi.OpCancelKeyDeletion:               as((*Service).CancelKeyDeletion),
		kmsapi.OpCreateAlias:                     as((*Service).CreateAlias),
		kmsapi.OpCreateGrant:                     as((*Service).CreateGrant),
		kmsapi.OpCreateKey:                       as((*Service).CreateKey),
		kmsapi.OpDecrypt:                         as((*Service).Decrypt),
		kmsapi.OpDeleteAlias:                     as((*Service).DeleteAlias),
		kmsapi.OpDescribeKey:                     as((*Service).DescribeKey),
		kmsapi.OpDisableKey:                      as((*Service).DisableKey),
		kmsapi.OpDisableKeyRotation:              as((*Service).DisableKeyRotation),
		kmsapi.OpEnableKey:                       as((*Service).EnableKey),
		kmsapi.OpEnableKeyRotation:               as((*Service).EnableKeyRotation),
		kmsapi.OpEncrypt:                         as((*Service).Encrypt),
		kmsapi.OpGenerateDataKey:                 as((*Service).GenerateDataKey),
		kmsapi.OpGenerateDataKeyWithoutPlaintext: as((*Service).GenerateDataKeyWithoutPlaintext),
		kmsapi.OpGenerateRandom:                  as((*Service).GenerateRandom),
		kmsapi.OpGetKeyLastUsage:                 as((*Service).GetKeyLastUsage),
		kmsapi.OpGetKeyPolicy:                    as((*Service).GetKeyPolicy),
		kmsapi.OpGetKeyRotationStatus:            as((*Service).GetKeyRotationStatus),
		kmsapi.OpListAliases:                     as((*Service).ListAliases),
		kmsapi.OpListKeyPolicies:                 as((*Service).ListKeyPolicies),
		kmsapi.OpListGrants:                      as((*Service).ListGrants),
		kmsapi.OpListKeyRotations:                as((*Service).ListKeyRotations),
		kmsapi.OpListKeys:                        as((*Service).ListKeys),
		kmsapi.OpListResourceTags:                as((*Service).ListResourceTags),
		kmsapi.OpPutKeyPolicy:                    as((*Service).PutKeyPolicy),
		kmsapi.OpListRetirableGrants:             as((*Service).ListRetirableGrants),
		kmsapi.OpReEncrypt:                       as((*Service).ReEncrypt),
		kmsapi.OpRetireGrant:                     as((*Service).RetireGrant),
		kmsapi.OpRevokeGrant:                     as((*Service).RevokeGrant),
		kmsapi.OpRotateKeyOnDemand:               as((*Service).RotateKeyOnDemand),
		kmsapi.OpScheduleKeyDeletion:             as((*Service).ScheduleKeyDeletion),
		kmsapi.OpTagResource:                     as((*Service).TagResource),
		kmsapi.OpUntagResource:                   as((*Service).UntagResource),
		kmsapi.OpUpdateAlias:                     as((*Service).UpdateAlias),
		kmsapi.OpUpdateKeyDescription:            as((*Service).UpdateKeyDescription),
	}
}

// apiError is what a caller may see of err: a refusal as it is, anything else
// (a full disk, no more locked memory) without its details, which are logged.
func apiError(log *slog.Logger, op string, err error) *kmsapi.Error {
	var e *kmsapi.Error
	if errors.As(err, &e) {
		return e
	}
	log.Error("internal error", "action", op, "error", err)
	return &kmsapi.Error{Code: kmsapi.CodeInternal, Message: "The request was rejected because of an internal error in the key service; see its log."}
}
