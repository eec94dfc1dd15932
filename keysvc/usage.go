package keysvc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// When a key was last used is noted in memory, by one atomic store for a use,
// and goes to the disk a minute later and when the service ends. A service that
// is killed forgets the uses of its last minute: GetKeyLastUsage then
// names an older one. AWS is up to an hour late.

// usageDelay is how long a use stays in memory only.
const usageDelay = time.Minute

const usageRecords = "usage/"

func usageRecordName(id string) string { return usageRecords + id }

// use is the last successful cryptographic operation with a key.
type use struct {
	Schema    int
	Operation string
	// At is the time of the event, as a log would have it. It is real even on
	// a simulated clock.
	At        time.Time
	RequestID string `json:",omitempty"`
}

// usage is a key's last use.
type usage struct {
	last   atomic.Pointer[use]
	stored *use // what the store has; guarded by Service.changing
}

// noteUse notes a successful access.
func (s *Service) noteUse(a *access) {
	op := usedAs(a.action)
	if op == "" {
		return
	}
	a.key.life.usage.last.Store(&use{Schema: recordSchema, Operation: op, At: s.clock(), RequestID: a.caller.RequestID})
	if !s.usageDirty.Load() && s.usageDirty.CompareAndSwap(false, true) {
		select {
		case s.used <- struct{}{}:
		default:
		}
	}
}

// usedAs is what GetKeyLastUsage calls an action, or "" for one that does not
// use key material.
func usedAs(action string) string {
	switch action {
	case kmsapi.OpEncrypt, kmsapi.OpDecrypt, kmsapi.OpGenerateDataKey, kmsapi.OpGenerateDataKeyWithoutPlaintext:
		return action
	case reEncryptFrom, reEncryptTo:
		return kmsapi.OpReEncrypt
	}
	return ""
}

// maxUsageBatch is how many records fit well into one transaction.
const maxUsageBatch = 256

// storeUsage stores the uses that the store does not know yet.
func (s *Service) storeUsage() error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.usageDirty.Store(false) // before the look: what comes later wakes again
	var changed []*key
	for _, k := range s.index.allKeys() {
		if k.life.usage.last.Load() != k.life.usage.stored {
			changed = append(changed, k)
		}
	}
	for some := range slices.Chunk(changed, maxUsageBatch) {
		last := make([]*use, len(some))
		err := s.db.Update(func(tx store.SealedTx) error {
			for i, k := range some {
				last[i] = k.life.usage.last.Load()
				if err := putRecord(tx, usageRecordName(k.record.ID), last[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("store when keys were used: %w", err)
		}
		for i, k := range some {
			k.life.usage.stored = last[i]
		}
	}
	return nil
}

// loadUsage reads what storeUsage stored.
func (s *Service) loadUsage(tx store.SealedTx) error {
	return tx.Scan(usageRecords, func(name string, value []byte) error {
		u := new(use)
		if err := parseRecord(name, value, u, &u.Schema); err != nil {
			return err
		}
		k := s.index.key(strings.TrimPrefix(name, usageRecords))
		if k == nil {
			return fmt.Errorf("record %s: its key is missing: the store was changed, restore it from a backup", name)
		}
		k.life.usage.last.Store(u)
		k.life.usage.stored = u
		return nil
	})
}

// beginUsage marks keys that are older than this bookkeeping.
func (s *Service) beginUsage() error {
	s.changing.Lock()
	defer s.changing.Unlock()
	var errs []error
	for _, k := range s.index.allKeys() {
		if k.record.UsageSince.IsZero() {
			r := k.record
			r.UsageSince = s.now()
			errs = append(errs, s.replaceKey(k, r))
		}
	}
	return errors.Join(errs...)
}

// GetKeyLastUsage tells what a key was last used for.
func (s *Service) GetKeyLastUsage(_ context.Context, caller Caller, in *kmsapi.KeyIDInput) (*kmsapi.GetKeyLastUsageOutput, error) {
	if err := checkKeyID(in.KeyID); err != nil {
		return nil, err
	}
	var out *kmsapi.GetKeyLastUsageOutput
	err := s.readKey(caller, in.KeyID, kmsapi.OpGetKeyLastUsage, func(k *key) error {
		out = &kmsapi.GetKeyLastUsageOutput{
			KeyID:             k.record.ID,
			KeyCreationDate:   epochSeconds(k.record.CreatedAt),
			TrackingStartDate: epochSeconds(k.record.UsageSince),
		}
		if u := k.life.usage.last.Load(); u != nil {
			out.KeyLastUsage = kmsapi.KeyLastUsage{Operation: u.Operation, Timestamp: float64(u.At.Unix()), KmsRequestID: u.RequestID}
		}
		return nil
	})
	return out, err
}
