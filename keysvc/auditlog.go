package keysvc

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// The audit log's records in the store. The log lies elsewhere, where more
// people may write: the store knows which key signs it, and how far it went.
const (
	auditKeyRecord  = "audit/key"
	auditHeadRecord = "audit/head"
)

// auditHead is the log's last checkpoint.
type auditHead struct {
	Schema int
	Head   audit.Head
}

// openAudit opens the log, whose key it makes at the first start.
func (s *Service) openAudit(o Options) error {
	s.auditDir = o.AuditDir
	if s.auditDir == "" {
		s.auditDir = filepath.Join(filepath.Dir(o.Dir), "audit")
	}
	seed := make([]byte, ed25519.SeedSize)
	defer secret.Wipe(seed)
	head, err := s.loadAudit(seed)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	s.signer = ed25519.NewKeyFromSeed(seed)
	s.audit, err = audit.Open(audit.Options{
		Dir: s.auditDir, Signer: s.signer, ExpectedHead: head, AcceptLoss: o.AcceptAuditLoss, OnCheckpoint: s.storeAuditHead,
		Region: Region, Account: Account, Clock: s.clock, Log: s.log,
	})
	if errors.Is(err, audit.ErrHead) {
		return fmt.Errorf("%w. If it cannot be found, `kmsfs keysvc serve --accept-audit-loss` goes on without it, once, and records that", err)
	}
	return err
}

// loadAudit reads the key's seed and the last checkpoint, which is nil for a new
// log. The two records are made together: one without the other was edited.
func (s *Service) loadAudit(seed []byte) (*audit.Head, error) {
	var h auditHead
	var noKey, noHead bool
	err := s.db.View(func(tx store.SealedTx) error {
		got, err := tx.Get(seed[:0], auditKeyRecord)
		switch noKey = errors.Is(err, store.ErrNotFound); {
		case noKey:
		case err != nil:
			return err
		case len(got) != len(seed):
			return fmt.Errorf("record %s has %d bytes", auditKeyRecord, len(got))
		}
		value, err := tx.Get(nil, auditHeadRecord)
		switch noHead = errors.Is(err, store.ErrNotFound); {
		case noHead:
			return nil
		case err != nil:
			return err
		}
		return parseRecord(auditHeadRecord, value, &h, &h.Schema)
	})
	const missing = "record %s is missing: the store was changed, restore it from a backup"
	switch {
	case err != nil:
		return nil, err
	case noKey && noHead:
		rand.Read(seed)
		return nil, s.db.Update(func(tx store.SealedTx) error {
			if err := tx.Set(auditKeyRecord, seed); err != nil {
				return err
			}
			return putRecord(tx, auditHeadRecord, auditHead{Schema: recordSchema})
		})
	case noKey:
		return nil, fmt.Errorf(missing, auditKeyRecord)
	case noHead:
		return nil, fmt.Errorf(missing, auditHeadRecord)
	case h.Head == audit.Head{}:
		return nil, nil // killed before the first checkpoint
	}
	return &h.Head, nil
}

// storeAuditHead keeps what the log must contain when it is opened again.
func (s *Service) storeAuditHead(h audit.Head) {
	err := s.db.Update(func(tx store.SealedTx) error {
		return putRecord(tx, auditHeadRecord, auditHead{Schema: recordSchema, Head: h})
	})
	if err != nil {
		s.log.Error("store the audit log's last checkpoint", "error", err)
	}
}

// auditStatus tells what a copy of the log can be held against.
func (s *Service) auditStatus() kmsapi.AuditStatus {
	h := s.audit.Head()
	return kmsapi.AuditStatus{Dir: s.auditDir, KeyID: s.audit.KeyID().String(), Sequence: h.Sequence, Hash: h.Hash.String()}
}

// Changes that were made but could not be recorded are owed to the log. No call
// is answered until they are in it.

// owe keeps the record of a change.
func (s *Service) owe(r audit.Record) {
	s.owing.Lock()
	defer s.owing.Unlock()
	s.log.Error("a change is not in the audit log yet: calls are refused until it is", "event", r.EventName, "principal", r.UserIdentity.ARN,
		"resources", r.Resources, "eventID", r.EventID)
	s.owed = append(s.owed, &r)
	s.owes.Store(true)
}

// settle writes what is owed.
func (s *Service) settle() error {
	if !s.owes.Load() {
		return nil
	}
	s.owing.Lock()
	defer s.owing.Unlock()
	if len(s.owed) > 0 {
		if _, err := s.audit.AppendAll(s.owed, true); err != nil {
			return fmt.Errorf("the audit log lacks a change that was made: %w", err)
		}
		s.log.Warn("the audit log can be written again", "changes", len(s.owed))
		s.owed = nil
	}
	s.owes.Store(false)
	return nil
}

// The service's own events, as CloudTrail names them.
const (
	eventCreateKey = "CreateKey" // an AWS managed one
	eventRotateKey = "RotateKey"
	eventDeleteKey = "DeleteKey"
)

// recordEvent records what the service did to k by itself. It is done already.
func (s *Service) recordEvent(name string, k *key, details audit.ServiceEventDetails) {
	const internal = "AWS Internal"
	details.KeyID = k.record.ID
	r := audit.Record{
		UserIdentity:        audit.UserIdentity{AccountID: k.record.Account, InvokedBy: internal},
		EventName:           name,
		SourceIPAddress:     internal,
		UserAgent:           internal,
		EventID:             audit.NewID(),
		Resources:           []audit.Resource{{AccountID: k.record.Account, Type: audit.TypeKey, ARN: k.arn}},
		EventType:           audit.TypeServiceEvent,
		ServiceEventDetails: &details,
	}
	if _, err := s.audit.Append(&r, true); err != nil {
		s.owe(r)
	}
}
