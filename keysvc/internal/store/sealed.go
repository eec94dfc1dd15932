package store

import "fmt"

// Sealer makes a record unreadable and bound to its name.
type Sealer interface {
	// Seal encrypts value as the record called name.
	Seal(name string, value []byte) ([]byte, error)
	// Open appends the value of the record called name to dst. It fails on
	// what Seal did not make for that name.
	Open(dst []byte, name string, sealed []byte) ([]byte, error)
}

// Sealed is a view of a Store whose records are sealed. It is no Store itself:
// reading says where the plaintext goes, because key material must only go to
// locked memory.
type Sealed struct {
	Store  Store
	Sealer Sealer
}

// View is Store.View.
func (s Sealed) View(fn func(SealedTx) error) error {
	return s.Store.View(func(t Tx) error { return fn(SealedTx{t, s.Sealer}) })
}

// Update is Store.Update.
func (s Sealed) Update(fn func(SealedTx) error) error {
	return s.Store.Update(func(t Tx) error { return fn(SealedTx{t, s.Sealer}) })
}

// SealedTx is a transaction on sealed records.
type SealedTx struct {
	tx     Tx
	sealer Sealer
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
	return x.tx.Set(name, sealed)
}

// Delete removes the record called name.
func (x SealedTx) Delete(name string) error { return x.tx.Delete(name) }

// Scan is Tx.Scan on opened values.
func (x SealedTx) Scan(prefix string, fn func(name string, value []byte) error) error {
	return x.tx.Scan(prefix, func(name string, sealed []byte) error {
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
