package keysvc

import (
	"time"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// lookAgain is the longest sleep before an event. A clock may be set, and a
// machine may be suspended, and neither moves the kernel's timers.
const lookAgain = time.Minute

// nextEvent is when the passing of time alone changes the key; zero is never.
func (r *keyRecord) nextEvent() time.Time {
	switch {
	case r.State == kmsapi.StatePendingDeletion && r.Deletion != nil:
		return r.Deletion.next()
	case r.State == kmsapi.StateEnabled && r.Rotation != nil:
		return r.Rotation.Next
	}
	return time.Time{}
}

// reschedule makes the loop look at the keys again.
func (s *Service) reschedule() {
	select {
	case s.rescheduled <- struct{}{}:
	default:
	}
}

// lifecycle rotates and destroys keys when their time comes, and stores when
// they were used. It sleeps while there is nothing to do.
func (s *Service) lifecycle() {
	defer close(s.lifecycleDone)
	var failed bool
	var store <-chan time.Time // runs while there is usage to store
	for {
		var due <-chan time.Time
		if at := s.firstEvent(); !at.IsZero() {
			wait := min(at.Sub(s.now()), s.lookAgain)
			if failed {
				wait = s.lookAgain
			}
			due = time.After(wait)
		}
		select {
		case <-s.stopLifecycle:
			return
		case <-s.rescheduled:
		case <-s.used:
			store = time.After(usageDelay)
		case <-store:
			store = nil
			if err := s.storeUsage(); err != nil {
				s.log.Error("store when keys were used", "error", err)
			}
		case <-due:
			err := s.fireOnce()
			if failed = err != nil; failed {
				s.log.Error("rotate or destroy keys that are due", "error", err)
			}
		}
	}
}

// firstEvent is the next time at which something happens; zero is never.
func (s *Service) firstEvent() (first time.Time) {
	for _, k := range s.index.allKeys() {
		if at := k.record.nextEvent(); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// fireOnce is fireDue for who holds nothing.
func (s *Service) fireOnce() error {
	if s.begin() != nil {
		return nil // closing; the next service does it
	}
	defer s.running.Done()
	s.changing.Lock()
	defer s.changing.Unlock()
	_, err := s.fireDue()
	return err
}

// fireDue does all that is due. What one key meets does not stop the others.
// Call it with changing held, within an action.
func (s *Service) fireDue() (events []kmsapi.LifecycleEvent, failed error) {
	if err := s.settle(); err != nil {
		return nil, err // what cannot be recorded waits
	}
	for _, k := range s.index.allKeys() {
		now := s.now()
		if at := k.record.nextEvent(); at.IsZero() {
			continue
		}
		var did bool
		var err error
		event := kmsapi.LifecycleEvent{Date: epochSeconds(now), KeyID: k.record.ID, Event: kmsapi.EventRotated}
		if k.record.State == kmsapi.StatePendingDeletion {
			event.Event = kmsapi.EventDeleted
			did, err = s.deleteIfDue(k, now)
		} else {
			did, err = s.rotateIfDue(k, now)
		}
		switch {
		case err != nil:
			failed = err
		case did:
			events = append(events, event)
		}
	}
	return events, failed
}
