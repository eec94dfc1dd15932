package keysvc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/internal/blob"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// rotation is the schedule of a key's automatic rotation.
type rotation struct {
	PeriodDays int
	Next       time.Time
}

// conflictWindow is how long before an automatic rotation AWS refuses one on
// demand.
const conflictWindow = 20 * time.Minute

// supportsRotation tells keys that the service can make new material for.
func (k *key) supportsRotation() error {
	switch {
	case k.record.Spec != kmsapi.SpecSymmetricDefault:
		return errorf(kmsapi.CodeUnsupportedOperation, "%s key spec is %s which is not valid for this operation.", k.arn, k.record.Spec)
	case k.record.Origin != kmsapi.OriginAWSKMS:
		return errorf(kmsapi.CodeUnsupportedOperation, "%s origin is %s which is not valid for this operation.", k.arn, k.record.Origin)
	}
	return nil
}

// EnableKeyRotation turns automatic rotation on, or changes its period. Without
// a change the schedule stays as it is.
func (s *Service) EnableKeyRotation(_ context.Context, caller Caller, in *kmsapi.EnableKeyRotationInput) (*kmsapi.Empty, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.number(in.RotationPeriodInDays, "rotationPeriodInDays", kmsapi.MinRotationPeriod, kmsapi.MaxRotationPeriod)
	if err := v.err(); err != nil {
		return nil, err
	}
	days := kmsapi.NormalRotationPeriod
	if in.RotationPeriodInDays != nil {
		days = *in.RotationPeriodInDays
	}
	period := numberCondition("kms:RotationPeriodInDays", days)
	return s.setRotation(caller, in.KeyID, kmsapi.OpEnableKeyRotation, period, func(old *rotation) *rotation {
		if old != nil && (in.RotationPeriodInDays == nil || old.PeriodDays == days) {
			return old
		}
		return &rotation{PeriodDays: days, Next: s.now().Add(time.Duration(days) * day)}
	})
}

// DisableKeyRotation turns automatic rotation off.
func (s *Service) DisableKeyRotation(_ context.Context, caller Caller, in *kmsapi.KeyIDInput) (*kmsapi.Empty, error) {
	return s.setRotation(caller, in.KeyID, kmsapi.OpDisableKeyRotation, nil, func(*rotation) *rotation { return nil })
}

func (s *Service) setRotation(caller Caller, keyID, action string, conditions func(*policy.Context), change func(*rotation) *rotation) (*kmsapi.Empty, error) {
	err := s.changeKeyIf(caller, keyID, action, conditions, func(k *key) error {
		if err := k.supportsRotation(); err != nil {
			return err
		}
		r := k.record
		if r.Rotation = change(k.record.Rotation); r.Rotation == k.record.Rotation {
			return nil
		}
		if err := s.replaceKey(k, r); err != nil {
			return err
		}
		s.log.Info("changed a key's rotation", "key", k.arn, "on", r.Rotation != nil, "principal", caller.ARN)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// RotateKeyOnDemand gives a key new material. The rotation is complete when the
// answer comes; AWS completes it in the background.
func (s *Service) RotateKeyOnDemand(_ context.Context, caller Caller, in *kmsapi.KeyIDInput) (*kmsapi.RotateKeyOnDemandOutput, error) {
	if err := checkKeyID(in.KeyID); err != nil {
		return nil, err
	}
	out := new(kmsapi.RotateKeyOnDemandOutput)
	err := s.readKey(caller, in.KeyID, kmsapi.OpRotateKeyOnDemand, func(k *key) error {
		if err := k.supportsRotation(); err != nil {
			return err
		}
		if !k.life.rotating.CompareAndSwap(0, s.now().UnixMilli()) {
			return errorf(kmsapi.CodeConflict, "A rotation of key %s is already in progress.", k.arn)
		}
		defer k.life.rotating.Store(0)
		s.changing.Lock()
		defer s.changing.Unlock()
		// It may have changed before the lock was ours.
		arn := k.arn
		if k = s.index.key(k.record.ID); k == nil {
			return errorf(kmsapi.CodeNotFound, "Key '%s' does not exist", arn)
		}
		if err := k.permits(kmsapi.OpRotateKeyOnDemand); err != nil {
			return err
		}
		if r := k.record.Rotation; r != nil && r.Next.Before(s.now().Add(conflictWindow)) {
			return errorf(kmsapi.CodeConflict, "An automatic rotation of key %s is in progress or scheduled to begin within the next %d minutes.",
				k.arn, int(conflictWindow.Minutes()))
		}
		if k.record.OnDemandRotations >= kmsapi.MaxOnDemandRotations {
			return errorf(kmsapi.CodeLimitExceeded, "The on-demand rotations limit has been reached for the given keyId. "+
				"No more on-demand rotations can be performed for this key: %s", k.arn)
		}
		r := k.record
		r.OnDemandRotations++
		out.KeyID = k.arn
		return s.rotate(k, r, kmsapi.RotationOnDemand)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// rotateIfDue performs k's automatic rotation. However many dates went by while
// the key was disabled or the service was away, that is one rotation, and
// the next one is a period from now. Call it with changing held.
func (s *Service) rotateIfDue(k *key, now time.Time) (rotated bool, err error) {
	if now.Before(k.record.Rotation.Next) {
		return false, nil
	}
	r := k.record
	r.Rotation = &rotation{PeriodDays: r.Rotation.PeriodDays, Next: now.Add(time.Duration(r.Rotation.PeriodDays) * day)}
	return true, s.rotate(k, r, kmsapi.RotationAutomatic)
}

// rotate stores new material for k together with r, and then begins to use it:
// nothing is ever encrypted under material that a crash could lose. Call it
// with changing held.
func (s *Service) rotate(k *key, r keyRecord, kind string) (err error) {
	m, err := generateMaterial()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			m.bytes.Free()
		}
	}()
	r.Materials = append(slices.Clone(r.Materials), materialRecord{ID: m.id, CreatedAt: s.now(), Rotation: kind})
	next, err := k.withRecord(r)
	if err != nil {
		return err
	}
	err = s.db.Update(func(tx store.SealedTx) error {
		if err := tx.Set(materialRecordName(r.ID, m.id), m.bytes.Bytes()); err != nil {
			return err
		}
		return putRecord(tx, keyRecordName(r.ID), r)
	})
	if err != nil {
		return err
	}
	next.materials = append(slices.Clone(k.materials), m)
	s.showKey(next)
	s.recordEvent(eventRotateKey, k, audit.ServiceEventDetails{RotationType: kind})
	s.log.Info("rotated a key", "key", k.arn, "material", m.id, "type", kind)
	return nil
}

// generateMaterial makes new key material, in locked memory.
func generateMaterial() (material, error) {
	buf, err := secret.New(blob.MaterialLen)
	if err != nil {
		return material{}, err
	}
	rand.Read(buf.Bytes())
	var id [32]byte
	rand.Read(id[:])
	m, err := newMaterial(hex.EncodeToString(id[:]), buf)
	if err != nil {
		buf.Free()
	}
	return m, err
}

// GetKeyRotationStatus returns the schedule of automatic rotation.
func (s *Service) GetKeyRotationStatus(_ context.Context, caller Caller, in *kmsapi.KeyIDInput) (*kmsapi.GetKeyRotationStatusOutput, error) {
	if err := checkKeyID(in.KeyID); err != nil {
		return nil, err
	}
	var out *kmsapi.GetKeyRotationStatusOutput
	err := s.readKey(caller, in.KeyID, kmsapi.OpGetKeyRotationStatus, func(k *key) error {
		out = &kmsapi.GetKeyRotationStatusOutput{KeyID: k.arn, OnDemandRotationStartDate: float64(k.life.rotating.Load()) / 1000}
		if r := k.record.Rotation; r != nil && k.record.State != kmsapi.StatePendingDeletion {
			out.KeyRotationEnabled, out.RotationPeriodInDays, out.NextRotationDate = true, r.PeriodDays, epochSeconds(r.Next)
		}
		return nil
	})
	return out, err
}

// ListKeyRotations returns a page of a key's materials, oldest first.
func (s *Service) ListKeyRotations(_ context.Context, caller Caller, in *kmsapi.ListKeyRotationsInput) (*kmsapi.ListKeyRotationsOutput, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.oneOf(in.IncludeKeyMaterial, "includeKeyMaterial", []string{kmsapi.IncludeAllKeyMaterial, kmsapi.IncludeRotationsOnly})
	v.number(in.Limit, "limit", 1, 1000)
	v.optionalText(in.Marker, "marker", 1024)
	if err := v.err(); err != nil {
		return nil, err
	}
	out := &kmsapi.ListKeyRotationsOutput{Rotations: []kmsapi.RotationsListEntry{}}
	err := s.readKey(caller, in.KeyID, kmsapi.OpListKeyRotations, func(k *key) error {
		if err := k.supportsRotation(); err != nil {
			return err
		}
		numbers := make([]int, 0, len(k.record.Materials))
		for i, m := range k.record.Materials {
			if m.Rotation != "" || deref(in.IncludeKeyMaterial) == kmsapi.IncludeAllKeyMaterial {
				numbers = append(numbers, i)
			}
		}
		list, next, err := page(numbers, func(i int) string { return fmt.Sprintf("%09d", i) }, in.Limit, 100, in.Marker)
		if err != nil {
			return err
		}
		for _, i := range list {
			out.Rotations = append(out.Rotations, k.record.rotationEntry(i))
		}
		out.NextMarker, out.Truncated = next, next != ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (r *keyRecord) rotationEntry(i int) kmsapi.RotationsListEntry {
	m := r.Materials[i]
	e := kmsapi.RotationsListEntry{KeyID: r.ID, KeyMaterialID: m.ID, KeyMaterialState: kmsapi.MaterialNonCurrent, RotationType: m.Rotation}
	if i == len(r.Materials)-1 {
		e.KeyMaterialState = kmsapi.MaterialCurrent
	}
	if m.Rotation != "" {
		e.RotationDate = epochSeconds(m.CreatedAt)
	}
	return e
}
