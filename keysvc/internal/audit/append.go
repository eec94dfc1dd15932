package audit

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"kmsfs.dev/kmsfs/internal/durable"
)

// maxUnsynced bounds what is written but not durable, in bytes: a disk that is
// too slow holds callers up.
const maxUnsynced = 16 << 20

// entry is what one caller appends: records without their chain.
type entry struct {
	bytes []byte
	ends  []int // of each record in bytes
	first uint64
}

var entries = sync.Pool{New: func() any { return new(entry) }}

func (e *entry) recycle() {
	if cap(e.bytes) <= 256<<10 {
		e.bytes, e.ends = e.bytes[:0], e.ends[:0]
		entries.Put(e)
	}
}

// batch is what one write will write.
type batch struct {
	entries []*entry
	err     error
	over    atomic.Bool   // err is set
	done    chan struct{} // closed after over is set
}

// Append writes a record and returns its sequence number. With durable it
// returns when the record is on the disk: for calls that change something.
//
// The record is copied. After an error the call must be refused. The log is then
// as if Append had not been called, except that after a failed sync the record may
// be there all the same: one too many, never one too few. Later Appends succeed
// when the reason is gone.
func (l *Log) Append(r *Record, durable bool) (uint64, error) {
	e := entries.Get().(*entry)
	defer e.recycle()
	if err := l.add(e, r); err != nil {
		return 0, err
	}
	return l.submit(e, durable)
}

// AppendAll is Append for several records, of which all are written or none:
// they have consecutive sequence numbers, of which it returns the first.
func (l *Log) AppendAll(rs []*Record, durable bool) (uint64, error) {
	if len(rs) == 0 {
		return 0, errors.New("audit: no records")
	}
	e := entries.Get().(*entry)
	defer e.recycle()
	for _, r := range rs {
		if err := l.add(e, r); err != nil {
			return 0, err
		}
	}
	return l.submit(e, durable)
}

func (l *Log) add(e *entry, r *Record) error {
	c := *r
	l.complete(&c)
	start := len(e.bytes)
	b, err := appendRecord(e.bytes, &c)
	if err != nil {
		return err
	}
	if len(b)-start > maxLine-suffixLen {
		return fmt.Errorf("%s: %w: %d bytes", r.EventName, ErrTooLarge, len(b)-start)
	}
	e.bytes, e.ends = b, append(e.ends, len(b))
	return nil
}

// submit has e written: at once if nobody else writes. The first of those that
// come while another writes takes the lead: it waits for its turn and then writes
// for all.
func (l *Log) submit(e *entry, durable bool) (uint64, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return 0, ErrClosed
	}
	var err error
	if l.batch == nil && l.writing.TryLock() {
		l.mu.Unlock() // TryLock does not wait, so that the order of locks is kept
		err = l.writeLocked([]*entry{e}, "")
		l.writing.Unlock()
	} else {
		err = l.joinLocked(e)
	}
	if err != nil {
		return 0, err
	}
	if durable {
		if err := l.awaitSync(e.first + uint64(len(e.ends)) - 1); err != nil {
			return 0, err
		}
	}
	return e.first, nil
}

// joinLocked adds e to what the next write will write, and returns when that is
// done. It unlocks mu.
func (l *Log) joinLocked(e *entry) error {
	b := l.batch
	leads := b == nil
	if leads {
		b = &batch{done: make(chan struct{})}
		l.batch = b
	}
	b.entries = append(b.entries, e)
	l.mu.Unlock()
	if !leads {
		b.await()
		return b.err
	}
	l.lockWriting()
	l.mu.Lock()
	l.batch = nil
	l.mu.Unlock()
	b.err = l.writeLocked(b.entries, "")
	l.writing.Unlock()
	b.over.Store(true)
	close(b.done)
	return b.err
}

// looks is how often whoever waits for a write looks whether it is over before it sleeps:
// for about ten microseconds, which is what it takes to be woken. A write takes
// two to five.
const looks = 10_000

// lockWriting is l.writing.Lock().
func (l *Log) lockWriting() {
	for range looks {
		if l.writing.TryLock() {
			return
		}
	}
	l.writing.Lock()
}

// await returns when b is written, or could not be.
func (b *batch) await() {
	for range looks {
		if b.over.Load() {
			return
		}
	}
	<-b.done
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func recycle(b *[]byte) {
	if cap(*b) <= 256<<10 {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// writeLocked appends es to the segment, and a checkpoint if there is a reason
// or it is time for one. All is written or nothing.
func (l *Log) writeLocked(es []*entry, reason string) error {
	if err := l.readyLocked(); err != nil {
		return err
	}
	if reason == "" && l.size >= l.rotateAt {
		if err := l.rotateLocked(); err != nil {
			// The segment grows on. Whether records can be written will be seen.
			l.opts.Log.Warn("begin a new segment of the audit log", "error", err)
			l.rotateAt = l.size + l.opts.SegmentBytes/16
			if err := l.readyLocked(); err != nil {
				return err
			}
		}
	}
	return l.writeHereLocked(es, reason)
}

// readyLocked makes sure that the segment ends where it should, and that what
// was written before is or will be durable.
func (l *Log) readyLocked() error {
	if l.file == nil {
		return ErrClosed
	}
	l.mu.Lock()
	failed, waiting := l.failed, l.unsyncedBytes
	l.mu.Unlock()
	if failed != nil || waiting >= maxUnsynced {
		if err := l.sync(); err != nil {
			return err
		}
	}
	if l.garbage {
		if err := l.opts.disk.truncate(l.file, l.size); err != nil {
			return fmt.Errorf("audit log: remove what a failed write left: %w", err)
		}
		l.garbage = false
	}
	return nil
}

func (l *Log) writeHereLocked(es []*entry, reason string) error {
	p := buffers.Get().(*[]byte)
	next, unsigned := l.next, l.unsigned
	b := (*p)[:0]
	for _, e := range es {
		e.first = next.sequence
		from := 0
		for _, to := range e.ends {
			start := len(b)
			b = append(b, e.bytes[from:to]...)
			b = next.appendTo(b, start)
			from = to
		}
		unsigned += len(e.ends)
	}
	if reason == "" && unsigned >= l.opts.CheckpointEvery {
		reason = reasonPeriodic
	}
	var head Head
	if reason != "" {
		start, at := len(b), next
		var err error
		if b, err = l.signer.append(b, &next, reason, l.opts.Clock(), l.durableNow()); err != nil {
			recycle(p)
			return err
		}
		unsigned, head = 0, headOf(at, b[start:])
	}
	*p = b
	if len(b) == 0 {
		recycle(p)
		return nil
	}

	if _, err := l.opts.disk.writeAt(l.file, b, l.size); err != nil {
		recycle(p)
		// Part of it may have been written: when os.File fails, its count is 0
		// whatever it wrote. It is removed now so that readers see whole lines
		// only, or else by readyLocked before the next write.
		l.garbage = l.opts.disk.truncate(l.file, l.size) != nil
		return fmt.Errorf("write to the audit log: %w", err)
	}
	c := chunk{p, l.size}
	l.next, l.unsigned = next, unsigned
	l.size += int64(len(b))
	l.wrote(c, head)
	return nil
}

func (l *Log) durableNow() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

// wrote makes a write known to the syncer. head is not zero if the write ended
// with a checkpoint.
func (l *Log) wrote(c chunk, head Head) {
	l.mu.Lock()
	l.written = l.next.sequence - 1
	l.unsynced = append(l.unsynced, c)
	l.unsyncedBytes += int64(len(*c.bytes))
	wake := false
	if l.dirtySince.IsZero() {
		l.dirtySince, wake = time.Now(), true
	}
	switch {
	case head != Head{}:
		l.checkpointed, l.unsignedSince = head, time.Time{}
	case l.unsignedSince.IsZero():
		l.unsignedSince = time.Now()
	}
	l.mu.Unlock()
	if wake {
		l.wake()
	}
}

// rotateLocked completes the segment and begins the next. The old one is durable
// and signed before the new one exists: a crash leaves either.
func (l *Log) rotateLocked() error {
	if err := l.writeHereLocked(nil, reasonRotate); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	f, err := l.opts.disk.create(l.opts.Dir, segmentName(l.next.sequence))
	if err != nil {
		return err
	}
	l.syncing.Lock()
	l.mu.Lock()
	old := l.file
	l.file = f
	l.mu.Unlock()
	l.syncing.Unlock()
	l.size, l.garbage, l.rotateAt = 0, false, l.opts.SegmentBytes
	if err := old.Close(); err != nil {
		l.opts.Log.Warn("close a segment of the audit log", "error", err)
	}
	return nil
}

// createSegment makes an empty segment whose name is durable.
func createSegment(dir, name string) (*os.File, error) {
	path := dir + "/" + name
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := durable.SyncDir(dir); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}
