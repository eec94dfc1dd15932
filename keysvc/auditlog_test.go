package keysvc_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// auditDir is where a service under test keeps its audit log.
func auditDir(srv *keysvctest.Server) string { return filepath.Join(srv.StateDir, "audit") }

// records are the audit log's, without checkpoints. The log verifies.
func records(t testing.TB, dir string) (list []audit.Record) {
	t.Helper()
	rep, err := audit.Verify(dir, audit.VerifyOptions{})
	if err != nil || rep.Fault != nil {
		t.Fatalf("audit verify: %v, %v", err, rep)
	}
	err = audit.Tail(t.Context(), dir, 1<<30, false, func(line []byte) error {
		if audit.IsCheckpoint(line) {
			return nil
		}
		var r audit.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		list = append(list, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if uint64(len(list)) != rep.Records {
		t.Errorf("%d records are read, %d verified", len(list), rep.Records)
	}
	return list
}

// TestEveryCallIsRecorded looks at the records of one call of each kind.
func TestEveryCallIsRecorded(t *testing.T) {
	srv := keysvctest.NewServer(t)
	ctx := t.Context()
	root, other := sdk(srv), sdkAs(srv, 12345)
	made, err := root.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("for letters")})
	if err != nil {
		t.Fatal(err)
	}
	key := made.KeyMetadata
	if _, err := other.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key.KeyId, KeySpec: "AES_256", EncryptionContext: map[string]string{"a": "b"}}); err == nil {
		t.Fatal("a stranger was let in")
	}
	c := srv.Client()
	items := batch(t, c,
		kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: *key.Arn, NumberOfBytes: 32, EncryptionContext: map[string]string{"kmsfs:path": "/a"}},
		kmsapi.BatchItem{Op: kmsapi.OpDecrypt, CiphertextBlob: []byte("noise")})
	batch(t, c, kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: *key.Arn, CiphertextBlob: items[0].CiphertextBlob,
		EncryptionContext: map[string]string{"kmsfs:path": "/a"}, DestinationEncryptionContext: map[string]string{"kmsfs:path": "/b"}})
	got := records(t, auditDir(srv))
	if len(got) != 5 {
		t.Fatalf("%d records of 5 calls: %+v", len(got), got)
	}
	for i, want := range []struct {
		name, code string
		readOnly   bool
		resources  int
	}{
		{"CreateKey", "", false, 1},
		{"GenerateDataKey", "AccessDeniedException", true, 1},
		{"GenerateDataKey", "", true, 1},
		{"Decrypt", "InvalidCiphertextException", true, 0},
		{"ReEncrypt", "", true, 1},
	} {
		r := got[i]
		if r.EventName != want.name || r.ErrorCode != want.code || r.ReadOnly != want.readOnly || len(r.Resources) != want.resources || r.RequestParameters == nil ||
			r.AdditionalEventData == nil || r.AdditionalEventData.Peer == nil || r.EventID == "" {
			t.Errorf("record %d is %+v, want %+v", i, r, want)
		}
	}
	if r := got[0]; r.UserIdentity.Type != "Root" || r.RequestParameters.Description != "for letters" || r.ResponseElements == nil ||
		r.ResponseElements.KeyMetadata.ARN != *key.Arn || r.RequestID == "" {
		t.Errorf("CreateKey: %+v", r)
	}
	if r := got[1]; r.UserIdentity.Type != "IAMUser" || r.UserIdentity.UserName != "12345" || r.AdditionalEventData.Peer.UID != 12345 ||
		r.RequestParameters.KeySpec != "AES_256" || r.RequestParameters.EncryptionContext["a"] != "b" || r.Resources[0].ARN != *key.Arn {
		t.Errorf("the stranger's: %+v", r)
	}
	if r := got[2]; r.RequestParameters.NumberOfBytes != 32 || r.AdditionalEventData.KeyMaterialID != aws.ToString(key.CurrentKeyMaterialId) {
		t.Errorf("the batch's: %+v", r)
	}
	if p, a := got[4].RequestParameters, got[4].AdditionalEventData; p.SourceEncryptionContext["kmsfs:path"] != "/a" || p.DestinationEncryptionContext["kmsfs:path"] != "/b" ||
		a.SourceKeyMaterialID == "" || a.DestinationKeyMaterialID == "" {
		t.Errorf("ReEncrypt: %+v %+v", p, a)
	}
}
