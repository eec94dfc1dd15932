package keysvc_test

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

const day = 24 * time.Hour

// The hold between a deletion's date and the deletion.
const hold = time.Hour

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// schedule schedules a deletion in 7 days.
func schedule(t *testing.T, c *kms.Client, id string) *kms.ScheduleKeyDeletionOutput {
	t.Helper()
	out, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// soon waits for what the service's timer is to do.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it does not happen", what)
		}
	}
}

// destroyed lets time pass until the key is destroyed, which must be soon.
func destroyed(t *testing.T, c *kms.Client, id string, clock *keysvctest.Clock) {
	t.Helper()
	limit := clock.Now().Add(1000 * time.Minute)
	soon(t, "the deletion", func() bool {
		if clock.Now().Before(limit) {
			clock.Add(time.Minute)
		}
		return !exists(t, c, id)
	})
}

// settle gives the service's timer time for what it must not do.
func settle() { time.Sleep(60 * time.Millisecond) }

func exists(t *testing.T, c *kms.Client, id string) bool {
	t.Helper()
	_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	if err != nil {
		says(t, err, "NotFoundException", "Key '"+arnPrefix+"key/"+id+"' does not exist")
	}
	return err == nil
}

func TestDeletionWindow(t *testing.T) {
	clock := keysvctest.NewClock(start)
	c := sdk(keysvctest.NewServer(t, keysvctest.WithClock(clock.Now)))
	const constraint = "1 validation error detected: Value '%d' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value %s than or equal to %d"
	for days, message := range map[int32]string{
		-1: "", 7: "", 8: "", 29: "", 30: "", // -1: not given
		1: "PendingWindowInDays must be between 7 and 30", 6: "PendingWindowInDays must be between 7 and 30",
		31: "PendingWindowInDays must be between 7 and 30", 365: "PendingWindowInDays must be between 7 and 30",
		0: fmt.Sprintf(constraint, 0, "greater", 1), 366: fmt.Sprintf(constraint, 366, "less", 365),
	} {
		id := newKey(t, c)
		in := &kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: &days}
		want := days
		if days == -1 {
			in.PendingWindowInDays, want = nil, 30
		}
		out, err := c.ScheduleKeyDeletion(t.Context(), in)
		if message != "" {
			says(t, err, "ValidationException", message)
			if m := describe(t, c, id); m.KeyState != types.KeyStateEnabled {
				t.Errorf("a refused deletion leaves the key %s", m.KeyState)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		date := start.Add(time.Duration(want) * day)
		if *out.KeyId != arnPrefix+"key/"+id || out.KeyState != types.KeyStatePendingDeletion || *out.PendingWindowInDays != want || !out.DeletionDate.Equal(date) {
			t.Errorf("ScheduleKeyDeletion answers %+v", *out)
		}
		if m := describe(t, c, id); m.KeyState != types.KeyStatePendingDeletion || m.Enabled || !m.DeletionDate.Equal(date) || m.PendingDeletionWindowInDays != nil {
			t.Errorf("the key is %+v", *m)
		}
	}
}

func TestCancelKeyDeletion(t *testing.T) {
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now))
	c := sdk(srv)
	id := newKey(t, c)
	cancel := func() error {
		out, err := c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &id})
		if err == nil && *out.KeyId != arnPrefix+"key/"+id {
			t.Errorf("CancelKeyDeletion answers %s", *out.KeyId)
		}
		return err
	}
	says(t, cancel(), "KMSInvalidStateException", arnPrefix+"key/"+id+" is not pending deletion.")
	schedule(t, c, id)
	if err := cancel(); err != nil {
		t.Fatal(err)
	}
	if m := describe(t, c, id); m.KeyState != types.KeyStateDisabled || m.DeletionDate != nil {
		t.Errorf("the saved key is %s, its deletion %v", m.KeyState, m.DeletionDate)
	}
	says(t, cancel(), "KMSInvalidStateException", arnPrefix+"key/"+id+" is not pending deletion.")
	clock.Add(60 * day)
	srv.Stop()
	srv.Start()
	settle()
	if !exists(t, c, id) {
		t.Error("a cancelled deletion happened")
	}
}

func TestKeyIsDestroyed(t *testing.T) {
	for name, asleep := range map[string]bool{"while the service runs": false, "while it was away": true} {
		t.Run(name, func(t *testing.T) {
			clock := keysvctest.NewClock(start)
			srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now))
			c := sdk(srv)
			id, other := newKey(t, c), newKey(t, c)
			for _, a := range []string{"alias/a", "alias/b"} {
				if err := createAlias(t, c, a, id); err != nil {
					t.Fatal(err)
				}
			}
			if err := createAlias(t, c, "alias/other", other); err != nil {
				t.Fatal(err)
			}
			if _, err := c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}); err != nil {
				t.Fatal(err)
			}
			enc, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("p")})
			if err != nil {
				t.Fatal(err)
			}
			date := *schedule(t, c, id).DeletionDate
			at := func(now time.Time) {
				if asleep {
					srv.Stop()
				}
				clock.Set(now)
				if asleep {
					srv.Start()
				}
				settle()
			}
			for _, now := range []time.Time{date.Add(-time.Millisecond), date, date.Add(hold - time.Millisecond)} {
				at(now)
				if !exists(t, c, id) {
					t.Fatalf("destroyed at %s, the date is %s", now, date)
				}
				_, err = c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &id, CiphertextBlob: enc.CiphertextBlob})
				says(t, err, "KMSInvalidStateException", arnPrefix+"key/"+id+" is pending deletion.")
			}
			at(date.Add(hold))
			destroyed(t, c, id, clock)
			for range 2 {
				_, err = c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &id, CiphertextBlob: enc.CiphertextBlob})
				refused(t, err, "NotFoundException")
				_, err = c.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &id})
				refused(t, err, "NotFoundException")
				_, err = c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/a")})
				says(t, err, "NotFoundException", "Alias "+arnPrefix+"alias/a is not found.")
				if keys := listAll(t, c); len(keys) != 1 || keys[0] != other {
					t.Errorf("the keys left are %v", keys)
				}
				if err := createAlias(t, c, "alias/a", other); err != nil {
					t.Error(err)
				}
				if _, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/a")}); err != nil {
					t.Error(err)
				}
				srv.Stop()
				srv.Start()
			}
			srv.Stop()
			for _, n := range recordNames(t, srv) {
				if strings.Contains(n, id) || strings.HasPrefix(n, "alias/") && n != "alias/other" {
					t.Errorf("record %s is left", n)
				}
			}
			srv.Start()
		})
	}
}

// recordNames reads the store of a stopped service.
func recordNames(t *testing.T, srv *keysvctest.Server) (names []string) {
	t.Helper()
	db, err := store.OpenBadger(filepath.Join(srv.StateDir, "keysvc", "db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx store.Tx) error {
		return tx.Scan("", func(name string, _ []byte) error {
			names = append(names, name)
			return nil
		})
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return names
}

// TestWrongClockDestroysNothing: a machine that wakes up in another century
// and is put right within the hold keeps its keys, and one whose clock goes back
// keeps them longer.
func TestWrongClockDestroysNothing(t *testing.T) {
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now))
	c := sdk(srv)
	id := newKey(t, c)
	date := *schedule(t, c, id).DeletionDate
	// look starts a service at some time, which looks at all keys at once.
	look := func(now time.Time) {
		t.Helper()
		clock.Set(now)
		srv.Stop()
		srv.Start()
		if !exists(t, c, id) {
			t.Fatalf("destroyed at %s, the date is %s", now, date)
		}
	}
	for range 3 {
		wrong := start.AddDate(80, 0, 0)
		look(wrong)
		look(wrong.Add(hold - time.Second))
		look(start.Add(day)) // put right
	}
	if m := describe(t, c, id); !m.DeletionDate.Equal(date) {
		t.Errorf("the date moved to %s", m.DeletionDate)
	}
	look(date) // the hold starts here, not in the other century
	look(date.Add(hold - time.Second))
	look(date.Add(-time.Second)) // back, so it starts once more
	look(start.AddDate(80, 0, 0))
	// That mark is from the future: it starts again, and ends.
	look(date.Add(2*hold - time.Second))
	destroyed(t, c, id, clock)
}

// An alias that pointed at the key and points elsewhere by then survives.
func TestAliasMovedAwaySurvives(t *testing.T) {
	clock := keysvctest.NewClock(start)
	c := sdk(keysvctest.NewServer(t, keysvctest.WithClock(clock.Now)))
	id, other := newKey(t, c), newKey(t, c)
	if err := createAlias(t, c, "alias/a", id); err != nil {
		t.Fatal(err)
	}
	date := *schedule(t, c, id).DeletionDate
	if _, err := c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: &other}); err != nil {
		t.Fatal(err)
	}
	clock.Set(date)
	destroyed(t, c, id, clock)
	if m := describe(t, c, "alias/a"); *m.KeyId != other {
		t.Errorf("the alias names %s", *m.KeyId)
	}
}
