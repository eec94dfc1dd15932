package keysvc_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	smithymiddleware "github.com/aws/smithy-go/middleware"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

func TestGetKeyLastUsage(t *testing.T) {
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now))
	c := sdk(srv)
	id, second := newKey(t, c), newKey(t, c)
	last := func(id string) *kms.GetKeyLastUsageOutput {
		t.Helper()
		out, err := c.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: &id})
		if err != nil {
			t.Fatal(err)
		}
		if *out.KeyId != id || !out.KeyCreationDate.Equal(start) || !out.TrackingStartDate.Equal(start) || out.KeyLastUsage == nil {
			t.Fatalf("GetKeyLastUsage answers %+v", *out)
		}
		return out
	}
	used := func(id string, op types.KeyLastUsageTrackingOperation, at time.Time, request string) {
		t.Helper()
		u := last(id).KeyLastUsage
		if u.Operation != op || !u.Timestamp.Equal(at.Truncate(time.Second)) || *u.KmsRequestId != request {
			t.Errorf("the last use is %s at %s by %s, not %s at %s by %s", u.Operation, u.Timestamp, *u.KmsRequestId, op, at, request)
		}
	}
	if u := last(id).KeyLastUsage; u.Operation != "" || u.Timestamp != nil || u.KmsRequestId != nil {
		t.Errorf("a new key was used: %+v", *u)
	}
	var blob []byte
	var at time.Time
	var requestID string
	for _, op := range []struct {
		name types.KeyLastUsageTrackingOperation
		do   func() (any, error)
	}{
		{"Encrypt", func() (any, error) {
			out, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p")})
			if err == nil {
				blob, requestID = out.CiphertextBlob, mustRequestID(t, out.ResultMetadata)
			}
			return out, err
		}},
		{"Decrypt", func() (any, error) {
			out, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob})
			if err == nil {
				requestID = mustRequestID(t, out.ResultMetadata)
			}
			return out, err
		}},
		{"GenerateDataKey", func() (any, error) {
			out, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id, NumberOfBytes: aws.Int32(16)})
			if err == nil {
				requestID = mustRequestID(t, out.ResultMetadata)
			}
			return out, err
		}},
		{"GenerateDataKeyWithoutPlaintext", func() (any, error) {
			out, err := c.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, NumberOfBytes: aws.Int32(16)})
			if err == nil {
				requestID = mustRequestID(t, out.ResultMetadata)
			}
			return out, err
		}},
		{"ReEncrypt", func() (any, error) {
			out, err := c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: &second})
			if err == nil {
				requestID = mustRequestID(t, out.ResultMetadata)
			}
			return out, err
		}},
	} {
		clock.Add(90 * time.Minute)
		at = clock.Now()
		if _, err := op.do(); err != nil {
			t.Fatal(err)
		}
		used(id, op.name, at, requestID)
	}
	used(second, "ReEncrypt", at, requestID) // both keys

	// What is no use: a refusal, a dry run, and looking at the key.
	clock.Add(time.Hour)
	_, err := c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &id, CiphertextBlob: blob, EncryptionContext: map[string]string{"other": "context"}})
	refused(t, err, "InvalidCiphertextException")
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p"), DryRun: aws.Bool(true)})
	refused(t, err, "DryRunOperationException")
	_, err = sdkAs(srv, otherUID).Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p")})
	refused(t, err, "AccessDeniedException")
	describe(t, c, id)
	if _, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	used(id, "ReEncrypt", at, requestID)
	for range 2 {
		srv.Stop()
		srv.Start()
		used(id, "ReEncrypt", at, requestID)
	}
	schedule(t, c, id) // in any state
	used(id, "ReEncrypt", at, requestID)
	if err := createAlias(t, c, "alias/a", second); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: aws.String("alias/a")})
	refused(t, err, "InvalidArnException")
}

func mustRequestID(t *testing.T, m smithymiddleware.Metadata) string {
	t.Helper()
	id, ok := middleware.GetRequestIDMetadata(m)
	if !ok || id == "" {
		t.Error("the answer has no request id")
	}
	return id
}
