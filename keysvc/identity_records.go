package keysvc

import (
	"fmt"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
)

// Names of the records of identities. As key material has, secrets have records of
// their own: they are opened for use only, and into locked memory.
const (
	entityRecords = "iam/entity/"
	policyRecords = "iam/policy/"
	secretRecords = "iam/secret/"
)

func entityRecordName(uniqueID string) string    { return entityRecords + uniqueID }
func policyRecordName(uniqueID string) string    { return policyRecords + uniqueID }
func secretRecordName(accessKeyID string) string { return secretRecords + accessKeyID }

// accessKeySecretLen is the length of a secret access key.
const accessKeySecretLen = 40

// loadIdentities fills the directory from the store.
func (s *Service) loadIdentities(tx store.SealedTx) error {
	// Policies first: entities have them.
	err := tx.Scan(policyRecords, func(name string, value []byte) error {
		p := new(identity.Policy)
		if err := parseRecord(name, value, p, &p.Schema); err != nil {
			return err
		}
		if err := s.identities.SetPolicy(p); err != nil {
			return fmt.Errorf("record %s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return tx.Scan(entityRecords, func(name string, value []byte) error {
		e := new(identity.Entity)
		if err := parseRecord(name, value, e, &e.Schema); err != nil {
			return err
		}
		if e.Trust != nil {
			if _, err := e.Trust.Load(policy.TrustPolicy); err != nil {
				return fmt.Errorf("record %s: trust policy: %w", name, err)
			}
		}
		if err := s.identities.Set(e); err != nil {
			return fmt.Errorf("record %s: %w: the store was changed, restore it from a backup", name, err)
		}
		return nil
	})
}

// putEntity stores e, and what more does in the same transaction, and then shows it to
// everybody. Call it with changing held.
func (s *Service) putEntity(e *identity.Entity, more func(store.SealedTx) error) error {
	e.Schema = recordSchema
	err := s.db.Update(func(tx store.SealedTx) error {
		if more != nil {
			if err := more(tx); err != nil {
				return err
			}
		}
		return putRecord(tx, entityRecordName(e.ID), e)
	})
	if err != nil {
		return err
	}
	return s.identities.Set(e)
}

// putPolicy stores a managed policy and then shows it to everybody. Call it with
// changing held.
func (s *Service) putPolicy(p *identity.Policy) error {
	p.Schema = recordSchema
	err := s.db.Update(func(tx store.SealedTx) error { return putRecord(tx, policyRecordName(p.ID), p) })
	if err != nil {
		return err
	}
	return s.identities.SetPolicy(p)
}
