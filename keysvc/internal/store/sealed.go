package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// Sealer makes a record unreadable and bound to its name.
type Sealer interface {
	// Seal encrypts value as the record called name.
	Seal(name string, value []byte) ([]byte, error)
	// Open appends the value of the record called name to dst. It fails on
	// what Seal did not make for that name.
	Open(dst []byte, name string, sealed []byte) ([]byte, error)
	// Check tells whether Open would open a record, and whether it was sealed
	// before stores had a manifest.
	Check(name string, sealed []byte) (authentic, legacy bool, err error)
	// Digest is a keyed digest of a record and its name.
	Digest(name string, sealed []byte) [sha256.Size]byte
}

// Mark is a number that is kept outside of the store.
type Mark interface {
	// Load returns the number; fs.ErrNotExist when none was ever saved.
	Load() (uint64, error)
	// Save makes n, which is larger, the number. It is durable when Save returns.
	Save(n uint64) error
}

// Sealed is a view of a Store whose records are sealed, and of which none can be
// dropped or put back unnoticed. It is no Store itself: reading says where the
// plaintext goes, because key material must only go to locked memory.
type Sealed struct {
	store  Store
	sealer Sealer
	mark   Mark

	updating sync.Mutex // held from a transaction's begin until its mark is saved
}

// SealedOptions are what OpenSealed needs.
type SealedOptions struct {
	Store  Store
	Sealer Sealer
	Mark   Mark
	// AcceptChanged goes on with what is there where OpenSealed would fail with an
	// acceptable ChangedError, and logs what it is.
	AcceptChanged bool
	Log           *slog.Logger
}

// OpenSealed checks that the store holds what was last written to it, and fails
// with a ChangedError if not.
func OpenSealed(o SealedOptions) (*Sealed, error) {
	s := &Sealed{store: o.Store, sealer: o.Sealer, mark: o.Mark}
	err := s.check()
	var c *ChangedError
	if errors.As(err, &c) && c.Acceptable && o.AcceptChanged {
		o.Log.Warn("the store does not hold what was last written to it, and was accepted as it is", "reason", c.What)
		err = s.acceptChanged()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// View is Store.View.
func (s *Sealed) View(fn func(SealedTx) error) error {
	return s.store.View(func(t Tx) error { return fn(SealedTx{tx: t, sealer: s.sealer}) })
}

// Update is Store.Update.
func (s *Sealed) Update(fn func(SealedTx) error) error {
	s.updating.Lock()
	defer s.updating.Unlock()
	var number uint64
	err := s.store.Update(func(t Tx) error {
		number = 0
		m, err := readManifest(t, s.sealer)
		if err != nil {
			return err
		}
		before := m
		if err := fn(SealedTx{tx: t, sealer: s.sealer, manifest: &m}); err != nil || m == before {
			return err
		}
		m.number++
		number = m.number
		return writeManifest(t, s.sealer, m)
	})
	if err != nil || number == 0 {
		return err
	}
	return s.mark.Save(number)
}

// SealedTx is a transaction on sealed records.
type SealedTx struct {
	tx       Tx
	sealer   Sealer
	manifest *manifest // nil in a View
}

// Get appends the record's value to dst.
func (x SealedTx) Get(dst []byte, name string) ([]byte, error) {
	sealed, err := x.tx.Get(name)
	if err != nil {
		return nil, err
	}
	return x.open(dst, name, sealed)
}

// Set seals value as the record called name.
func (x SealedTx) Set(name string, value []byte) error {
	sealed, err := x.sealer.Seal(name, value)
	if err != nil {
		return fmt.Errorf("seal record %s: %w", name, err)
	}
	if err := x.dropped(name); err != nil {
		return err
	}
	x.manifest.add(x.sealer.Digest(name, sealed))
	return x.tx.Set(name, sealed)
}

// Delete removes the record called name.
func (x SealedTx) Delete(name string) error {
	if err := x.dropped(name); err != nil {
		return err
	}
	return x.tx.Delete(name)
}

// dropped takes the record called name, if there is one, out of the manifest.
func (x SealedTx) dropped(name string) error {
	switch {
	case x.manifest == nil:
		return errors.New("store: a change in a View")
	case name == manifestName:
		return errors.New("store: the manifest is no record of yours")
	}
	old, err := x.tx.Get(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	x.manifest.drop(x.sealer.Digest(name, old))
	return nil
}

// Scan is Tx.Scan on opened values.
func (x SealedTx) Scan(prefix string, fn func(name string, value []byte) error) error {
	return x.tx.Scan(prefix, func(name string, sealed []byte) error {
		if name == manifestName {
			return nil
		}
		value, err := x.open(nil, name, sealed)
		if err != nil {
			return err
		}
		return fn(name, value)
	})
}

func (x SealedTx) open(dst []byte, name string, sealed []byte) ([]byte, error) {
	value, err := x.sealer.Open(dst, name, sealed)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	return value, nil
}
