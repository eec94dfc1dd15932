// Package store keeps the key service's records: an ordered map from short
// names to small values, changed by serializable transactions.
//
// Badger is the embedded implementation. [Sealed] puts the AEAD between the
// service and any implementation, so that neither Badger's files nor a remote
// store ever holds a record that can be read, edited, swapped or moved.
//
// Sealed also notices what no record shows by itself: that records were dropped
// or put back one by one (the manifest, see manifest.go), or the whole database
// was (the mark). Only who puts back all files of the service together, with
// the mark, is not noticed: that is what a backup does.
//
// Every implementation passes package storetest. Through Watch, one that several
// services share tells each of what the others change.
package store

import (
	"context"
	"errors"
)

var (
	// ErrNotFound is what Get returns for a name without a record.
	ErrNotFound = errors.New("store: no such record")
	// ErrTooLarge is a transaction that the store cannot commit at once.
	ErrTooLarge = errors.New("store: the transaction is too large")
	// ErrClosed is what a watcher of a closed store is told.
	ErrClosed = errors.New("store: closed")
)

// Store is an ordered map with serializable transactions.
type Store interface {
	// View runs fn on a consistent state.
	View(fn func(Tx) error) error
	// Update runs fn and commits what it did, or nothing if fn fails. When it
	// returns nil the change survives a power cut. fn may run more than once,
	// when another transaction got in its way. A transaction that is too large
	// for the store fails with ErrTooLarge; 256 records of a kilobyte are not.
	Update(fn func(Tx) error) error
	// Watch calls fn with all records whose names begin with prefix, as they
	// are at one moment, and then with what each later transaction changes about
	// them, whole and in the order of the commits. It returns when ctx ends, with
	// its error, or when fn fails, with fn's, or with ErrClosed.
	//
	// fn holds up nobody. A watcher that falls far behind gets all records
	// anew, instead of the changes that it has not seen.
	Watch(ctx context.Context, prefix string, fn func(Changes) error) error
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

// Changes is what a watcher is told.
type Changes struct {
	// All is set when Records are all that there are. What a watcher knows of
	// others is over.
	All bool
	// Records are in no order, and each is there once.
	Records []Change
}

// Change is a record after a transaction.
type Change struct {
	Name    string
	Value   []byte // the watcher's own
	Deleted bool
}
