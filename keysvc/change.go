package keysvc

import (
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// changeKey performs an action that changes one key, named without an alias. No
// other change happens between the look at the key and do's return.
func (s *Service) changeKey(caller Caller, keyID, action string, do func(*key) error) error {
	if err := checkKeyID(keyID); err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	k, err := s.resolveKey(keyID)
	if err != nil {
		return err
	}
	return s.perform(access{caller: caller, action: action, key: k}, func(materials) error { return do(k) })
}

// readKey performs an action that reads one key, named without an alias.
func (s *Service) readKey(caller Caller, keyID, action string, do func(*key) error) error {
	k, err := s.resolveKey(keyID)
	if err != nil {
		return err
	}
	return s.perform(access{caller: caller, action: action, key: k}, func(materials) error { return do(k) })
}

func checkKeyID(keyID string) error {
	var v violations
	v.text(keyID, "keyId", kmsapi.MaxKeyID)
	return v.err()
}

// replaceKey stores r in the place of k's record and then shows it to everybody.
// Call it with changing held.
func (s *Service) replaceKey(k *key, r keyRecord) error {
	err := s.db.Update(func(tx store.SealedTx) error { return putRecord(tx, keyRecordName(r.ID), r) })
	if err != nil {
		return err
	}
	s.showKey(k.withRecord(r))
	return nil
}

// showKey puts a key whose record is stored into the index.
func (s *Service) showKey(k *key) {
	s.index.setKey(k)
	if !k.record.nextEvent().IsZero() {
		s.reschedule()
	}
}
