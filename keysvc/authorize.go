package keysvc

import (
	"fmt"
	"strings"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// access is one use of one resource by one caller: what a policy decides on
// and what an audit log records.
type access struct {
	caller Caller
	// action without its "kms:"; the service's own begin with "kmsfs:". ReEncrypt is two accesses: ReEncryptFrom on
	// the source key and ReEncryptTo on the destination key.
	action string
	// key is the key, or nil for an action that is on none.
	key *key
	// alias is the ARN of the alias when the resource is an alias.
	alias string
	// context is the request's encryption context.
	context map[string]string
	// anyState is set where the key's state does not matter although the action
	// has a rule for it: UpdateAlias may leave a key that is pending deletion.
	anyState bool
}

// name is the action as a policy writes it.
func (a access) name() string {
	if strings.Contains(a.action, ":") {
		return a.action // one of ours
	}
	return "kms:" + a.action
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
// use with the key's material, which is not wiped before use returns. Every
// action of the service passes through here, each item of a batch by itself.
func (s *Service) perform(a access, use func(materials) error) error {
	c := a.caller.call
	if c == nil {
		return errUnaudited
	}
	c.uses(&a)
	if err := s.begin(); err != nil {
		return err
	}
	defer s.running.Done()
	if err := s.settle(); err != nil {
		return err
	}
	if err := s.authorize(a); err != nil {
		return err
	}
	if a.key == nil {
		return use(materials{call: c})
	}
	if !a.key.life.hold() {
		return errorf(kmsapi.CodeNotFound, "Key '%s' does not exist", a.key.arn)
	}
	defer a.key.life.release()
	if !a.anyState {
		if err := a.key.permits(a.action); err != nil {
			return err
		}
	}
	if err := use(materials{a.key, a.action, c}); err != nil {
		return err
	}
	s.noteUse(a)
	return nil
}

// authorize applies the default key policy, "the account root may kms:*", to
// the local principals of this machine.
func (s *Service) authorize(a access) error {
	if isAccountRoot(a.caller) {
		return nil
	}
	why := "no resource-based policy allows"
	if a.key == nil {
		why = "no identity-based policy allows"
	}
	return &kmsapi.Error{
		Code: kmsapi.CodeAccessDenied,
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because %s the %s action",
			a.caller.ARN, a.name(), a.resource(), why, a.name()),
	}
}

// isAccountRoot tells whether the caller is the root user of the account.
func isAccountRoot(c Caller) bool { return c.Type == policy.Account && c.Account == Account }

// materials gives access to a key's material. Only perform makes a useful one;
// it is valid until perform returns.
type materials struct {
	key    *key
	action string
	call   *call // notes which are used
}

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
