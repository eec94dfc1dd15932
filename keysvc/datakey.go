package keysvc

import (
	"context"
	"crypto/rand"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// GenerateDataKey makes a data key and returns it both plain and wrapped.
func (s *Service) GenerateDataKey(_ context.Context, caller Caller, in *kmsapi.GenerateDataKeyInput) (*kmsapi.GenerateDataKeyOutput, error) {
	if err := noRecipient(in.Recipient); err != nil {
		return nil, err
	}
	return s.dataKeyOutput(caller, kmsapi.OpGenerateDataKey, in)
}

// GenerateDataKeyWithoutPlaintext makes a data key and returns it wrapped only.
func (s *Service) GenerateDataKeyWithoutPlaintext(_ context.Context, caller Caller, in *kmsapi.GenerateDataKeyInput) (*kmsapi.GenerateDataKeyOutput, error) {
	return s.dataKeyOutput(caller, kmsapi.OpGenerateDataKeyWithoutPlaintext, in)
}

func (s *Service) dataKeyOutput(caller Caller, action string, in *kmsapi.GenerateDataKeyInput) (*kmsapi.GenerateDataKeyOutput, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.number(in.NumberOfBytes, "numberOfBytes", 1, kmsapi.MaxDataKey)
	v.oneOf(in.KeySpec, "keySpec", []string{kmsapi.DataKeyAES256, kmsapi.DataKeyAES128})
	v.tokens(in.GrantTokens)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := s.knownTokens(in.GrantTokens); err != nil {
		return nil, err
	}
	var n int
	switch {
	case (in.KeySpec == nil) == (in.NumberOfBytes == nil):
		return nil, errorf(kmsapi.CodeValidation, "Please specify either number of bytes or key spec.")
	case in.NumberOfBytes != nil:
		n = *in.NumberOfBytes
	case *in.KeySpec == kmsapi.DataKeyAES128:
		n = 16
	default:
		n = 32
	}
	out := new(kmsapi.GenerateDataKeyOutput)
	g := generating{caller: caller, action: action, keyID: in.KeyID, context: in.EncryptionContext, length: n, dryRun: in.DryRun}
	err := s.generate(g, func(d dataKey) error {
		out.CiphertextBlob, out.KeyID, out.KeyMaterialID = d.sealed, d.key.arn, d.material.id
		if action == kmsapi.OpGenerateDataKey {
			out.Plaintext = append([]byte(nil), d.plaintext.Bytes()...) // the front wipes it
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// generating is a request for a data key.
type generating struct {
	caller  Caller
	action  string
	keyID   string
	context map[string]string
	length  int // 1 to 1024
	dryRun  bool
}

// dataKey is a new data key. plaintext is valid until the function that is
// given it returns.
type dataKey struct {
	key       *key
	material  material
	sealed    []byte
	plaintext *secret.Buffer
}

func (s *Service) generate(g generating, use func(dataKey) error) error {
	a, err := s.accessNamed(g.caller, g.action, g.keyID)
	if err != nil {
		return err
	}
	a.context = g.context
	return s.perform(a, func(m materials) error {
		if g.dryRun {
			return dryRun()
		}
		plaintext, err := secret.New(g.length)
		if err != nil {
			return err
		}
		defer plaintext.Free()
		rand.Read(plaintext.Bytes())
		sealed, err := m.seal(plaintext.Bytes(), g.context)
		if err != nil {
			return err
		}
		return use(dataKey{key: a.key, material: m.current(), sealed: sealed, plaintext: plaintext})
	})
}

// GenerateRandom returns random bytes.
func (s *Service) GenerateRandom(_ context.Context, caller Caller, in *kmsapi.GenerateRandomInput) (*kmsapi.GenerateRandomOutput, error) {
	var v violations
	v.number(in.NumberOfBytes, "numberOfBytes", 1, kmsapi.MaxDataKey)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := noRecipient(in.Recipient); err != nil {
		return nil, err
	}
	if in.CustomKeyStoreID != nil {
		return nil, errorf(kmsapi.CodeUnsupportedOperation, "Custom key stores are not supported.")
	}
	if in.NumberOfBytes == nil {
		return nil, errorf(kmsapi.CodeValidation, "NumberOfBytes is required.")
	}
	out := new(kmsapi.GenerateRandomOutput)
	err := s.perform(access{caller: caller, action: kmsapi.OpGenerateRandom}, func(materials) error {
		out.Plaintext = make([]byte, *in.NumberOfBytes)
		rand.Read(out.Plaintext)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
