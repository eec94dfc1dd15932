package keysvc_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// smallDisk is a filesystem of its own that can be filled.
type smallDisk struct{ dir string }

func newSmallDisk(t *testing.T) smallDisk {
	t.Helper()
	dir := keysvctest.TempDir(t)
	if err := unix.Mount("kmsfs-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=700"); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("only root can mount")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return smallDisk{dir}
}

func (d smallDisk) filler() string { return filepath.Join(d.dir, "filler") }

func (d smallDisk) fill(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(d.filler(), make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

func (d smallDisk) free(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		t.Fatal(err)
	}
}

// TestFullDiskRefusesCalls fills the disk that the audit log is on: no call is
// answered, and nothing of an output leaves. A change that was made by then is in
// the log before the next answer.
func TestFullDiskRefusesCalls(t *testing.T) {
	disk := newSmallDisk(t)
	srv := keysvctest.NewServer(t, keysvctest.WithAuditDir(disk.dir))
	ctx := t.Context()
	root, c := sdk(srv), srv.Client()
	key := newKey(t, root)
	want := map[string]int{"CreateKey": 1}
	generate := func() error {
		out, err := root.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: "AES_256"})
		if err == nil {
			want["GenerateDataKey"]++
		} else if out != nil {
			t.Errorf("a refused call has an output: %+v", out)
		}
		return err
	}
	items := make([]kmsapi.BatchItem, 70) // two chunks
	for i := range items {
		items[i] = kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, NumberOfBytes: 32}
	}
	refusedByLog := func(err error) {
		t.Helper()
		var e *kmsapi.Error
		if err == nil || !strings.Contains(err.Error(), kmsapi.CodeInternal) && !(errors.As(err, &e) && e.Code == kmsapi.CodeInternal) {
			t.Errorf("with a full disk: %v", err)
		}
	}
	disk.fill(t)
	var err error
	for range 20 { // there is room in the log's last page
		if err = generate(); err != nil {
			break
		}
	}
	refusedByLog(err)
	for _, n := range []int{1, 70} {
		for i, r := range batch(t, c, items[:n]...) {
			if r.Err == nil || r.Err.Code != kmsapi.CodeInternal || r.Plaintext != nil || r.CiphertextBlob != nil {
				t.Fatalf("item %d of %d: %+v", i, n, r)
			}
		}
	}
	_, err = root.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &key})
	refusedByLog(err)
	status, _, answer := post(t, srv.HTTPClient(uint32(os.Geteuid())), "TrentService.GenerateRandom", `{"NumberOfBytes":32}`)
	if status != http.StatusInternalServerError || strings.Contains(answer, "Plaintext") {
		t.Errorf("GenerateRandom: %d %s", status, answer)
	}
	_, err = root.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: &key, Description: aws.String("changed")})
	refusedByLog(err)
	want["UpdateKeyDescription"]++ // made, and owed
	_, err = root.UpdateKeyDescription(ctx, &kms.UpdateKeyDescriptionInput{KeyId: &key, Description: aws.String("changed again")})
	refusedByLog(err)
	want["UpdateKeyDescription "+kmsapi.CodeInternal]++ // not made while one is owed, and the log says so

	disk.free(t)
	if err := generate(); err != nil {
		t.Errorf("with room again: %v", err)
	}
	for i, r := range batch(t, c, items...) {
		if r.Err != nil || len(r.Plaintext) != 32 {
			t.Errorf("item %d: %+v", i, r)
		}
		want["GenerateDataKey"]++
	}
	out, err := root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key})
	if err != nil || *out.KeyMetadata.Description != "changed" {
		t.Errorf("the change: %+v, %v", out, err)
	}
	want["DescribeKey"]++
	got := map[string]int{}
	for _, r := range records(t, disk.dir) {
		got[strings.TrimSpace(r.EventName+" "+r.ErrorCode)]++
		if r.EventName == "UpdateKeyDescription" && (got["GenerateDataKey"] == 0 || want["GenerateDataKey"]-got["GenerateDataKey"] != 71) {
			t.Errorf("the change is recorded after %d data keys", got["GenerateDataKey"])
		}
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%d records of %s, want %d", got[name], name, n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("records of %v, want %v", got, want)
	}
}

// TestFullDiskWhenClosing: a change that is owed is not lost when the service ends
// with room on the disk.
func TestFullDiskWhenClosing(t *testing.T) {
	disk := newSmallDisk(t)
	srv := keysvctest.NewServer(t, keysvctest.WithAuditDir(disk.dir))
	root := sdk(srv)
	key := newKey(t, root)
	disk.fill(t)
	refused := false
	for i := 0; i < 20 && !refused; i++ {
		_, err := root.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &key})
		refused = err != nil
	}
	disk.free(t)
	srv.Stop()
	last := ""
	for _, r := range records(t, disk.dir) {
		last = r.EventName
	}
	if !refused || last != "DisableKey" {
		t.Errorf("refused: %t, the last record is of %s", refused, last)
	}
}
