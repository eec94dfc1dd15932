package keysvc

import (
	"fmt"
	"slices"
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
)

const grantRecords = "grant/"

func grantRecordName(keyID, grantID string) string { return grantRecords + keyID + "/" + grantID }

// grantRecord is what is stored of a grant. Its key is in the record's name.
type grantRecord struct {
	Schema int
	grant.Grant
}

// loadGrants reads all grants. Their keys are known already.
func (s *Service) loadGrants(tx store.SealedTx) error {
	return tx.Scan(grantRecords, func(name string, value []byte) error {
		r := new(grantRecord)
		if err := parseRecord(name, value, r, &r.Schema); err != nil {
			return err
		}
		keyID, id, _ := strings.Cut(strings.TrimPrefix(name, grantRecords), "/")
		k := s.index.key(keyID)
		if k == nil || r.ID != id {
			return fmt.Errorf("record %s: its key is missing, or it is another grant's: the store was changed, restore it from a backup", name)
		}
		if err := k.life.grants.Add(&r.Grant); err != nil {
			return fmt.Errorf("record %s: %w", name, err)
		}
		return nil
	})
}

// putGrant stores a grant on k and then lets it count. Call it with changing held.
func (s *Service) putGrant(k *key, g *grant.Grant) error {
	err := s.db.Update(func(tx store.SealedTx) error {
		return putRecord(tx, grantRecordName(k.record.ID, g.ID), grantRecord{recordSchema, *g})
	})
	if err != nil {
		return err
	}
	return k.life.grants.Add(g)
}

// maxGrantBatch is how many deletions fit well into one transaction.
const maxGrantBatch = 1000

// deleteGrants deletes grants on k, each for good before it stops to count. Call it with
// changing held.
func (s *Service) deleteGrants(k *key, all []*grant.Grant) error {
	for some := range slices.Chunk(all, maxGrantBatch) {
		err := s.db.Update(func(tx store.SealedTx) error {
			for _, g := range some {
				if err := tx.Delete(grantRecordName(k.record.ID, g.ID)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, g := range some {
			k.life.grants.Remove(g.ID)
		}
	}
	return nil
}
