package keysvc

import (
	"fmt"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// access is one use of one resource by one caller: what a policy decides on
// and what an audit log records.
type access struct {
	caller Caller
	// action without its "kms:". ReEncrypt is two accesses: ReEncryptFrom on
	// the source key and ReEncryptTo on the destination key.
	action string
	// key is the key, or nil for an action that is on none.
	key *key
	// alias is the ARN of the alias when the resource is an alias.
	alias string
	// context is the request's encryption context.
	context map[string]string
}

func (a access) resource() string {
	switch {
	case a.alias != "":
		return a.alias
	case a.key != nil:
		return a.key.arn
	}
	return "*"
}

// The actions that ReEncrypt is authorized as.
const (
	reEncryptFrom = "ReEncryptFrom"
	reEncryptTo   = "ReEncryptTo"
)

// perform authorizes a, checks that the key's state permits it, and then calls
// use with the key's material. Every action of the service passes through
// here, each item of a batch by itself.
func (s *Service) perform(a access, use func(materials) error) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.running.Done()
	if err := s.authorize(a); err != nil {
		return err
	}
	var m materials
	if a.key != nil {
		if err := a.key.permits(a.action); err != nil {
			return err
		}
		m.key = a.key
	}
	return use(m)
}

// authorize applies the default key policy, "the account root may kms:*", to
// the local principals of this machine. The account is the service owner's: its
// own user and the superuser act for it, nobody else does.
func (s *Service) authorize(a access) error {
	if a.caller.UID == 0 || a.caller.UID == s.owner {
		return nil
	}
	why := "no resource-based policy allows"
	if a.key == nil {
		why = "no identity-based policy allows"
	}
	return &kmsapi.Error{
		Code: kmsapi.CodeAccessDenied,
		Message: fmt.Sprintf("User: %s is not authorized to perform: kms:%s on resource: %s because %s the kms:%s action",
			a.caller.ARN, a.action, a.resource(), why, a.action),
	}
}

// materials gives access to a key's material. Only perform makes a useful one;
// it is valid until perform returns.
type materials struct{ key *key }

// current is the material that encrypts.
func (m materials) current() material {
	return m.key.materials[len(m.key.materials)-1]
}

// named finds the material of a blob: old ones decrypt for ever.
func (m materials) named(short [16]byte) (material, bool) {
	for _, mat := range m.key.materials {
		if mat.short == short {
			return mat, true
		}
	}
	return material{}, false
}

// material is one of a key's key materials.
type material struct {
	id    string   // 64 hexadecimal digits, AWS's KeyMaterialId
	short [16]byte // the first half of the id, as in a CiphertextBlob
	bytes *secret.Buffer
}

// permits checks the key's state.
func (k *key) permits(action string) error {
	switch action {
	case kmsapi.OpDescribeKey, kmsapi.OpListAliases, kmsapi.OpDeleteAlias:
		return nil // in any state
	case kmsapi.OpEnableKey, kmsapi.OpDisableKey:
		switch k.record.State {
		case kmsapi.StateEnabled, kmsapi.StateDisabled:
			return nil
		}
	case kmsapi.OpCreateAlias, kmsapi.OpUpdateAlias:
		if k.record.State != kmsapi.StatePendingDeletion {
			return nil
		}
	default: // cryptographic operations
		switch k.record.State {
		case kmsapi.StateEnabled, kmsapi.StateUpdating:
			return nil
		case kmsapi.StateDisabled:
			return &kmsapi.Error{Code: kmsapi.CodeDisabled, Message: k.arn + " is disabled."}
		}
	}
	return &kmsapi.Error{Code: kmsapi.CodeInvalidState, Message: k.arn + " " + stateClause(k.record.State)}
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
