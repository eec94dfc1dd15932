package audit

import (
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/internal/durable"
)

// Options say where a log is and how it is kept.
type Options struct {
	// Dir is the log's directory. It is created, with mode 0700.
	Dir string
	// Signer signs checkpoints, for one goroutine at a time. Its key must be
	// Ed25519, and the one that the log was begun with. An ed25519.PrivateKey is a
	// Signer.
	Signer crypto.Signer
	// ExpectedHead is the last that OnCheckpoint was given, or nil for a new log.
	// Open refuses a log that does not contain it (ErrHead).
	ExpectedHead *Head
	// AcceptLoss opens a log that does not contain ExpectedHead, and records
	// that: for an operator who knows why.
	AcceptLoss bool
	// OnCheckpoint is told of new checkpoints when they are durable, for
	// ExpectedHead: in order, one at a time, the last one when several are made
	// meanwhile. Open and Close tell of theirs before they return.
	OnCheckpoint func(Head)
	// TellDelay is how long after one checkpoint OnCheckpoint is told of another;
	// 1 s if 0. To keep one costs the disk as much as many records do.
	TellDelay time.Duration

	// Region and Account are for records that name none.
	Region, Account string
	// Clock is time.Now if nil. It dates records and checkpoints.
	Clock func() time.Time
	// Log is slog.Default() if nil. It hears of errors that no caller of Append
	// is told.
	Log *slog.Logger

	// SegmentBytes is the size from which a new segment is begun; 64 MiB if 0.
	SegmentBytes int64
	// CheckpointEvery is how many records there may be between checkpoints; 1000
	// if 0.
	CheckpointEvery int
	// CheckpointAfter is how long a record may be without one; 1 s if 0.
	CheckpointAfter time.Duration
	// SyncDelay is how long after a record was written a sync begins when nobody
	// waits for it; 5 ms if 0.
	SyncDelay time.Duration

	// For tests.
	newID func() string
	disk  disk
}

// disk is what is done to segments.
type disk struct {
	writeAt  func(f *os.File, b []byte, off int64) (int, error)
	truncate func(f *os.File, size int64) error
	datasync func(f *os.File) error
	create   func(dir, name string) (*os.File, error)
	close    func() error // gives back what datasync needs
}

// ErrClosed says that the log is closed.
var ErrClosed = errors.New("the audit log is closed")

// ErrTooLarge says that a record takes more than 1 MiB.
var ErrTooLarge = errors.New("the audit record is too large")

// ErrInUse says that another process has the log open.
var ErrInUse = errors.New("another process writes to this audit log")

// ErrHead says that the log does not contain ExpectedHead: its end was cut off,
// an older copy was put back, or it was written anew.
var ErrHead = errors.New("the audit log is not the one that the key service last wrote")

// ErrDamaged says that the log was changed in a way that no crash explains.
var ErrDamaged = errors.New("the audit log is damaged")

// Log is an open audit log. Its methods may be called at once from many
// goroutines.
type Log struct {
	opts   Options
	signer signer
	dir    *os.File // holds the lock

	// writing is held by the one goroutine that appends to the segment. It
	// guards what follows. Locks are taken in the order writing, syncing, mu.
	writing  sync.Mutex
	next     link
	size     int64 // of the segment's good part, bytes
	garbage  bool  // there may be bytes after size
	unsigned int   // lines since the last checkpoint
	rotateAt int64 // size from which a new segment is tried

	// syncing is held during a sync. file does not change under it.
	syncing sync.Mutex

	// mu guards what follows, and is never held during I/O.
	mu            sync.Mutex
	closed        bool
	file          *os.File // nil when closed; set with writing, syncing and mu, read with any
	batch         *batch   // collects records while another is being written
	written       uint64   // last sequence number written
	durable       uint64   // last sequence number known to be on the disk
	unsynced      []chunk  // written since the last sync
	unsyncedBytes int64
	failed        error // the last sync's, until one succeeds
	round         *round
	dirtySince    time.Time // zero if all is synced
	unsignedSince time.Time // zero if the last line is a checkpoint
	checkpointed  Head      // last checkpoint written
	head          Head      // last checkpoint that is durable
	told          Head      // to OnCheckpoint
	toldAt        time.Time // when OnCheckpoint had kept it
	telling       bool      // tell is running

	kick   chan struct{} // wakes the syncer
	stop   chan struct{} // ends it
	ending sync.WaitGroup
	tells  sync.WaitGroup
}

// chunk is what one write wrote. It is kept until it is durable: a sync that
// fails may have lost it.
type chunk struct {
	bytes  *[]byte
	offset int64
}

// Open opens the log in o.Dir, or begins one there.
//
// What a crash left of a last line that was not durable is cut off, kept in a
// file beside the log, and recorded. Damage that no crash explains is refused,
// and so is a log without o.ExpectedHead. Only the last segment is read, and
// the end of the one before; Verify reads all.
func Open(o Options) (_ *Log, err error) {
	s, err := newSigner(o.Signer)
	if err != nil {
		return nil, err
	}
	o.setDefaults()
	l := &Log{opts: o, signer: s, round: newRound(), kick: make(chan struct{}, 1), stop: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.release())
		}
	}()
	if err := makeDir(o.Dir); err != nil {
		return nil, err
	}
	if l.dir, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	if err := l.recover(); err != nil {
		return nil, err
	}
	l.ending.Go(l.syncLoop)
	return l, nil
}

func (o *Options) setDefaults() {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.CheckpointEvery <= 0 {
		o.CheckpointEvery = 1000
	}
	if o.CheckpointAfter <= 0 {
		o.CheckpointAfter = time.Second
	}
	if o.TellDelay <= 0 {
		o.TellDelay = time.Second
	}
	if o.SyncDelay <= 0 {
		o.SyncDelay = 5 * time.Millisecond
	}
	if o.newID == nil {
		o.newID = NewID
	}
	if o.disk.writeAt == nil {
		o.disk.writeAt = (*os.File).WriteAt
	}
	if o.disk.truncate == nil {
		o.disk.truncate = (*os.File).Truncate
	}
	if o.disk.datasync == nil {
		s := newSyncer()
		o.disk.datasync, o.disk.close = s.datasync, s.close
	}
	if o.disk.create == nil {
		o.disk.create = createSegment
	}
}

// makeDir creates dir, durably.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the audit log's directory: %w", err)
	}
	if err := durable.SyncDir(dir + "/.."); err != nil {
		return fmt.Errorf("make the audit log's directory: %w", err)
	}
	return nil
}

func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return d, nil
}

// Head is the last checkpoint that is durable.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// KeyID names the public key: the SHA-256 of its 32 bytes.
func (l *Log) KeyID() Hash { return l.signer.id }

// Close signs what there is and closes the log. Appends that have not been
// written yet fail. It returns ErrClosed when the log is closed already.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	close(l.stop)
	l.ending.Wait() // before writing is held: the syncer may wait for that

	l.writing.Lock()
	err := l.writeLocked(nil, reasonClose)
	err = errors.Join(err, l.sync(), l.release())
	l.writing.Unlock()
	l.tells.Wait()
	return err
}

// release closes the files. Whoever appends or syncs later finds no file.
func (l *Log) release() error {
	l.syncing.Lock()
	l.mu.Lock()
	f := l.file
	l.file = nil
	r := l.round
	l.round = newRound()
	var lost error
	if l.durable < l.written {
		lost = ErrClosed
	}
	l.mu.Unlock()
	l.syncing.Unlock()
	r.end(lost)
	var errs []error
	if f != nil {
		errs = append(errs, f.Close())
	}
	if l.dir != nil {
		errs = append(errs, l.dir.Close())
	}
	if l.opts.disk.close != nil {
		errs = append(errs, l.opts.disk.close())
	}
	return errors.Join(errs...)
}
