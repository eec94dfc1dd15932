package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// faulty is a disk whose operations fail when told to.
type faulty struct {
	real       disk
	write      atomic.Pointer[writeFault]
	sync       atomic.Pointer[error]
	truncate   atomic.Pointer[error]
	create     atomic.Pointer[error]
	writes     atomic.Int64
	syncs      atomic.Int64
	beforeSync func()
}

// writeFault lets a write store some bytes and then fail.
type writeFault struct {
	bytes int
	err   error
}

func faultyDisk(o *Options) *faulty {
	o.setDefaults()
	d := &faulty{real: o.disk}
	o.disk = disk{
		writeAt: func(f *os.File, b []byte, off int64) (int, error) {
			d.writes.Add(1)
			if w := d.write.Load(); w != nil {
				_, err := d.real.writeAt(f, b[:min(w.bytes, len(b))], off)
				return 0, errors.Join(err, w.err) // as os.File.WriteAt counts
			}
			return d.real.writeAt(f, b, off)
		},
		truncate: func(f *os.File, size int64) error {
			if err := d.truncate.Load(); err != nil {
				return *err
			}
			return d.real.truncate(f, size)
		},
		datasync: func(f *os.File) error {
			d.syncs.Add(1)
			if d.beforeSync != nil {
				d.beforeSync()
			}
			if err := d.sync.Load(); err != nil {
				return *err
			}
			return d.real.datasync(f)
		},
		create: func(dir, name string) (*os.File, error) {
			if err := d.create.Load(); err != nil {
				return nil, *err
			}
			return d.real.create(dir, name)
		},
		close: d.real.close,
	}
	return d
}

func ptr[T any](v T) *T { return &v }

// TestSyncFails: who waited is told, nobody else is served until the disk works
// again, and then all is written once more, because the kernel may have dropped it.
func TestSyncFails(t *testing.T) {
	dir := t.TempDir()
	o := quiet(fixed(Options{Dir: dir}))
	d := faultyDisk(&o)
	l := open(t, o)
	mustAppend(t, l, named("a")) // answered, not durable
	d.sync.Store(ptr[error](unix.EIO))
	if _, err := l.Append(named("b"), true); !errors.Is(err, unix.EIO) {
		t.Fatalf("append: %v", err)
	}
	if _, err := l.Append(named("c"), false); !errors.Is(err, unix.EIO) {
		t.Fatalf("append after a failed sync: %v", err)
	}
	// The kernel loses what it could not write.
	path := filepath.Join(dir, segmentName(1))
	f := readDir(t, dir)
	good := len(lines(f[segmentName(1)])[0])
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(make([]byte, len(f[segmentName(1)])-good), int64(good)); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	d.sync.Store(nil)
	if _, err := l.Append(named("d"), true); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	mustVerify(t, dir, VerifyOptions{})
	// b was refused and is there: one too many.
	if got := records(t, dir); len(got) != 3 || got[2] != "a" || got[3] != "b" || got[4] != "d" {
		t.Errorf("records %v", got)
	}
}

// TestSyncFailsInTheBackground is tried again without any Append.
func TestSyncFailsInTheBackground(t *testing.T) {
	dir := t.TempDir()
	o := quiet(fixed(Options{Dir: dir}))
	o.SyncDelay = time.Millisecond
	d := faultyDisk(&o)
	l := open(t, o)
	d.sync.Store(ptr[error](unix.EIO))
	n := mustAppend(t, l, named("a"))
	tried := d.syncs.Load()
	await(t, "a failed sync", func() bool { return d.syncs.Load() > tried })
	d.sync.Store(nil)
	await(t, "another try", func() bool { return l.durableNow() >= n })
	mustAppend(t, l, named("b"))
	closeLog(t, l)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Records != 2 {
		t.Errorf("report: %+v", r)
	}
}

// TestCloseFails: a log that cannot be closed well is closed all the same.
func TestCloseFails(t *testing.T) {
	dir := t.TempDir()
	o := quiet(fixed(Options{Dir: dir}))
	d := faultyDisk(&o)
	l := open(t, o)
	mustAppend(t, l, named("a"))
	d.write.Store(&writeFault{10, unix.ENOSPC})
	if err := l.Close(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("close: %v", err)
	}
	closeLog(t, open(t, quiet(fixed(Options{Dir: dir}))))
	if r := mustVerify(t, dir, VerifyOptions{}); r.Records != 1 || r.SignedLate != 1 {
		t.Errorf("report: %+v", r)
	}
}

// TestRotationFails: the segment grows on, and no call is refused.
func TestRotationFails(t *testing.T) {
	dir := t.TempDir()
	o := quiet(fixed(Options{Dir: dir, SegmentBytes: 20000}))
	d := faultyDisk(&o)
	l := open(t, o)
	d.create.Store(ptr[error](unix.EMFILE))
	for i := range 60 {
		mustAppend(t, l, named(fmt.Sprint(i)))
	}
	if segs := readDir(t, dir).segments(); len(segs) != 1 {
		t.Errorf("segments %v", segs)
	}
	if n := bytes.Count(readDir(t, dir)[segmentName(1)], []byte(`"reason":"rotate"`)); n == 0 || n > 20 {
		t.Errorf("%d tries for 60 records", n)
	}
	d.create.Store(nil)
	for i := range 60 {
		mustAppend(t, l, named(fmt.Sprint(i)))
	}
	closeLog(t, l)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Records != 120 || r.Segments < 3 {
		t.Errorf("report: %+v", r)
	}
	closeLog(t, open(t, fixed(Options{Dir: dir})))
}

// TestRotationIsDurableFirst: a segment is synced with its last checkpoint before
// the next one exists.
func TestRotationIsDurableFirst(t *testing.T) {
	dir := t.TempDir()
	o := quiet(fixed(Options{Dir: dir, SegmentBytes: 1600}))
	d := faultyDisk(&o)
	create := o.disk.create
	var l *Log
	o.disk.create = func(dir, name string) (*os.File, error) {
		if l != nil && l.durable != l.written {
			t.Errorf("%s: the segment before is durable up to %d of %d", name, l.durable, l.written)
		}
		return create(dir, name)
	}
	l = open(t, o)
	for i := range 10 {
		mustAppend(t, l, named(fmt.Sprint(i)))
	}
	d.sync.Store(ptr[error](unix.EIO)) // a rotation that cannot sync does not happen
	segs := len(readDir(t, dir).segments())
	for i := range 10 {
		if _, err := l.Append(named(fmt.Sprint(i)), false); err != nil && !errors.Is(err, unix.EIO) {
			t.Fatal(err)
		}
	}
	if now := len(readDir(t, dir).segments()); now != segs {
		t.Errorf("%d segments, were %d", now, segs)
	}
	d.sync.Store(nil)
	closeLog(t, l)
	mustVerify(t, dir, VerifyOptions{})
}

// TestGroupCommit: those who wait for the disk at once share a sync.
func TestGroupCommit(t *testing.T) {
	o := fixed(Options{Dir: t.TempDir()})
	d := faultyDisk(&o)
	release := make(chan struct{})
	var once sync.Once
	var armed atomic.Bool
	d.beforeSync = func() {
		if armed.Load() {
			once.Do(func() { <-release })
		}
	}
	l := open(t, o)
	armed.Store(true)
	const clients = 50
	var wg sync.WaitGroup
	before := d.syncs.Load()
	wg.Go(func() {
		if _, err := l.Append(named("first"), true); err != nil {
			t.Error(err)
		}
	})
	await(t, "the first sync", func() bool { return d.syncs.Load() > before })
	for i := range clients {
		wg.Go(func() {
			if _, err := l.Append(named(fmt.Sprint(i)), true); err != nil {
				t.Error(err)
			}
		})
	}
	// Records are written while a sync is under way.
	await(t, "all to be written", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.written == 1+1+clients
	})
	close(release)
	wg.Wait()
	if n := d.syncs.Load() - before; n > 10 {
		t.Errorf("%d syncs for %d records", n, clients+1)
	}
}

// TestSyncCoversWhatWasWrittenBefore: what is written while a sync is under way
// is not durable by it.
func TestSyncCoversWhatWasWrittenBefore(t *testing.T) {
	o := fixed(Options{Dir: t.TempDir()})
	d := faultyDisk(&o)
	var l *Log
	var late uint64
	var armed atomic.Bool
	d.beforeSync = func() {
		if armed.CompareAndSwap(true, false) {
			n, err := l.Append(named("late"), false)
			if err != nil {
				t.Error(err)
			}
			late = n
		}
	}
	l = open(t, o)
	armed.Store(true)
	n, err := l.Append(named("early"), true)
	if err != nil || l.durableNow() != n || late != n+1 {
		t.Errorf("durable up to %d, want %d; %d was late, %v", l.durableNow(), n, late, err)
	}
	if _, _, any := l.due(); !any {
		t.Error("no sync is due")
	}
}

// TestWaitForClosedLog: whoever comes for a sync after Close is told at once.
func TestWaitForClosedLog(t *testing.T) {
	l := open(t, fixed(Options{Dir: t.TempDir()}))
	n := mustAppend(t, l, named("a"))
	closeLog(t, l)
	if err := l.awaitSync(n); err != nil {
		t.Errorf("a record that is durable: %v", err)
	}
	if err := l.awaitSync(n + 100); !errors.Is(err, ErrClosed) {
		t.Errorf("one that is not: %v", err)
	}
}

// TestSlowDisk: no more than maxUnsynced is written ahead of the disk.
func TestSlowDisk(t *testing.T) {
	o := fixed(Options{Dir: t.TempDir(), SegmentBytes: 1 << 40})
	l := open(t, o)
	big := &Record{EventName: strings.Repeat("n", maxLine/2)}
	for range 3 * maxUnsynced / (maxLine / 2) {
		mustAppend(t, l, big)
		l.mu.Lock()
		ahead := l.unsyncedBytes
		l.mu.Unlock()
		if ahead > maxUnsynced+maxLine {
			t.Fatalf("%d bytes ahead of the disk", ahead)
		}
	}
}
