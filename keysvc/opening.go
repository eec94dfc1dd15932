package keysvc

import (
	"strconv"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/blob"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// opening is the half that Decrypt and ReEncrypt share.
type opening struct {
	caller     Caller
	action     string
	keyID      string // the key the caller expects, or "" for whichever the blob names
	blob       []byte
	context    map[string]string
	algorithm  *string
	ignoreBlob bool    // a dry run without ciphertext
	made       *remade // may be what the blob opens to
}

// opened is an unwrapped blob, valid until the function it is given to returns.
type opened struct {
	key       *key
	material  material
	plaintext *secret.Buffer
}

// open authorizes o and unwraps its blob. The order of checks is AWS's:
// resolve the key, authorize, the key's state, and the ciphertext last.
func (s *Service) open(o opening, use func(opened) error) error {
	a, err := s.openingAccess(o)
	if err != nil {
		return err
	}
	return s.openAs(a, o, use)
}

// openAs is open with the access that o is.
func (s *Service) openAs(a access, o opening, use func(opened) error) error {
	k := a.key
	return s.perform(a, func(m materials) error {
		if err := algorithmFits(o.algorithm, k); err != nil {
			return err
		}
		if o.ignoreBlob {
			return use(opened{key: k, material: m.current()})
		}
		if err := s.blobIsUnder(o.blob, k); err != nil {
			return err
		}
		if o.made.opens(o.blob, k, o.context) {
			m.call.usesMaterial(m.action, o.made.material.id)
			return use(opened{key: k, material: o.made.material, plaintext: o.made.plaintext})
		}
		plaintext, mat, err := m.open(o.blob, o.context)
		if err != nil {
			return err
		}
		defer plaintext.Free()
		return use(opened{key: k, material: mat, plaintext: plaintext})
	})
}

// openingAccess is to the key that the caller names, or else the one that the
// blob does.
func (s *Service) openingAccess(o opening) (access, error) {
	a := access{caller: o.caller, action: o.action}
	if o.keyID != "" {
		var err error
		if a, err = s.accessNamed(o.caller, o.action, o.keyID); err != nil {
			return a, err
		}
	} else if err := s.blobNames(&a, o); err != nil {
		return a, err
	}
	a.context = o.context
	return a, nil
}

// blobNames sets the key of a to the one that o's blob is under.
func (s *Service) blobNames(a *access, o opening) error {
	if o.ignoreBlob {
		return errorf(kmsapi.CodeValidation, "A key id is required when the ciphertext is ignored.")
	}
	ref, err := blob.Parse(o.blob)
	if err != nil {
		return &kmsapi.Error{Code: kmsapi.CodeInvalidCiphertext}
	}
	k := s.index.keyOfBlob(ref.KeyID)
	if k == nil {
		// Not NotFoundException: a changed byte in the blob's key id must look
		// like a changed byte anywhere else in it.
		return &kmsapi.Error{Code: kmsapi.CodeInvalidCiphertext}
	}
	a.key, a.byBlob = k, true
	return nil
}

// blobIsUnder tells a blob of another key (IncorrectKeyException) from what is
// no blob of this service.
func (s *Service) blobIsUnder(b []byte, k *key) error {
	ref, err := blob.Parse(b)
	if err != nil {
		return &kmsapi.Error{Code: kmsapi.CodeInvalidCiphertext}
	}
	if ref.KeyID == k.bytes {
		return nil
	}
	if s.index.keyOfBlob(ref.KeyID) == nil {
		return &kmsapi.Error{Code: kmsapi.CodeInvalidCiphertext}
	}
	return &kmsapi.Error{
		Code:    kmsapi.CodeIncorrectKey,
		Message: "The key ID in the request does not identify a CMK that can perform this operation.",
	}
}

// sealing is the destination of ReEncrypt.
type sealing struct {
	keyID     string
	context   map[string]string
	algorithm *string
	dryRun    bool
	made      *remade // filled in if not nil
}

// reEncrypt fills in out with the blob of o wrapped anew.
func (s *Service) reEncrypt(o opening, to sealing, out *kmsapi.ReEncryptOutput) error {
	dst, err := s.accessNamed(o.caller, reEncryptTo, to.keyID)
	if err != nil {
		return err
	}
	src, err := s.openingAccess(o)
	if err != nil {
		return err
	}
	same := strconv.FormatBool(src.key.record.ID == dst.key.record.ID)
	src.conditions = func(c *policy.Context) { c.Set("kms:ReEncryptOnSameKey", same) }
	dst.context, dst.conditions = to.context, src.conditions
	return s.openAs(src, o, func(p opened) error {
		return s.perform(dst, func(m materials) error {
			if err := algorithmFits(to.algorithm, dst.key); err != nil {
				return err
			}
			if to.dryRun {
				return dryRun()
			}
			sealed, err := m.seal(p.plaintext.Bytes(), to.context)
			if err != nil {
				return err
			}
			if to.made != nil {
				if err := to.made.keep(sealed, dst.key, m.current(), to.context, p.plaintext.Bytes()); err != nil {
					return err
				}
			}
			out.CiphertextBlob = sealed
			out.KeyID, out.DestinationKeyMaterialID = dst.key.arn, m.current().id
			out.SourceKeyID, out.SourceKeyMaterialID = p.key.arn, p.material.id
			return nil
		})
	})
}
