package audit

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
)

// TestCrashDuringOpen cuts the steps of an Open short at each write, truncation,
// sync and creation. The next Open makes it good, and notes what was cut off.
func TestCrashDuringOpen(t *testing.T) {
	dir, f, head := tornLog(t)
	name := segmentName(1)
	f[name] = f[name][:len(f[name])-10]
	errCrash := errors.New("crash")
	for stopAt := 0; ; stopAt++ {
		f.write(t, dir)
		o := quiet(fixed(Options{Dir: dir, ExpectedHead: &head}))
		o.setDefaults()
		step := 0
		next := func() error {
			step++
			if step > stopAt {
				return errCrash
			}
			return nil
		}
		real := o.disk
		o.disk.writeAt = func(f *os.File, b []byte, off int64) (int, error) {
			if err := next(); err != nil {
				n, _ := real.writeAt(f, b[:len(b)/2], off)
				return n, err
			}
			return real.writeAt(f, b, off)
		}
		o.disk.truncate = func(f *os.File, size int64) error {
			if err := next(); err != nil {
				return err
			}
			return real.truncate(f, size)
		}
		o.disk.datasync = func(f *os.File) error {
			if err := next(); err != nil {
				return err
			}
			return real.datasync(f)
		}
		l, err := Open(o)
		if err == nil {
			step = -1000
			closeLog(t, l)
			if stopAt < 4 {
				t.Errorf("opened in %d steps", stopAt)
			}
			return
		}
		if !errors.Is(err, errCrash) {
			t.Fatalf("step %d: %v", stopAt, err)
		}
		l = open(t, quiet(fixed(Options{Dir: dir, ExpectedHead: &head})))
		closeLog(t, l)
		mustVerify(t, dir, VerifyOptions{Head: &head})
		own := ownEvents(t, dir)
		if len(own) == 0 {
			t.Fatalf("step %d: what was cut off is not noted", stopAt)
		}
		now := readDir(t, dir)
		found := false
		for _, e := range own {
			d := e.ServiceEventDetails
			found = found || bytes.HasPrefix(now[d.SavedAs], []byte(`{"eventVersion"`))
		}
		if !found {
			t.Fatalf("step %d: what was cut off is not kept: %+v", stopAt, own)
		}
	}
}

// TestPowerCut makes the states that a disk may be left in: of what was not
// synced, any pages are there and others are zeros or missing. In each the log
// opens, what was acknowledged as durable is there, and what is there verifies.
func TestPowerCut(t *testing.T) {
	rounds := 60
	if os.Getenv("KMSFS_LONG") != "" {
		rounds = 2000
	}
	const page = 512 // smaller than records: more interesting
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range rounds {
		dir := t.TempDir()
		var head Head
		o := quiet(fixed(Options{Dir: dir, SegmentBytes: 6000, CheckpointEvery: 4, OnCheckpoint: func(h Head) { head = h }}))
		o.setDefaults()
		synced := make(map[string]int64) // bytes of each segment that are durable
		real := o.disk
		o.disk.datasync = func(f *os.File) error {
			st, err := f.Stat()
			if err != nil {
				return err
			}
			synced[st.Name()] = st.Size()
			return real.datasync(f)
		}
		l := open(t, o)
		durable := make(map[uint64]string)
		unsure := make(map[uint64]string)
		for i := range 5 + rng.IntN(20) {
			ask := rng.IntN(4) == 0
			id := fmt.Sprint(round, "-", i)
			n, err := l.Append(named(id), ask)
			if err != nil {
				t.Fatal(err)
			}
			unsure[n] = id
			if ask {
				for n, id := range unsure {
					durable[n] = id
				}
				clear(unsure)
			}
		}
		l.tells.Wait()
		crash(t, l)

		f := readDir(t, dir)
		for _, name := range f.segments() {
			b := f[name]
			size := int(synced[name]) + rng.IntN(len(b)-int(synced[name])+1)
			b = b[:size]
			for from := int(synced[name]); from < size; {
				to := min(size, (from/page+1)*page)
				if rng.IntN(3) == 0 {
					clear(b[from:to])
				}
				from = to
			}
			f[name] = b
		}
		f.write(t, dir)
		expected := &head
		if round%2 == 0 {
			expected = nil // the checkpoints must do
		}
		l, err := Open(quiet(fixed(Options{Dir: dir, ExpectedHead: expected})))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		mustAppend(t, l, named("after"))
		closeLog(t, l)
		mustVerify(t, dir, VerifyOptions{Head: &head})
		got := records(t, dir)
		for n, id := range durable {
			if got[n] != id {
				t.Fatalf("round %d: record %d is %q, was %q and durable", round, n, got[n], id)
			}
		}
	}
}
