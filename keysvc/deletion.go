package keysvc

import (
	"context"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const day = 24 * time.Hour

// deletionHold is how long a deletion that was seen to be due is put off. A
// clock that is wrong for a moment (a machine without a battery that starts in
// another year, a slip of the hand) must not cost a key: within the hold it is
// put right, and the deletion is not due any more. AWS too destroys up to
// a day later than the date it gives.
const deletionHold = time.Hour

// deletion is a key's scheduled end.
type deletion struct {
	// Date is fixed when the deletion is scheduled. Nothing is computed anew
	// from a clock that may have been set back or forth since.
	Date time.Time
	// SeenDue is when Date was first seen to have passed; zero before.
	SeenDue time.Time `json:",omitzero"`
}

// ScheduleKeyDeletion makes a key unusable at once and destroys it when the
// window has passed.
func (s *Service) ScheduleKeyDeletion(_ context.Context, caller Caller, in *kmsapi.ScheduleKeyDeletionInput) (*kmsapi.ScheduleKeyDeletionOutput, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.number(in.PendingWindowInDays, "pendingWindowInDays", 1, 365) // the model's range
	if err := v.err(); err != nil {
		return nil, err
	}
	days := kmsapi.MaxPendingWindow
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	if days < kmsapi.MinPendingWindow || days > kmsapi.MaxPendingWindow {
		return nil, errorf(kmsapi.CodeValidation, "PendingWindowInDays must be between %d and %d", kmsapi.MinPendingWindow, kmsapi.MaxPendingWindow)
	}
	var out *kmsapi.ScheduleKeyDeletionOutput
	window := numberCondition("kms:ScheduleKeyDeletionPendingWindowInDays", days)
	err := s.changeKeyIf(caller, in.KeyID, kmsapi.OpScheduleKeyDeletion, window, func(k *key) error {
		r := k.record
		r.State = kmsapi.StatePendingDeletion
		r.Deletion = &deletion{Date: s.now().Add(time.Duration(days) * day)}
		if err := s.replaceKey(k, r); err != nil {
			return err
		}
		s.log.Info("scheduled a key's deletion", "key", k.arn, "date", r.Deletion.Date, "principal", caller.ARN)
		out = &kmsapi.ScheduleKeyDeletionOutput{
			KeyID: k.arn, KeyState: r.State, DeletionDate: epochSeconds(r.Deletion.Date), PendingWindowInDays: days}
		return nil
	})
	return out, err
}

// CancelKeyDeletion saves a key from its scheduled deletion. It is disabled then.
func (s *Service) CancelKeyDeletion(_ context.Context, caller Caller, in *kmsapi.KeyIDInput) (*kmsapi.CancelKeyDeletionOutput, error) {
	var out *kmsapi.CancelKeyDeletionOutput
	err := s.changeKey(caller, in.KeyID, kmsapi.OpCancelKeyDeletion, func(k *key) error {
		r := k.record
		r.State, r.Deletion = kmsapi.StateDisabled, nil
		if err := s.replaceKey(k, r); err != nil {
			return err
		}
		s.log.Info("cancelled a key's deletion", "key", k.arn, "principal", caller.ARN)
		out = &kmsapi.CancelKeyDeletionOutput{KeyID: k.arn}
		return nil
	})
	return out, err
}

// next is when something is to be done about d.
func (d *deletion) next() time.Time {
	if d.SeenDue.IsZero() {
		return d.Date
	}
	return d.SeenDue.Add(deletionHold)
}

// deleteIfDue does what is due about k's deletion: it notes that the date has
// passed, or that the clock has been put right, or destroys the key. Call it
// with changing held.
func (s *Service) deleteIfDue(k *key, now time.Time) (destroyed bool, err error) {
	d := *k.record.Deletion
	passed := !now.Before(d.Date)
	switch {
	case passed && s.simulated:
		return true, s.destroy(k) // a rehearsal on a clock that is never wrong
	case !passed && d.SeenDue.IsZero():
		return false, nil
	case !passed:
		s.log.Warn("the clock was set back: a key is not due for deletion after all", "key", k.arn, "date", d.Date)
		d.SeenDue = time.Time{}
	case d.SeenDue.IsZero(), now.Before(d.SeenDue):
		d.SeenDue = now
		s.log.Warn("a key is about to be destroyed", "key", k.arn, "scheduled for", d.Date, "at", d.next())
	case now.Before(d.next()):
		return false, nil
	default:
		return true, s.destroy(k)
	}
	r := k.record
	r.Deletion = &d
	return false, s.replaceKey(k, r)
}

// destroy ends a key: its material, its aliases, its grants and all that is known of it.
// What was encrypted under it cannot be decrypted again.
func (s *Service) destroy(k *key) error {
	// Grants are too many for one transaction. They go first: a crash between leaves a key
	// with fewer of them, and none without a key.
	if err := s.deleteGrants(k, k.life.grants.All()); err != nil {
		return err
	}
	id := k.record.ID
	aliases := s.index.aliasList(k.record.Account, k)
	err := s.db.Update(func(tx store.SealedTx) error {
		names := []string{keyRecordName(id), usageRecordName(id)}
		for _, m := range k.record.Materials {
			names = append(names, materialRecordName(id, m.ID))
		}
		for _, a := range aliases {
			names = append(names, a.recordName())
		}
		for _, name := range names {
			if err := tx.Delete(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.index.deleteKey(k)
	k.life.end(k.materials)
	s.recordEvent(eventDeleteKey, k, audit.ServiceEventDetails{})
	s.log.Info("destroyed a key", "key", k.arn, "scheduled for", k.record.Deletion.Date)
	return nil
}
