package keysvc

import (
	"context"
	"errors"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/blob"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Encrypt wraps up to 4096 bytes under a key.
func (s *Service) Encrypt(_ context.Context, caller Caller, in *kmsapi.EncryptInput) (*kmsapi.EncryptOutput, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.blob(in.Plaintext, "plaintext", kmsapi.MaxPlaintext)
	v.oneOf(in.EncryptionAlgorithm, "encryptionAlgorithm", encryptionAlgorithms)
	v.tokens(in.GrantTokens)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := s.knownTokens(in.GrantTokens); err != nil {
		return nil, err
	}
	a, err := s.accessNamed(caller, kmsapi.OpEncrypt, in.KeyID)
	if err != nil {
		return nil, err
	}
	a.context = in.EncryptionContext
	out := &kmsapi.EncryptOutput{EncryptionAlgorithm: kmsapi.SpecSymmetricDefault, KeyID: a.key.arn}
	err = s.perform(a, func(m materials) error {
		if err := algorithmFits(in.EncryptionAlgorithm, a.key); err != nil {
			return err
		}
		if in.DryRun {
			return dryRun()
		}
		out.CiphertextBlob, err = m.seal(in.Plaintext, in.EncryptionContext)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// seal wraps plaintext under the current material.
func (m materials) seal(plaintext []byte, context map[string]string) ([]byte, error) {
	mat := m.current()
	m.call.usesMaterial(m.action, mat.id)
	return blob.Seal(blob.Ref{KeyID: m.key.bytes, MaterialID: mat.short}, mat.bytes.Bytes(), plaintext, context)
}

// open unwraps b, which must be under this key. Whatever is wrong with it is the
// same error.
func (m materials) open(b []byte, context map[string]string) (*secret.Buffer, material, error) {
	invalid := &kmsapi.Error{Code: kmsapi.CodeInvalidCiphertext}
	ref, err := blob.Parse(b)
	if err != nil || ref.KeyID != m.key.bytes {
		return nil, material{}, invalid
	}
	mat, ok := m.named(ref.MaterialID)
	if !ok {
		return nil, material{}, invalid
	}
	m.call.usesMaterial(m.action, mat.id)
	plaintext, err := blob.Open(b, mat.bytes.Bytes(), context)
	if errors.Is(err, blob.ErrInvalid) {
		return nil, material{}, invalid
	}
	return plaintext, mat, err
}

// Decrypt unwraps a CiphertextBlob.
func (s *Service) Decrypt(_ context.Context, caller Caller, in *kmsapi.DecryptInput) (*kmsapi.DecryptOutput, error) {
	ignore, err := ignoreCiphertext(in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	var v violations
	if !ignore || in.CiphertextBlob != nil {
		v.blob(in.CiphertextBlob, "ciphertextBlob", kmsapi.MaxCiphertextBlob)
	}
	v.optionalText(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.oneOf(in.EncryptionAlgorithm, "encryptionAlgorithm", encryptionAlgorithms)
	v.tokens(in.GrantTokens)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := noRecipient(in.Recipient); err != nil {
		return nil, err
	}
	if err := s.knownTokens(in.GrantTokens); err != nil {
		return nil, err
	}
	o := opening{caller: caller, action: kmsapi.OpDecrypt, blob: in.CiphertextBlob, context: in.EncryptionContext,
		keyID: deref(in.KeyID), algorithm: in.EncryptionAlgorithm, ignoreBlob: ignore}
	out := &kmsapi.DecryptOutput{EncryptionAlgorithm: kmsapi.SpecSymmetricDefault}
	err = s.open(o, func(p opened) error {
		if in.DryRun {
			return dryRun()
		}
		out.KeyID, out.KeyMaterialID = p.key.arn, p.material.id
		out.Plaintext = append([]byte(nil), p.plaintext.Bytes()...) // the front wipes it
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ReEncrypt moves a CiphertextBlob to another key or encryption context. The
// plaintext stays in the service.
func (s *Service) ReEncrypt(_ context.Context, caller Caller, in *kmsapi.ReEncryptInput) (*kmsapi.ReEncryptOutput, error) {
	ignore, err := ignoreCiphertext(in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	var v violations
	if !ignore || in.CiphertextBlob != nil {
		v.blob(in.CiphertextBlob, "ciphertextBlob", kmsapi.MaxCiphertextBlob)
	}
	v.text(in.DestinationKeyID, "destinationKeyId", kmsapi.MaxKeyID)
	v.optionalText(in.SourceKeyID, "sourceKeyId", kmsapi.MaxKeyID)
	v.oneOf(in.SourceEncryptionAlgorithm, "sourceEncryptionAlgorithm", encryptionAlgorithms)
	v.oneOf(in.DestinationEncryptionAlgorithm, "destinationEncryptionAlgorithm", encryptionAlgorithms)
	v.tokens(in.GrantTokens)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := s.knownTokens(in.GrantTokens); err != nil {
		return nil, err
	}
	o := opening{caller: caller, action: reEncryptFrom, blob: in.CiphertextBlob, context: in.SourceEncryptionContext,
		keyID: deref(in.SourceKeyID), algorithm: in.SourceEncryptionAlgorithm, ignoreBlob: ignore}
	out := &kmsapi.ReEncryptOutput{
		SourceEncryptionAlgorithm:      kmsapi.SpecSymmetricDefault,
		DestinationEncryptionAlgorithm: kmsapi.SpecSymmetricDefault,
	}
	to := sealing{keyID: in.DestinationKeyID, context: in.DestinationEncryptionContext, algorithm: in.DestinationEncryptionAlgorithm, dryRun: in.DryRun}
	err = s.reEncrypt(o, to, out)
	if err != nil {
		return nil, err
	}
	return out, nil
}

func deref(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

// ignoreCiphertext reads DryRunModifiers, which mean something in a dry run only.
func ignoreCiphertext(dry bool, modifiers []string) (bool, error) {
	ignore := false
	for i := range modifiers {
		var v violations
		v.oneOf(&modifiers[i], "dryRunModifiers", []string{"IGNORE_CIPHERTEXT"})
		if err := v.err(); err != nil {
			return false, err
		}
		ignore = true
	}
	if ignore && !dry {
		return false, errorf(kmsapi.CodeValidation, "DryRunModifiers can be specified only when DryRun is set.")
	}
	return ignore, nil
}
