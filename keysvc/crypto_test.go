package keysvc_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

func TestEncryptDecrypt(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	id := newKey(t, c)
	arn := arnPrefix + "key/" + id
	ctx := map[string]string{"kmsfs:volume": "vol-0123456789abcdef0", "kmsfs:path": "/a", "empty": ""}
	for _, n := range []int{1, 4095, 4096} {
		plaintext := bytes.Repeat([]byte{0xa5}, n)
		enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: plaintext, EncryptionContext: ctx, EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault})
		if err != nil {
			t.Fatal(err)
		}
		if *enc.KeyId != arn || enc.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
			t.Errorf("Encrypt answers %+v", enc)
		}
		dec, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, EncryptionContext: ctx, KeyId: &arn})
		if err != nil || !bytes.Equal(dec.Plaintext, plaintext) || *dec.KeyId != arn || len(*dec.KeyMaterialId) != 64 {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: make([]byte, 4097)})
	refused(t, err, "ValidationException")
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte{}})
	refused(t, err, "ValidationException")
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p"), EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256})
	refused(t, err, "InvalidKeyUsageException")
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p"), EncryptionAlgorithm: "ROT13"})
	refused(t, err, "ValidationException")
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p"), GrantTokens: []string{"t"}})
	refused(t, err, "InvalidGrantTokenException")
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p"), GrantTokens: make([]string, 11)})
	refused(t, err, "ValidationException")
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p"), DryRun: aws.Bool(true)})
	refused(t, err, "DryRunOperationException")
}

func TestDecryptRefusals(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	one, two := newKey(t, c), newKey(t, c)
	ctx := map[string]string{"ab": "c"}
	enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &one, Plaintext: []byte("p"), EncryptionContext: ctx})
	if err != nil {
		t.Fatal(err)
	}
	blob := enc.CiphertextBlob

	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: ctx, KeyId: &two})
	refused(t, err, "IncorrectKeyException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: ctx, KeyId: aws.String(unknownID)})
	refused(t, err, "NotFoundException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: make([]byte, 6145)})
	refused(t, err, "ValidationException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: make([]byte, 6144)})
	refused(t, err, "InvalidCiphertextException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: []byte{}})
	refused(t, err, "ValidationException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: ctx, Recipient: &types.RecipientInfo{AttestationDocument: []byte("d")}})
	refused(t, err, "UnsupportedOperationException")

	// Wrong contexts, and each changed byte, with and without an expected key:
	// one and the same answer, without a message.
	var answers []error
	for _, bad := range []map[string]string{nil, {"a": "bc"}, {"ab": "d"}, {"AB": "c"}, {"ab": "c", "d": ""}} {
		_, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: bad})
		answers = append(answers, err)
		_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: bad, DestinationKeyId: &two})
		answers = append(answers, err)
	}
	for i := range blob {
		bad := bytes.Clone(blob)
		bad[i] ^= 0x40
		_, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: bad, EncryptionContext: ctx})
		answers = append(answers, err)
		_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: bad, EncryptionContext: ctx, KeyId: &one})
		answers = append(answers, err)
	}
	for i, err := range answers {
		refused(t, err, "InvalidCiphertextException")
		var api smithy.APIError
		if errors.As(err, &api) && api.ErrorMessage() != "" {
			t.Errorf("answer %d has the message %q", i, api.ErrorMessage())
		}
	}
}

func TestDecryptDryRun(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	id := newKey(t, c)
	enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob, DryRun: aws.Bool(true)})
	refused(t, err, "DryRunOperationException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: enc.CiphertextBlob[1:], DryRun: aws.Bool(true)})
	refused(t, err, "InvalidCiphertextException")
	ignore := []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &id, DryRun: aws.Bool(true), DryRunModifiers: ignore})
	refused(t, err, "DryRunOperationException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{DryRun: aws.Bool(true), DryRunModifiers: ignore})
	refused(t, err, "ValidationException")
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &id, CiphertextBlob: enc.CiphertextBlob, DryRunModifiers: ignore})
	refused(t, err, "ValidationException")
	_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: enc.CiphertextBlob, DestinationKeyId: &id, DryRun: aws.Bool(true)})
	refused(t, err, "DryRunOperationException")
}

func TestReEncrypt(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	one, two := newKey(t, c), newKey(t, c)
	from, to := map[string]string{"kmsfs:path": "/a"}, map[string]string{"kmsfs:path": "/b"}
	enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &one, Plaintext: []byte("p"), EncryptionContext: from})
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: enc.CiphertextBlob, SourceKeyId: &one, SourceEncryptionContext: from,
		DestinationKeyId: &two, DestinationEncryptionContext: to})
	if err != nil {
		t.Fatal(err)
	}
	if *out.KeyId != arnPrefix+"key/"+two || *out.SourceKeyId != arnPrefix+"key/"+one ||
		len(*out.SourceKeyMaterialId) != 64 || len(*out.DestinationKeyMaterialId) != 64 || *out.SourceKeyMaterialId == *out.DestinationKeyMaterialId {
		t.Errorf("ReEncrypt answers %+v", out)
	}
	dec, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: to, KeyId: &two})
	if err != nil || string(dec.Plaintext) != "p" {
		t.Errorf("the new blob: %v, %v", dec, err)
	}
	_, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: from})
	refused(t, err, "InvalidCiphertextException")
	_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: enc.CiphertextBlob, SourceKeyId: &two, SourceEncryptionContext: from, DestinationKeyId: &two})
	refused(t, err, "IncorrectKeyException")
	_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: enc.CiphertextBlob, SourceEncryptionContext: from, DestinationKeyId: aws.String(unknownID)})
	refused(t, err, "NotFoundException")
	if _, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &two}); err != nil {
		t.Fatal(err)
	}
	_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: enc.CiphertextBlob, SourceEncryptionContext: from, DestinationKeyId: &two})
	refused(t, err, "DisabledException")
}

func TestDataKeys(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	id := newKey(t, c)
	ctx := map[string]string{"aws:ebs:id": "vol-0123456789abcdef0"}
	for name, tt := range map[string]struct {
		spec types.DataKeySpec
		n    *int32
		len  int // 0 is refused
	}{
		"AES_256":    {types.DataKeySpecAes256, nil, 32},
		"AES_128":    {types.DataKeySpecAes128, nil, 16},
		"1 byte":     {"", aws.Int32(1), 1},
		"64 bytes":   {"", aws.Int32(64), 64},
		"1024 bytes": {"", aws.Int32(1024), 1024},
		"0 bytes":    {"", aws.Int32(0), 0},
		"1025 bytes": {"", aws.Int32(1025), 0},
		"neither":    {"", nil, 0},
		"both":       {types.DataKeySpecAes256, aws.Int32(32), 0},
		"unknown":    {"AES_512", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id, KeySpec: tt.spec, NumberOfBytes: tt.n, EncryptionContext: ctx})
			bare, bareErr := c.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: tt.spec, NumberOfBytes: tt.n, EncryptionContext: ctx})
			if tt.len == 0 {
				refused(t, err, "ValidationException")
				refused(t, bareErr, "ValidationException")
				return
			}
			if err != nil || bareErr != nil {
				t.Fatal(err, bareErr)
			}
			dec, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: ctx})
			if err != nil || !bytes.Equal(dec.Plaintext, out.Plaintext) || len(out.Plaintext) != tt.len || *out.KeyMaterialId != *dec.KeyMaterialId {
				t.Errorf("a data key of %d bytes decrypts to %d: %v", len(out.Plaintext), tt.len, err)
			}
			if tt.len == 32 && len(out.CiphertextBlob) > 256 {
				t.Errorf("the blob of a data key is %d bytes long", len(out.CiphertextBlob))
			}
			dec, err = c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: bare.CiphertextBlob, EncryptionContext: ctx})
			if err != nil || len(dec.Plaintext) != tt.len {
				t.Errorf("a data key without plaintext: %v", err)
			}
		})
	}
	_, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id})
	says(t, err, "ValidationException", "Please specify either number of bytes or key spec.")
	_, err = c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256, DryRun: aws.Bool(true)})
	refused(t, err, "DryRunOperationException")
}

func TestGenerateRandom(t *testing.T) {
	c := sdk(keysvctest.NewServer(t))
	for _, n := range []int32{1, 1023, 1024} {
		out, err := c.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: &n})
		if err != nil || len(out.Plaintext) != int(n) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, n := range []*int32{nil, aws.Int32(0), aws.Int32(1025)} {
		_, err := c.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: n})
		refused(t, err, "ValidationException")
	}
	_, err := c.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1), CustomKeyStoreId: aws.String("cks-1")})
	refused(t, err, "UnsupportedOperationException")
}
