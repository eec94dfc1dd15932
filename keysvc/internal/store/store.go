// Package store keeps the key service's records: an ordered map from short
// names to small values, changed by serializable transactions.
//
// Badger is the embedded implementation. [Sealed] puts the AEAD between the
// service and any implementation, so that neither Badger's files nor a remote
// store ever holds a record that can be read, edited, swapped or moved.
//
// Every implementation passes package storetest. One that several services
// share will report changes made by the others; the service's memory of the
// records has one place where such a change would enter (keysvc's index).
package store

import "errors"

// ErrNotFound is what Get returns for a name without a record.
var ErrNotFound = errors.New("store: no such record")

// Store is an ordered map with serializable transactions.
type Store interface {
	// View runs fn on a consistent state.
	View(fn func(Tx) error) error
	// Update runs fn and commits what it did, or nothing if fn fails. When it
	// returns nil the change survives a power cut. fn may run more than once,
	// when another transaction got in its way.
	Update(fn func(Tx) error) error
	Close() error
}

// Tx is a transaction. It and the values it returns must not be used after fn
// has returned.
type Tx interface {
	Get(name string) ([]byte, error)
	Set(name string, value []byte) error
	Delete(name string) error
	// Scan calls fn for each record whose name begins with prefix, in the order
	// of the names' bytes, until fn fails.
	Scan(prefix string, fn func(name string, value []byte) error) error
}
