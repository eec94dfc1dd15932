package keysvc

import (
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// changeKey performs an action that changes one key, named without an alias. No
// other change happens between the look at the key and do's return.
func (s *Service) changeKey(caller Caller, keyID, action string, do func(*key) error) error {
	return s.changeKeyIf(caller, keyID, action, nil, do)
}

// changeKeyIf is changeKey for an action with parameters that policies may have
// conditions on.
func (s *Service) changeKeyIf(caller Caller, keyID, action string, conditions func(*policy.Context), do func(*key) error) error {
	if err := checkKeyID(keyID); err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	a, err := s.accessKey(caller, action, keyID)
	if err != nil {
		return err
	}
	a.conditions = conditions
	return s.perform(a, func(materials) error { return do(a.key) })
}

// readKey performs an action that reads one key, named without an alias.
func (s *Service) readKey(caller Caller, keyID, action string, do func(*key) error) error {
	a, err := s.accessKey(caller, action, keyID)
	if err != nil {
		return err
	}
	return s.perform(a, func(materials) error { return do(a.key) })
}

func checkKeyID(keyID string) error {
	var v violations
	v.text(keyID, "keyId", kmsapi.MaxKeyID)
	return v.err()
}

// replaceKey stores r in the place of k's record and then shows it to everybody.
// Call it with changing held.
func (s *Service) replaceKey(k *key, r keyRecord) error {
	next, err := k.withRecord(r)
	if err != nil {
		return err
	}
	if err := s.db.Update(func(tx store.SealedTx) error { return putRecord(tx, keyRecordName(r.ID), r) }); err != nil {
		return err
	}
	s.showKey(next)
	return nil
}

// showKey puts a key whose record is stored into the index.
func (s *Service) showKey(k *key) {
	s.index.setKey(k)
	if !k.record.nextEvent().IsZero() {
		s.reschedule()
	}
}
