package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Badger is the embedded store: one directory, one process.
type Badger struct {
	db      *badger.DB
	log     *slog.Logger
	updates atomic.Uint64

	compacting sync.Mutex // held by the one that compacts
}

var _ Store = (*Badger)(nil)

// OpenBadger opens or creates the store in dir.
//
// Its sizes are a small fraction of Badger's defaults: a service holds some
// thousands of records of a few hundred bytes, keeps them all in memory anyway,
// and is started by mounts on machines that have other things to do.
func OpenBadger(dir string, log *slog.Logger) (*Badger, error) {
	opts := badger.DefaultOptions(dir).
		WithSyncWrites(true). // an acknowledged change survives a power cut
		WithMemTableSize(4 << 20).
		WithNumMemtables(2).
		WithBaseTableSize(1 << 20).
		WithValueLogFileSize(16 << 20).
		WithValueThreshold(64 << 10).  // every record lives in the tree
		WithCompression(options.None). // sealed records do not compress
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithNumCompactors(0). // they poll 20 times a second; see compact
		WithNumLevelZeroTablesStall(1000).
		WithNumGoroutines(1).
		WithMetricsEnabled(false).
		WithVerifyValueChecksum(true).
		WithLogger(badgerLog{log})
	db, err := badger.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("open the key store in %s: %w", dir, err)
	}
	b := &Badger{db: db, log: log}
	b.compact()
	return b, nil
}

const (
	// maxNewTables is how many tables may wait for compaction. Each stop of a
	// service that changed something, and each 4 MiB of changes, makes one.
	maxNewTables = 8
	// compactEvery is how many updates there are between looks at that number:
	// fewer than fit into one table.
	compactEvery = 256
)

// compactOnce is compact for callers of Update, of which many may run at once.
func (b *Badger) compactOnce() {
	b.compacting.Lock()
	defer b.compacting.Unlock()
	b.compact()
}

// compact merges tables when there are many. It stands in for Badger's own
// compactors, which would keep an idle machine awake.
func (b *Badger) compact() {
	if l := b.db.Levels(); len(l) == 0 || l[0].NumTables < maxNewTables {
		return
	}
	if err := b.db.Flatten(1); err != nil {
		// Nothing is lost: there are more tables than there should be.
		b.log.Warn("key store: compact", "error", err)
	}
}

func (b *Badger) View(fn func(Tx) error) error {
	return b.db.View(func(t *badger.Txn) error { return fn(badgerTx{t}) })
}

func (b *Badger) Update(fn func(Tx) error) error {
	// Conflicts are rare (the service writes under one lock) and end: each
	// means that some other transaction was committed.
	for range 100 {
		err := b.db.Update(func(t *badger.Txn) error { return fn(badgerTx{t}) })
		if !errors.Is(err, badger.ErrConflict) {
			if b.updates.Add(1)%compactEvery == 0 {
				b.compactOnce()
			}
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("store: %w", badger.ErrConflict)
}

func (b *Badger) Close() error {
	if err := b.db.Close(); err != nil {
		return fmt.Errorf("close the key store: %w", err)
	}
	return nil
}

type badgerTx struct{ t *badger.Txn }

func (x badgerTx) Get(name string) ([]byte, error) {
	item, err := x.t.Get([]byte(name))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read record %s: %w", name, err)
	}
	return item.ValueCopy(nil)
}

func (x badgerTx) Set(name string, value []byte) error {
	if err := x.t.Set([]byte(name), value); err != nil {
		return fmt.Errorf("write record %s: %w", name, err)
	}
	return nil
}

func (x badgerTx) Delete(name string) error {
	if err := x.t.Delete([]byte(name)); err != nil {
		return fmt.Errorf("delete record %s: %w", name, err)
	}
	return nil
}

func (x badgerTx) Scan(prefix string, fn func(string, []byte) error) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix = []byte(prefix)
	it := x.t.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		value, err := item.ValueCopy(nil)
		if err != nil {
			return fmt.Errorf("read record %s: %w", item.Key(), err)
		}
		if err := fn(string(item.KeyCopy(nil)), value); err != nil {
			return err
		}
	}
	return nil
}

// badgerLog passes Badger's warnings and errors on and drops its chatter.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(format string, args ...any) {
	l.log.Error("key store: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l badgerLog) Warningf(format string, args ...any) {
	l.log.Warn("key store: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l badgerLog) Infof(string, ...any)  {}
func (l badgerLog) Debugf(string, ...any) {}
