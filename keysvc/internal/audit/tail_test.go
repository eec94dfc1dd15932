package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestTail(t *testing.T) {
	s := newSmallLog(t)
	for n := range len(s.lines) + 3 {
		var got []string
		err := Tail(context.Background(), s.dir, n, false, func(line []byte) error {
			got = append(got, string(line))
			return nil
		})
		var want []string
		for _, l := range s.lines[max(0, len(s.lines)-n):] {
			want = append(want, string(l.bytes))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("last %d: %d lines, want %d, %v", n, len(got), len(want), err)
		}
	}
	stop := errors.New("enough")
	calls := 0
	err := Tail(context.Background(), s.dir, 3, true, func([]byte) error { calls++; return stop })
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("stopped with %v after %d calls", err, calls)
	}
	if err := Tail(context.Background(), filepath.Join(s.dir, "no"), 3, true, nil); !missing(err) {
		t.Errorf("no directory: %v", err)
	}
	if err := Tail(context.Background(), t.TempDir(), 3, false, nil); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
}

// TestTailLongLines has lines that are longer than any buffer.
func TestTailLongLines(t *testing.T) {
	dir := t.TempDir()
	l := open(t, fixed(Options{Dir: dir}))
	var sizes []int
	for i := range 5 {
		r := &Record{EventName: strings.Repeat("n", i*150<<10)}
		mustAppend(t, l, r)
	}
	closeLog(t, l)
	if err := Tail(context.Background(), dir, 4, false, func(line []byte) error { sizes = append(sizes, len(line)); return nil }); err != nil {
		t.Fatal(err)
	}
	all := lines(readDir(t, dir)[segmentName(1)])
	for i, line := range all[len(all)-4:] {
		if sizes[i] != len(line) {
			t.Errorf("line %d has %d bytes, want %d", i, sizes[i], len(line))
		}
	}
	mustVerify(t, dir, VerifyOptions{})
}

// follower collects the lines that Tail follows.
type follower struct {
	mu    sync.Mutex
	lines []string
	end   func()
}

func follow(t *testing.T, dir string, n int) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{}
	done := make(chan error)
	go func() {
		done <- Tail(ctx, dir, n, true, func(line []byte) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.lines = append(f.lines, string(line))
			return nil
		})
	}()
	f.end = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return f
}

func (f *follower) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.lines)
}

func TestTailFollowsRotation(t *testing.T) {
	dir := t.TempDir()
	f := follow(t, dir, 10) // before there is a log
	l := open(t, fixed(Options{Dir: dir, SegmentBytes: 1500}))
	for i := range 20 {
		mustAppend(t, l, named(fmt.Sprint(i)))
		if i == 5 {
			await(t, "some lines", func() bool { return f.count() >= 7 })
		}
	}
	closeLog(t, l)
	var want []string
	all := readDir(t, dir)
	for _, name := range all.segments() {
		for _, line := range lines(all[name]) {
			want = append(want, string(line))
		}
	}
	await(t, "all lines", func() bool { return f.count() >= len(want) })
	f.end()
	if len(all.segments()) < 3 || !slices.Equal(f.lines, want) {
		t.Errorf("%d lines of %d", len(f.lines), len(want))
	}
}

// TestTailOfHalfLines: a line is passed on when it is whole, and what is taken
// back is not waited for.
func TestTailOfHalfLines(t *testing.T) {
	s := newSmallLog(t)
	name := s.files.segments()[0]
	for _, n := range s.files.segments()[1:] {
		if err := os.Remove(filepath.Join(s.dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(s.dir, name)
	whole := s.files[name]
	ls := lines(whole)
	two := len(ls[0]) + len(ls[1])
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	set := func(n int) {
		t.Helper()
		if _, err := file.WriteAt(whole[:n], 0); err != nil {
			t.Fatal(err)
		}
		if err := file.Truncate(int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	set(two - 5)
	f := follow(t, s.dir, 10)
	defer f.end()
	await(t, "one line", func() bool { return f.count() == 1 })
	set(two - 1)
	set(two)
	await(t, "two lines", func() bool { return f.count() == 2 })
	set(two + 5)
	set(two)
	set(len(whole))
	await(t, "all lines", func() bool { return f.count() == len(ls) })
	if got := strings.Join(f.lines, ""); got != string(whole) {
		t.Errorf("followed\n%s\nwant\n%s", got, whole)
	}
}

// TestTailOfWhatIsTakenBack goes on at the end of a segment that has shrunk.
func TestTailOfWhatIsTakenBack(t *testing.T) {
	s := newSmallLog(t)
	name := s.files.segments()[0]
	if err := os.Remove(filepath.Join(s.dir, s.files.segments()[1])); err != nil {
		t.Fatal(err)
	}
	ls := lines(s.files[name])
	var got []string
	print := func(tl *tail, n int) {
		t.Helper()
		overwrite(t, filepath.Join(s.dir, name), bytes.Join(ls[:n], nil))
		if err := tl.print(context.Background(), func(line []byte) error {
			got = append(got, string(line))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	overwrite(t, filepath.Join(s.dir, name), nil)
	tl, err := tailFrom(s.dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tl.close()
	var want []string
	for _, n := range []int{2, 1, 1, 3} {
		print(tl, n)
	}
	for _, i := range []int{0, 1, 1, 2} {
		want = append(want, string(ls[i]))
	}
	if !slices.Equal(got, want) {
		t.Errorf("lines\n%q, want\n%q", got, want)
	}
}

// TestVerifyEndsWhereItBegan: lines that come later are left for the next time.
func TestVerifyEndsWhereItBegan(t *testing.T) {
	s := newSmallLog(t)
	first := s.lines[0]
	for _, size := range []int64{1, int64(len(first.bytes)) - 1, int64(len(first.bytes))} {
		v := verifier{dir: s.dir, key: publicOf(testKey(1)), next: genesis(publicOf(testKey(1)))}
		v.report.Events = make(map[string]uint64)
		if err := v.segment(segment{s.dir, first.place.Segment, 1}, size); err != nil || v.report.Last != 1 || v.place.Line != 2 {
			t.Errorf("%d bytes: verified up to %d, ends at %v, %v", size, v.report.Last, v.place, err)
		}
	}
}

// TestVerifyWhileAppending: the log of a running service verifies.
func TestVerifyWhileAppending(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir, SegmentBytes: 50 << 10, CheckpointEvery: 20})
	var wg sync.WaitGroup
	var running atomic.Int64
	for c := range 3 {
		running.Add(1)
		wg.Go(func() {
			defer running.Add(-1)
			r := named(fmt.Sprint(c))
			r.UserAgent = strings.Repeat("u", 900)
			for range 200 {
				if _, err := l.AppendAll([]*Record{r, r, r, r, r, r, r, r}, c == 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for running.Load() > 0 {
		head := l.Head()
		r := verify(t, dir, VerifyOptions{Head: &head, Grace: time.Minute})
		if r.Fault != nil {
			t.Error(r.Fault)
		}
	}
	wg.Wait()
	closeLog(t, l)
	mustVerify(t, dir, VerifyOptions{})
}
