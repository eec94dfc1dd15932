package keysvc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

func openQuiet(t *testing.T, dir string, simulated bool) *Service {
	t.Helper()
	svc, err := Open(Options{
		Dir: filepath.Join(dir, "keysvc"), DefaultRootKeyFile: filepath.Join(dir, "root.key"),
		SimulatedClock: simulated, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { svc.Close() })
	return svc
}

// TestMaterialOutlivesItsKeyWhileInUse destroys a key under an action that uses
// its material: the action ends well, the material is wiped then, no other
// action begins.
func TestMaterialOutlivesItsKeyWhileInUse(t *testing.T) {
	svc := openQuiet(t, t.TempDir(), true)
	root := svc.LocalCaller(0)
	made, err := Call(t.Context(), svc, root, kmsapi.OpCreateKey, (*Service).CreateKey, &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id := made.KeyMetadata.KeyID
	if _, err := Call(t.Context(), svc, root, kmsapi.OpRotateKeyOnDemand, (*Service).RotateKeyOnDemand, &kmsapi.KeyIDInput{KeyID: id}); err != nil {
		t.Fatal(err)
	}
	k := svc.index.key(id)
	if err := svc.permitted(access{caller: root, action: kmsapi.OpDecrypt, key: k}); !errors.Is(err, errUnaudited) {
		t.Errorf("an action that nothing records: %v", err)
	}
	called := root
	called.call = new(call)
	err = svc.perform(access{caller: called, action: kmsapi.OpDecrypt, key: k}, func(m materials) error {
		before := bytes.Clone(m.current().bytes.Bytes())
		if _, err := Call(t.Context(), svc, root, kmsapi.OpScheduleKeyDeletion, (*Service).ScheduleKeyDeletion, &kmsapi.ScheduleKeyDeletionInput{KeyID: id}); err != nil {
			return err
		}
		out, err := Call(t.Context(), svc, root, kmsapi.OpAdvanceClock, (*Service).Advance, &kmsapi.AdvanceInput{Seconds: 31 * 86400})
		if err != nil || len(out.Events) != 1 {
			t.Errorf("the deletion: %+v, %v", out, err)
		}
		err = svc.permitted(access{caller: called, action: kmsapi.OpDecrypt, key: k})
		var e *kmsapi.Error
		if !errors.As(err, &e) || e.Code != kmsapi.CodeNotFound {
			t.Errorf("a destroyed key: %v", err)
		}
		if !bytes.Equal(before, m.current().bytes.Bytes()) {
			t.Error("the material was wiped under the action that uses it")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := k.life.inUse.Load(); n != 0 {
		t.Errorf("%d actions still hold the key", n)
	}
	wiped := false
	k.life.wipe.Do(func() { wiped = true })
	if wiped {
		t.Error("the material was not wiped when the last action ended")
	}
}

// TestNothingBeginsAfterClose: nothing is performed when the service has ended.
func TestNothingBeginsAfterClose(t *testing.T) {
	svc := openQuiet(t, t.TempDir(), false)
	root := svc.LocalCaller(0)
	root.call = new(call)
	if err := svc.Close(); err != nil {
		t.Fatal(err)
	}
	err := svc.perform(access{caller: root, action: kmsapi.OpListKeys}, func(materials) error {
		t.Error("an action begins")
		return nil
	})
	var e *kmsapi.Error
	if !errors.As(err, &e) || e.Code != kmsapi.CodeKeyUnavailable {
		t.Errorf("an action of a closed service: %v", err)
	}
}

// TestKeysFromBeforeUsageWasNoted opens a store whose records lack what is new.
func TestKeysFromBeforeUsageWasNoted(t *testing.T) {
	dir := t.TempDir()
	svc := openQuiet(t, dir, false)
	root := svc.LocalCaller(0)
	made, err := Call(t.Context(), svc, root, kmsapi.OpCreateKey, (*Service).CreateKey, &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id := made.KeyMetadata.KeyID
	r := svc.index.key(id).record
	r.CreatedAt = r.CreatedAt.Add(-time.Hour)
	r.UsageSince = time.Time{}
	old, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(old, []byte("UsageSince")) || bytes.Contains(old, []byte("Rotation")) {
		t.Errorf("an old record has new members: %s", old)
	}
	if err := svc.db.Update(func(tx store.SealedTx) error { return tx.Set(keyRecordName(id), old) }); err != nil {
		t.Fatal(err)
	}
	var since float64
	for range 2 {
		if err := svc.Close(); err != nil {
			t.Fatal(err)
		}
		svc = openQuiet(t, dir, false)
		out, err := Call(t.Context(), svc, root, kmsapi.OpGetKeyLastUsage, (*Service).GetKeyLastUsage, &kmsapi.KeyIDInput{KeyID: id})
		if err != nil || out.TrackingStartDate < out.KeyCreationDate+3600 || since != 0 && out.TrackingStartDate != since {
			t.Errorf("GetKeyLastUsage: %+v, %v", out, err)
		}
		since = out.TrackingStartDate
	}
}
