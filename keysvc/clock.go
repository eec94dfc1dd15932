package keysvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// A service has two clocks. The clock of events is real: the log, the status,
// when a key was last used; signatures and certificates are judged by it. The
// clock of key lifecycles, now, gives all dates of keys, key material and
// aliases: creation, deletion, rotation. They are the same, unless the store
// was made with a simulated clock: then now is ahead by what it was advanced.
//
// A simulated store is one for ever. Its keys were made, rotated and destroyed
// at times that never were; no date in it could be trusted on a real clock.

// clockRecordName is the record that makes a store's clock a simulated one.
const clockRecordName = "clock"

// clockRecord is how a simulated clock stands.
type clockRecord struct {
	Schema int
	Ahead  time.Duration
}

// now is the time of key lifecycles.
func (s *Service) now() time.Time {
	return s.wall().Add(time.Duration(s.ahead.Load()))
}

// wall is the clock of events without its monotonic part, which stands still
// while the machine is suspended and must not decide about dates.
func (s *Service) wall() time.Time { return s.clock().Round(0).UTC() }

// openClock finds out whether the store's clock is simulated, and refuses one
// that is not as wanted. A store without any record becomes as wanted.
func (s *Service) openClock(want bool) error {
	var found *clockRecord
	empty := true
	err := s.db.View(func(tx store.SealedTx) error {
		value, err := tx.Get(nil, clockRecordName)
		if err == nil {
			found = new(clockRecord)
			return parseRecord(clockRecordName, value, found, &found.Schema)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if !want {
			return nil
		}
		err = tx.Scan("", func(string, []byte) error { return errNotEmpty })
		if errors.Is(err, errNotEmpty) {
			empty, err = false, nil
		}
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("read the clock: %w", err)
	case found != nil && !want:
		return errors.New("the keys of this state directory live on a simulated clock, for ever: start it with `kmsfs keysvc serve --simulated-clock`")
	case found == nil && want && !empty:
		return errors.New("the keys of this state directory live on the real clock: --simulated-clock is for a new --state-dir")
	case found != nil:
		s.simulated = true
		s.ahead.Store(int64(found.Ahead))
	case want:
		s.simulated = true
		return s.setAhead(0)
	}
	return nil
}

var errNotEmpty = errors.New("there are records")

// setAhead stores how far ahead the clock is.
func (s *Service) setAhead(d time.Duration) error {
	r := clockRecord{Schema: recordSchema, Ahead: d}
	if err := s.db.Update(func(tx store.SealedTx) error { return putRecord(tx, clockRecordName, r) }); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	s.ahead.Store(int64(d))
	return nil
}

// actionAdvance is for the account root, whatever policies say.
const actionAdvance = "kmsfs:" + kmsapi.OpAdvanceClock

// Advance moves a simulated clock forward. It returns when all that was due on
// the way has happened, in its order and with its date.
func (s *Service) Advance(_ context.Context, caller Caller, in *kmsapi.AdvanceInput) (*kmsapi.AdvanceOutput, error) {
	var out *kmsapi.AdvanceOutput
	err := s.perform(access{caller: caller, action: actionAdvance}, func(materials) error {
		const limit = kmsapi.MaxAdvanceDays * int64(day/time.Second)
		switch {
		case !isAccountRoot(caller):
			return errorf(kmsapi.CodeAccessDenied, "Only the account root may advance the clock.")
		case !s.simulated:
			return errorf(kmsapi.CodeUnsupportedOperation, "The clock of this key service is real.")
		case in.Seconds < 1 || in.Seconds > limit:
			return errorf(kmsapi.CodeValidation, "The clock can be advanced by 1 second to %d days.", kmsapi.MaxAdvanceDays)
		}
		s.changing.Lock()
		defer s.changing.Unlock()
		events, err := s.advance(time.Duration(in.Seconds) * time.Second)
		if err != nil {
			return err
		}
		out = &kmsapi.AdvanceOutput{Time: epochSeconds(s.now()), Events: events}
		s.log.Info("advanced the clock", "by", time.Duration(in.Seconds)*time.Second, "principal", caller.ARN)
		return nil
	})
	return out, err
}

// maxAhead is where a time.Duration comes near its end.
const maxAhead = 250 * 365 * day

func (s *Service) advance(by time.Duration) (events []kmsapi.LifecycleEvent, err error) {
	events = []kmsapi.LifecycleEvent{}
	from := time.Duration(s.ahead.Load())
	to := from + by
	if to > maxAhead {
		return nil, errorf(kmsapi.CodeValidation, "The clock would be more than %d years ahead.", int(maxAhead/(365*day)))
	}
	// Where it will stand is stored first: a crash in between leaves no date
	// in the store that the clock has not reached.
	if err := s.setAhead(to); err != nil {
		return nil, err
	}
	s.ahead.Store(int64(from))
	defer s.ahead.Store(int64(to))
	for {
		at := s.firstEvent()
		real := s.wall()
		if at.IsZero() || at.After(real.Add(to)) {
			break
		}
		// The clock never goes back, not even to an event that is late.
		s.ahead.Store(max(s.ahead.Load(), int64(at.Sub(real))))
		fired, err := s.fireDue()
		events = append(events, fired...)
		if err != nil {
			return nil, err
		}
	}
	return events, nil
}
