package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Badger is the embedded store: one directory, one process.
type Badger struct {
	db       *badger.DB
	log      *slog.Logger
	patience time.Duration // see closePatience

	// committing makes updates one after the other, as the service's are anyway:
	// nothing conflicts, and watchers see commits in their order. It guards
	// what follows.
	committing sync.Mutex
	updates    uint64
	watchers   map[*watcher]struct{}
	closed     bool
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
	db, err := openChecked(opts)
	if err != nil {
		return nil, fmt.Errorf("open the key store in %s: %w", dir, err)
	}
	b := &Badger{db: db, log: log, patience: closePatience, watchers: map[*watcher]struct{}{}}
	b.compact()
	return b, nil
}

// openChecked is badger.Open, which panics over some damaged files.
func openChecked(opts badger.Options) (_ *badger.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("its files are damaged: %v", r)
		}
	}()
	if err := prepareFiles(opts); err != nil {
		return nil, err
	}
	return badger.Open(opts)
}

const (
	// maxNewTables is how many tables may wait for compaction. Each stop of a
	// service that changed something, and each 4 MiB of changes, makes one.
	maxNewTables = 8
	// compactEvery is how many updates there are between looks at that number:
	// fewer than fit into one table.
	compactEvery = 256
)

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
	return b.db.View(func(t *badger.Txn) error { return fn(badgerTx{t: t}) })
}

func (b *Badger) Update(fn func(Tx) error) error {
	b.committing.Lock()
	defer b.committing.Unlock()
	x := badgerTx{}
	if len(b.watchers) > 0 {
		x.changes = map[string]Change{}
	}
	err := b.db.Update(func(t *badger.Txn) error {
		x.t = t
		return fn(x)
	})
	if errors.Is(err, badger.ErrTxnTooBig) {
		return ErrTooLarge
	}
	if err != nil {
		return err
	}
	for w := range b.watchers {
		w.tell(x.changes)
	}
	if b.updates++; b.updates%compactEvery == 0 {
		b.compact()
	}
	return nil
}

// closePatience is how long Close waits for Badger. That writes what is new into a
// table then, and where it cannot (the disk is full, the directory is gone) it tries
// again for ever, and says so in the log each time.
const closePatience = 10 * time.Second

// Close waits for the update that is under way, and fails where the last table
// cannot be written. The write-ahead log has every committed change, and the next
// OpenBadger reads it. Until this process ends the directory may stay in use.
func (b *Badger) Close() error {
	b.committing.Lock()
	defer b.committing.Unlock()
	b.closed = true
	for w := range b.watchers {
		w.end()
	}
	closed := make(chan error, 1)
	go func() { closed <- b.db.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("close the key store: %w", err)
		}
		return nil
	case <-time.After(b.patience):
		return fmt.Errorf("close the key store: not done after %v, see the log for the cause; what was committed is in its write-ahead log, which the next start reads", b.patience)
	}
}

type badgerTx struct {
	t       *badger.Txn
	changes map[string]Change // for watchers; nil when there are none
}

func (x badgerTx) note(c Change) {
	if x.changes != nil {
		x.changes[c.Name] = c
	}
}

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
	x.note(Change{Name: name, Value: value})
	return nil
}

func (x badgerTx) Delete(name string) error {
	if err := x.t.Delete([]byte(name)); err != nil {
		return fmt.Errorf("delete record %s: %w", name, err)
	}
	x.note(Change{Name: name, Deleted: true})
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
