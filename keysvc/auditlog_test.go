package keysvc_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"kmsfs.dev/kmsfs/keysvc"
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

// TestRefusalsBeforeACallAreRecorded: what is refused before anybody knows what it is.
func TestRefusalsBeforeACallAreRecorded(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := srv.HTTPClient(otherUID)
	for _, target := range []string{"TrentService.CreateCustomKeyStore", "TrentService.\"<script>", "nothing", ""} {
		if status, _, _ := post(t, c, target, "{}"); status != 400 {
			t.Errorf("%q: status %d", target, status)
		}
	}
	post(t, c, "TrentService.ListKeys", "{")
	conn, err := srv.Dial(otherUID)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	upgrade := "GET " + kmsapi.BatchPath + " HTTP/1.1\r\nHost: x\r\nUser-Agent: mallory\r\nConnection: Upgrade\r\nUpgrade: " + kmsapi.BatchUpgrade + "\r\n\r\n"
	if _, err := io.WriteString(conn, upgrade+"\xff\xff\xff\xff"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
	for range 17 { // one too many
		conn, err := srv.Dial(otherUID)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /kmsfs/status HTTP/1.1\r\nHost: x\r\n\r\n"); err == nil {
			conn.Read(make([]byte, 1)) // answered or closed
		}
	}
	c.CloseIdleConnections()
	want := []string{"CreateCustomKeyStore UnsupportedOperationException", "UnknownOperation UnsupportedOperationException", "UnknownOperation UnknownOperationException",
		"UnknownOperation UnknownOperationException", "ListKeys SerializationException", "Batch SerializationException", "Connect LimitExceededException"}
	var got []string
	for _, r := range records(t, auditDir(srv)) {
		if r.UserIdentity.UserName != fmt.Sprint(otherUID) || r.AdditionalEventData.Peer.UID != otherUID {
			t.Errorf("the record names another user: %+v", r)
		}
		if r.EventName == "Batch" && r.UserAgent != "mallory" {
			t.Errorf("the user agent is %q", r.UserAgent)
		}
		got = append(got, r.EventName+" "+r.ErrorCode)
	}
	if len(got) > len(want) { // the first connection may still have counted
		got = got[:len(want)]
	}
	if !slices.Equal(got, want) {
		t.Errorf("records\n%q, want\n%q", got, want)
	}
}

// TestLifecycleIsRecorded: what the service does by itself.
func TestLifecycleIsRecorded(t *testing.T) {
	srv := keysvctest.NewServer(t, keysvctest.WithSimulatedClock())
	ctx := t.Context()
	root := sdk(srv)
	key := newKey(t, root)
	if _, err := root.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &key, RotationPeriodInDays: aws.Int32(90)}); err != nil {
		t.Fatal(err)
	}
	advance := func(days int64) {
		t.Helper()
		_, err := keysvc.Call(ctx, srv.Service, srv.Service.LocalCaller(0), kmsapi.OpAdvanceClock, (*keysvc.Service).Advance, &kmsapi.AdvanceInput{Seconds: days * 86400})
		if err != nil {
			t.Fatal(err)
		}
	}
	advance(91)
	if _, err := root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: aws.Int32(7)}); err != nil {
		t.Fatal(err)
	}
	advance(8)
	var got []string
	for _, r := range records(t, auditDir(srv)) {
		got = append(got, r.EventName)
		if r.EventType != audit.TypeServiceEvent {
			continue
		}
		d := r.ServiceEventDetails
		if r.UserIdentity.InvokedBy != "AWS Internal" || d == nil || d.KeyID != key || len(r.Resources) != 1 || r.Resources[0].ARN != arnPrefix+"key/"+key || r.ReadOnly {
			t.Errorf("%s: %+v", r.EventName, r)
		}
		if (r.EventName == "RotateKey") != (d.RotationType == "AUTOMATIC") {
			t.Errorf("%s has the rotation type %q", r.EventName, d.RotationType)
		}
	}
	want := []string{"CreateKey", "EnableKeyRotation", "RotateKey", "AdvanceClock", "ScheduleKeyDeletion", "DeleteKey", "AdvanceClock"}
	if !slices.Equal(got, want) {
		t.Errorf("records of\n%q, want\n%q", got, want)
	}
}

// TestRemovedAuditLogIsMissed: the store knows that there was a log, and how far
// it went.
func TestRemovedAuditLogIsMissed(t *testing.T) {
	s := newState(t)
	dir := filepath.Join(filepath.Dir(s.opts.Dir), "audit")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := s.decrypts(t); !errors.Is(err, audit.ErrHead) || !strings.Contains(err.Error(), "--accept-audit-loss") {
		t.Errorf("without its audit log the service says %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := s.decrypts(t); err != nil {
		t.Errorf("put back: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.opts.AcceptAuditLoss = true
	if err := s.decrypts(t); err != nil {
		t.Errorf("its loss accepted: %v", err)
	}
	s.opts.AcceptAuditLoss = false
	if err := s.decrypts(t); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if got := records(t, dir); len(got) < 3 || got[0].EventName != audit.EventLossAccepted {
		t.Errorf("records: %+v", got)
	}
}

// TestNoSecretIsRecorded sends every action requests that are full of secrets, well
// formed and not, and looks for these and for all that came back in the log.
func TestNoSecretIsRecorded(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := srv.HTTPClient(uint32(os.Geteuid()))
	root := sdk(srv)
	key := newKey(t, root)
	plaintext := []byte("the-plaintext-that-nobody-may-see")
	sealed, err := root.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: plaintext})
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{"plaintext": plaintext, "ciphertext": sealed.CiphertextBlob, "grant token": []byte(strings.Repeat("tOkEn", 20))}
	body := map[string]any{
		"KeyId": key, "SourceKeyId": key, "DestinationKeyId": key, "TargetKeyId": key, "AliasName": "alias/x",
		"Plaintext": plaintext, "CiphertextBlob": sealed.CiphertextBlob, "GrantTokens": []string{string(secrets["grant token"])},
		"NumberOfBytes": 32, "PendingWindowInDays": 7, "Seconds": 1, "Description": "d", "TagKeys": []string{"a"},
		"EncryptionContext": map[string]string{}, "Limit": 1,
	}
	// Requests of which one member at a time is as it should not be.
	for _, name := range keysvc.ActionNames() {
		for member := range body {
			for _, change := range []any{nil, "not of this type", 7} {
				changed := maps.Clone(body)
				changed[member] = change
				text, err := json.Marshal(changed)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, answer := post(t, c, "TrentService."+name, string(text)); strings.Contains(answer, `"Plaintext"`) || strings.Contains(answer, `"CiphertextBlob"`) {
					var out struct{ Plaintext, CiphertextBlob []byte }
					if err := json.Unmarshal([]byte(answer), &out); err != nil {
						t.Fatal(err)
					}
					secrets[name+" plaintext without "+member] = out.Plaintext
					secrets[name+" ciphertext without "+member] = out.CiphertextBlob
				}
			}
		}
	}
	for i, r := range batch(t, srv.Client(), kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, NumberOfBytes: 32}) {
		secrets[fmt.Sprint("data key ", i)], secrets[fmt.Sprint("blob ", i)] = r.Plaintext, r.CiphertextBlob
	}
	if len(secrets) < 20 {
		t.Errorf("only %d secrets came back", len(secrets))
	}
	if n := len(records(t, auditDir(srv))); n < len(keysvc.ActionNames())*len(body) {
		t.Errorf("only %d records", n)
	}
	srv.Stop()
	log := readAll(t, auditDir(srv))
	for what, s := range secrets {
		if len(s) == 0 {
			continue
		}
		s = s[:min(len(s), 24)]
		for _, form := range []string{string(s), base64.StdEncoding.EncodeToString(s)[:len(s)/3*4], base64.URLEncoding.EncodeToString(s)[:len(s)/3*4], hex.EncodeToString(s)} {
			if bytes.Contains(log, []byte(form)) {
				t.Errorf("the %s is in the log", what)
			}
		}
	}
}

func readAll(t *testing.T, dir string) (all []byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}
