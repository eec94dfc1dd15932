package audit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAppend(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "audit")
	l := open(t, Options{Dir: dir, Region: "eu-west-1", Account: "111122223333"})
	for i := range 5 {
		n, err := l.Append(named(fmt.Sprint(i)), i%2 == 0)
		if err != nil || n != uint64(i+2) { // 1 is the first checkpoint
			t.Fatalf("record %d: %d, %v", i, n, err)
		}
	}
	n, err := l.AppendAll([]*Record{named("a"), named("b"), named("c")}, true)
	if err != nil || n != 7 {
		t.Fatalf("batch: %d, %v", n, err)
	}
	if _, err := l.AppendAll(nil, false); err == nil {
		t.Error("an empty batch was accepted")
	}
	closeLog(t, l)
	if _, err := l.Append(named("late"), false); !errors.Is(err, ErrClosed) {
		t.Errorf("append to a closed log: %v", err)
	}
	if err := l.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("close again: %v", err)
	}
	r := mustVerify(t, dir, VerifyOptions{})
	if r.Records != 8 || r.Events["Decrypt"] != 8 || r.Last != 10 || r.First != 1 || !r.Closed || r.Unsigned != 0 || r.SignedLate != 0 {
		t.Errorf("report: %+v", r)
	}
	var ids []string
	for _, line := range lines(readDir(t, dir)[segmentName(1)]) {
		if IsCheckpoint(line) {
			continue
		}
		var rec Record
		if err := json.Unmarshal(line, &rec); err != nil {
			t.Fatal(err)
		}
		if rec.AWSRegion != "eu-west-1" || rec.RecipientAccountID != "111122223333" || rec.EventID == "" || time.Since(rec.EventTime) > time.Hour {
			t.Errorf("record %s", line)
		}
		ids = append(ids, rec.RequestID)
	}
	if got := strings.Join(ids, ""); got != "01234abc" {
		t.Errorf("order %s", got)
	}
	for _, name := range []string{"", segmentName(1), publicKeyFile} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", name, st.Mode(), err)
		}
	}
}

// TestConcurrentAppends: everybody's sequence number is that of their record, and
// batches are whole.
func TestConcurrentAppends(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir, SegmentBytes: 64 << 10, CheckpointEvery: 50, SyncDelay: time.Millisecond})
	const clients, each = 8, 60
	var mu sync.Mutex
	want := make(map[uint64]string)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", c, i)
				var n uint64
				var err error
				batch := 1
				switch i % 3 {
				case 0:
					n, err = l.Append(named(id+"-0"), false)
				case 1:
					n, err = l.Append(named(id+"-0"), true)
				default:
					batch = 4
					n, err = l.AppendAll([]*Record{named(id + "-0"), named(id + "-1"), named(id + "-2"), named(id + "-3")}, c == 0)
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for k := range batch {
					want[n+uint64(k)] = fmt.Sprintf("%s-%d", id, k)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	closeLog(t, l)
	r := mustVerify(t, dir, VerifyOptions{})
	if r.Records != uint64(len(want)) || r.Segments < 3 {
		t.Errorf("%d records in %d segments, want %d", r.Records, r.Segments, len(want))
	}
	for n, id := range records(t, dir) {
		if want[n] != id {
			t.Errorf("record %d is %s, want %s", n, id, want[n])
		}
	}
}

// records are the requestIDs in a log, by sequence number.
func records(t testing.TB, dir string) map[uint64]string {
	t.Helper()
	got := make(map[uint64]string)
	err := Tail(context.Background(), dir, 1<<30, false, func(line []byte) error {
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		if !IsCheckpoint(line) {
			got[r.Chain.Sequence] = r.RequestID
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	var heads []Head
	o := Options{Dir: dir, OnCheckpoint: func(h Head) { heads = append(heads, h) }}
	for i := range 3 {
		if len(heads) > 0 {
			o.ExpectedHead = &heads[len(heads)-1]
		}
		l := open(t, o)
		if l.Head() != heads[len(heads)-1] {
			t.Errorf("head %v, was told of %v", l.Head(), heads)
		}
		mustAppend(t, l, named(fmt.Sprint(i)))
		if i == 1 {
			crash(t, l)
			continue
		}
		closeLog(t, l)
	}
	r := mustVerify(t, dir, VerifyOptions{Head: &heads[len(heads)-1]})
	if r.Records != 3 || r.SignedLate != 1 || !r.Closed || !r.HeadFound || r.Last != heads[len(heads)-1].Sequence {
		t.Errorf("report: %+v", r)
	}
}

func TestOneWriter(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir, Signer: testKey(1)}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second writer: %v", err)
	}
	closeLog(t, l)
	closeLog(t, open(t, Options{Dir: dir}))
}

func TestSigners(t *testing.T) {
	dir := t.TempDir()
	closeLog(t, open(t, Options{Dir: dir}))
	if _, err := Open(Options{Dir: dir, Signer: testKey(2)}); err == nil || !strings.Contains(err.Error(), keyID(publicOf(testKey(2))).String()) {
		t.Errorf("another key: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, publicKeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir, Signer: testKey(2)}); !errors.Is(err, ErrDamaged) {
		t.Errorf("another key, and none beside the log: %v", err)
	}
	closeLog(t, open(t, Options{Dir: dir})) // puts the public key back
	mustVerify(t, dir, VerifyOptions{})

	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []crypto.Signer{nil, p256} {
		if _, err := Open(Options{Dir: t.TempDir(), Signer: s}); err == nil {
			t.Errorf("signer %T was accepted", s)
		}
	}
}

// failingSigner signs while it is told to.
type failingSigner struct {
	crypto.Signer
	fail bool
}

func (s *failingSigner) Sign(r io.Reader, m []byte, o crypto.SignerOpts) ([]byte, error) {
	if s.fail {
		return nil, errors.New("no key")
	}
	return s.Signer.Sign(r, m, o)
}

func TestSignerFails(t *testing.T) {
	dir := t.TempDir()
	s := &failingSigner{Signer: testKey(1)}
	l := open(t, fixed(Options{Dir: dir, Signer: s, CheckpointEvery: 2}))
	mustAppend(t, l, named("a"))
	s.fail = true
	if _, err := l.Append(named("b"), false); err == nil {
		t.Error("a record that needs a checkpoint was written without one")
	}
	s.fail = false
	mustAppend(t, l, named("c"))
	closeLog(t, l)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Records != 2 {
		t.Errorf("report: %+v", r)
	}
}

func TestCheckpoints(t *testing.T) {
	dir := t.TempDir()
	l := open(t, fixed(Options{Dir: dir, CheckpointEvery: 3}))
	for i := range 10 {
		mustAppend(t, l, named(fmt.Sprint(i)))
	}
	if _, err := l.AppendAll([]*Record{named("a"), named("b"), named("c"), named("d"), named("e")}, false); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	var shape strings.Builder
	for _, line := range lines(readDir(t, dir)[segmentName(1)]) {
		if !IsCheckpoint(line) {
			shape.WriteString("r")
			continue
		}
		c, _, err := parseCheckpoint(line, publicOf(testKey(1)))
		if err != nil {
			t.Fatal(err)
		}
		shape.WriteString("<" + c.Reason + ">")
	}
	if want := "<open>rrr<periodic>rrr<periodic>rrr<periodic>rrrrrr<periodic><close>"; shape.String() != want {
		t.Errorf("lines %s, want %s", &shape, want)
	}
}

// TestCheckpointByTime: the last records are signed and synced soon, and then
// nothing more happens.
func TestCheckpointByTime(t *testing.T) {
	dir := t.TempDir()
	heads := make(chan Head, 100)
	l := open(t, Options{Dir: dir, CheckpointAfter: 10 * time.Millisecond, SyncDelay: time.Millisecond, OnCheckpoint: func(h Head) { heads <- h }})
	if h := <-heads; h.Sequence != 1 {
		t.Fatalf("first checkpoint is %d", h.Sequence)
	}
	mustAppend(t, l, named("a"))
	select {
	case h := <-heads:
		if h.Sequence != 3 || h != l.Head() {
			t.Errorf("checkpoint %v, head %v", h, l.Head())
		}
	case <-time.After(time.Minute):
		t.Fatal("no checkpoint")
	}
	if syncIn, signIn, any := l.due(); any {
		t.Errorf("an idle log has something to do in %v, %v", syncIn, signIn)
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Unsigned != 0 || r.Closed {
		t.Errorf("report: %+v", r)
	}
}

// TestTellDelay: of many checkpoints, few are told of, and the last one when the log is
// closed.
func TestTellDelay(t *testing.T) {
	var heads []Head
	l := open(t, Options{Dir: t.TempDir(), CheckpointEvery: 2, TellDelay: time.Hour, OnCheckpoint: func(h Head) { heads = append(heads, h) }})
	if len(heads) != 1 {
		t.Fatalf("opening the log told of %d checkpoints", len(heads))
	}
	for i := range 20 {
		if _, err := l.Append(named(fmt.Sprint(i)), true); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	if n := len(heads); n > 3 || heads[n-1] != l.Head() { // closing it makes one or two
		t.Errorf("told of %v, the last checkpoint is %v", heads, l.Head())
	}
}

// TestSyncByItself: what nobody waits for is durable soon.
func TestSyncByItself(t *testing.T) {
	l := open(t, Options{Dir: t.TempDir()})
	n := mustAppend(t, l, named("a"))
	await(t, "a sync", func() bool { return l.durableNow() >= n })
}

func TestDurable(t *testing.T) {
	o := fixed(Options{Dir: t.TempDir()}) // syncs only when asked to
	l := open(t, o)
	n := mustAppend(t, l, named("a"))
	if d := l.durableNow(); d >= n {
		t.Errorf("durable up to %d", d)
	}
	n, err := l.Append(named("b"), true)
	if err != nil || l.durableNow() < n {
		t.Errorf("record %d, durable up to %d, %v", n, l.durableNow(), err)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	l := open(t, fixed(Options{Dir: dir, SegmentBytes: 2000}))
	for i := range 20 {
		mustAppend(t, l, named(fmt.Sprint(i)))
	}
	closeLog(t, l)
	f := readDir(t, dir)
	segs := f.segments()
	if len(segs) < 4 {
		t.Fatalf("segments: %v", segs)
	}
	for i, name := range segs {
		ls := lines(f[name])
		c, at, err := parseCheckpoint(ls[len(ls)-1], publicOf(testKey(1)))
		if err != nil {
			t.Fatal(err)
		}
		want := reasonRotate
		if i == len(segs)-1 {
			want = reasonClose
		} else if segs[i+1] != segmentName(at.sequence+1) {
			t.Errorf("%s ends with %d, then comes %s", name, at.sequence, segs[i+1])
		}
		if c.Reason != want {
			t.Errorf("%s ends with %s", name, c.Reason)
		}
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Segments != len(segs) || r.Records != 20 {
		t.Errorf("report: %+v", r)
	}
	// Opening goes on in the last segment.
	l = open(t, fixed(Options{Dir: dir}))
	mustAppend(t, l, named("more"))
	closeLog(t, l)
	if now := readDir(t, dir).segments(); len(now) != len(segs) {
		t.Errorf("segments: %v", now)
	}
	mustVerify(t, dir, VerifyOptions{})
}

func TestRecordSize(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	base := len(testEncode(t, l, &Record{}))
	fits := maxLine - suffixLen - base
	n, err := l.Append(&Record{EventName: strings.Repeat("n", fits)}, true)
	if err != nil || n != 2 {
		t.Fatal(err)
	}
	for _, rs := range [][]*Record{
		{{EventName: strings.Repeat("n", fits+1)}},
		{named("a"), {EventName: strings.Repeat("n", fits+1)}},
	} {
		if _, err := l.AppendAll(rs, false); !errors.Is(err, ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
	}
	mustAppend(t, l, named("a"))
	closeLog(t, l)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Records != 2 {
		t.Errorf("report: %+v", r)
	}
	if got := bytes.Count(readDir(t, dir)[segmentName(1)], []byte("\n")); got != 4 {
		t.Errorf("%d lines", got)
	}
}

func testEncode(t *testing.T, l *Log, r *Record) []byte {
	t.Helper()
	e := new(entry)
	if err := l.add(e, r); err != nil {
		t.Fatal(err)
	}
	return e.bytes
}
