package keysvc_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

func advance(t *testing.T, srv *keysvctest.Server, by time.Duration) *kmsapi.AdvanceOutput {
	t.Helper()
	out, err := srv.Client().Advance(t.Context(), by)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAdvance rehearses a year in one step: what is due happens before the
// answer, at its own time.
func TestAdvance(t *testing.T) {
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now), keysvctest.WithSimulatedClock())
	c := sdk(srv)
	rotating, doomed := newKey(t, c), newKey(t, c)
	enableRotation(t, c, rotating, 90)
	date := *schedule(t, c, doomed).DeletionDate
	if err := createAlias(t, c, "alias/doomed", doomed); err == nil {
		t.Error("a key that is pending deletion gets an alias")
	}
	out := advance(t, srv, 7*day-time.Second)
	if len(out.Events) != 0 || out.Time != float64(date.Add(-time.Second).Unix()) || !exists(t, c, doomed) {
		t.Errorf("a second before the deletion: %+v", out)
	}
	out = advance(t, srv, 365*day)
	if out.Time != float64(date.Add(365*day-time.Second).Unix()) || len(out.Events) != 5 {
		t.Fatalf("after a year: %+v", out)
	}
	for i, e := range out.Events {
		want := kmsapi.LifecycleEvent{Date: float64(start.Add(time.Duration(i) * 90 * day).Unix()), KeyID: rotating, Event: kmsapi.EventRotated}
		if i == 0 {
			want = kmsapi.LifecycleEvent{Date: float64(date.Unix()), KeyID: doomed, Event: kmsapi.EventDeleted}
		}
		if e != want {
			t.Errorf("event %d is %+v, not %+v", i, e, want)
		}
	}
	if exists(t, c, doomed) {
		t.Error("the key is still there")
	}
	list := materialsOf(t, c, rotating)
	if len(list) != 5 || !list[4].RotationDate.Equal(start.Add(360*day)) || list[4].RotationType != types.RotationTypeAutomatic {
		t.Errorf("the rotations are %+v", list)
	}
	nextRotation(t, c, rotating, 90, start.Add(450*day))

	// The offset and what happened survive; new keys are of the new time.
	srv.Stop()
	clock.Add(time.Hour)
	srv.Start()
	now := start.Add(372*day - time.Second + time.Hour)
	if m := describe(t, c, newKey(t, c)); !m.CreationDate.Equal(now) {
		t.Errorf("a new key is of %s, not of %s", m.CreationDate, now)
	}
	if st := status(t, srv); st.SimulatedTime != float64(now.Unix()) || st.ClockAhead != (372*day-time.Second).Seconds() || st.StartedAt != float64(clock.Now().Unix()) {
		t.Errorf("the status is %+v", st)
	}
	// Events stay real.
	if _, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &rotating, Plaintext: []byte("p")}); err != nil {
		t.Fatal(err)
	}
	use, err := c.GetKeyLastUsage(t.Context(), &kms.GetKeyLastUsageInput{KeyId: &rotating})
	if err != nil || !use.KeyLastUsage.Timestamp.Equal(clock.Now()) {
		t.Errorf("the last use: %+v, %v", use, err)
	}
}

func status(t *testing.T, srv *keysvctest.Server) *kmsapi.Status {
	t.Helper()
	st, err := srv.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A simulated clock runs, too.
func TestSimulatedClockRuns(t *testing.T) {
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now), keysvctest.WithSimulatedClock())
	c := sdk(srv)
	id := newKey(t, c)
	schedule(t, c, id)
	clock.Add(7*day - time.Millisecond)
	settle()
	if !exists(t, c, id) {
		t.Fatal("destroyed early")
	}
	clock.Add(time.Millisecond)
	soon(t, "the deletion", func() bool { return !exists(t, c, id) })
}

func TestOnlyTheAccountRootAdvances(t *testing.T) {
	const owner = 12345
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now), keysvctest.WithSimulatedClock(), keysvctest.WithOwner(owner))
	by := func(uid uint32) error {
		_, err := keysvc.Call(t.Context(), srv.Service, srv.Service.LocalCaller(uid), kmsapi.OpAdvanceClock, (*keysvc.Service).Advance, &kmsapi.AdvanceInput{Seconds: 60})
		return err
	}
	if err := errors.Join(by(0), by(owner)); err != nil {
		t.Error(err)
	}
	var e *kmsapi.Error
	if err := by(otherUID); !errors.As(err, &e) || e.Code != kmsapi.CodeAccessDenied || !strings.Contains(e.Message, "kmsfs:AdvanceClock") {
		t.Errorf("another user: %v", err)
	}
	// No policy makes anybody else the account root.
	alice, err := srv.Service.HireUser(home, "/", "alice", identityPolicy(`{"Effect": "Allow", "Action": "*", "Resource": "*"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, caller := range []keysvc.Caller{alice, keysvc.RootOf(foreign)} {
		_, err := keysvc.Call(t.Context(), srv.Service, caller, kmsapi.OpAdvanceClock, (*keysvc.Service).Advance, &kmsapi.AdvanceInput{Seconds: 60})
		if !errors.As(err, &e) || e.Code != kmsapi.CodeAccessDenied || e.Message != "Only the account root may advance the clock." {
			t.Errorf("%s: %v", caller.ARN, err)
		}
	}
	if st := status(t, srv); st.ClockAhead != 120 {
		t.Errorf("the clock is %g s ahead", st.ClockAhead)
	}
}

func TestAdvanceLimits(t *testing.T) {
	clock := keysvctest.NewClock(start)
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now), keysvctest.WithSimulatedClock())
	client := srv.Client()
	for by, code := range map[time.Duration]string{
		-day: kmsapi.CodeValidation, 0: kmsapi.CodeValidation, 999 * time.Millisecond: kmsapi.CodeValidation, time.Second: "",
		3660 * day: "", 3660*day + time.Second: kmsapi.CodeValidation,
	} {
		_, err := client.Advance(t.Context(), by)
		var e *kmsapi.Error
		if got := errors.As(err, &e); got != (code != "") || got && e.Code != code {
			t.Errorf("%s: %v", by, err)
		}
	}
	for range 30 { // far, but never around
		if _, err := client.Advance(t.Context(), 3660*day); err != nil {
			var e *kmsapi.Error
			if !errors.As(err, &e) || e.Code != kmsapi.CodeValidation {
				t.Error(err)
			}
		}
	}
	if st := status(t, srv); st.ClockAhead < 200*365*86400 || st.SimulatedTime < st.ClockAhead {
		t.Errorf("the status is %+v", st)
	}
}

// TestSimulatedForEver: neither kind of store is taken for the other.
func TestSimulatedForEver(t *testing.T) {
	real := newState(t)
	simulated := newState(t, func(o *keysvc.Options) { o.SimulatedClock = true })
	for range 2 {
		if err := errors.Join(real.decrypts(t), simulated.decrypts(t)); err != nil {
			t.Fatal(err)
		}
	}
	real.opts.SimulatedClock, simulated.opts.SimulatedClock = true, false
	if err := real.decrypts(t); err == nil || !strings.Contains(err.Error(), "real clock") {
		t.Errorf("a real store with the flag: %v", err)
	}
	if err := simulated.decrypts(t); err == nil || !strings.Contains(err.Error(), "--simulated-clock") {
		t.Errorf("a simulated store without the flag: %v", err)
	}
	// Taking the mark away makes no real store of it.
	simulated.edit(t, func(tx store.Tx) error { return tx.Delete("clock") })
	for _, flag := range []bool{false, true} {
		simulated.opts.SimulatedClock = flag
		if err := simulated.decrypts(t); err == nil {
			t.Errorf("without its mark, with the flag %t, it opens", flag)
		}
	}
	real.opts.SimulatedClock = false
	svc, err := keysvc.Open(real.opts)
	if err != nil {
		t.Fatal(err)
	}
	_, err = keysvc.Call(t.Context(), svc, svc.LocalCaller(0), kmsapi.OpAdvanceClock, (*keysvc.Service).Advance, &kmsapi.AdvanceInput{Seconds: 1})
	var e *kmsapi.Error
	if !errors.As(err, &e) || e.Code != kmsapi.CodeUnsupportedOperation {
		t.Errorf("a real clock advances: %v", err)
	}
	if err := svc.Close(); err != nil {
		t.Error(err)
	}
}
