package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// tornLog is a log whose service was killed: checkpoints at 1, 5 and 9, records
// after that, and all but the last two records durable.
func tornLog(t testing.TB) (dir string, f files, head Head) {
	t.Helper()
	dir = t.TempDir()
	l := open(t, fixed(Options{Dir: dir, CheckpointEvery: 3, OnCheckpoint: func(h Head) { head = h }}))
	for i := range 10 {
		if _, err := l.Append(named(fmt.Sprint(i)), i == 7); err != nil {
			t.Fatal(err)
		}
	}
	l.tells.Wait()
	crash(t, l)
	return dir, readDir(t, dir), head
}

// events are the log's own.
func ownEvents(t testing.TB, dir string) []Record {
	t.Helper()
	var found []Record
	f := readDir(t, dir)
	for _, name := range f.segments() {
		for _, line := range lines(f[name]) {
			var r Record
			if IsCheckpoint(line) {
				continue
			}
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatal(err)
			}
			if r.EventType == TypeServiceEvent {
				found = append(found, r)
			}
		}
	}
	return found
}

// TestTornEnd cuts the log at bytes after what is durable, or puts zeros there: it opens, the durable records are there, and what was cut off is kept.
func TestTornEnd(t *testing.T) {
	dir, f, head := tornLog(t)
	name := segmentName(1)
	whole := f[name]
	ls := lines(whole)
	durable := len(bytes.Join(ls[:11], nil)) // up to the record 7, which is line 11
	if head.Sequence != 9 {
		t.Fatalf("head %v", head)
	}
	for cut := durable; cut < len(whole); cut++ {
		if cut%every != 0 && whole[cut-1] != '\n' && whole[cut] != '\n' {
			continue
		}
		for _, fill := range []string{"", "\x00", strings.Repeat("\x00", 5000), strings.Repeat("\x00", 100) + string(ls[12])} {
			if fill != "" && cut%every != 0 {
				continue
			}
			f[name] = slices.Concat(whole[:cut], []byte(fill))
			f.write(t, dir)
			l := open(t, quiet(fixed(Options{Dir: dir, ExpectedHead: &head})))
			mustAppend(t, l, named("after"))
			closeLog(t, l)
			r := mustVerify(t, dir, VerifyOptions{Head: &head})

			good := bytes.LastIndexByte(whole[:cut], '\n') + 1
			torn := slices.Concat(whole[good:cut], []byte(fill))
			own := ownEvents(t, dir)
			now := readDir(t, dir)
			if len(torn) == 0 {
				if len(own) != 0 || len(now) != len(f) {
					t.Fatalf("cut at %d, a line's end: %v", cut, own)
				}
				continue
			}
			if len(own) != 1 || own[0].EventName != EventRepaired {
				t.Fatalf("cut at %d: events %+v", cut, own)
			}
			d := own[0].ServiceEventDetails
			if d.Segment != name || d.Offset != int64(good) || d.BytesCut != int64(len(torn)) || !bytes.Equal(now[d.SavedAs], torn) {
				t.Fatalf("cut at %d: %+v", cut, d)
			}
			kept := lines(whole[:good])
			signed := 0
			for i, line := range kept {
				if IsCheckpoint(line) {
					signed = i + 1
				}
			}
			checkpoints := bytes.Count(whole[:good], checkpointStart)
			if want := uint64(len(kept) - checkpoints + 2); r.Records != want {
				t.Fatalf("cut at %d: %d records, want %d", cut, r.Records, want)
			}
			// The record of the repair is no record that was signed late.
			if want := uint64(len(kept) - signed); r.SignedLate != want {
				t.Fatalf("cut at %d: %d records signed late, want %d", cut, r.SignedLate, want)
			}
		}
	}
}

// TestDamageIsNoTornEnd: what was durable by a checkpoint's word or the head's is
// not cut off.
func TestDamageIsNoTornEnd(t *testing.T) {
	dir, f, head := tornLog(t)
	name := segmentName(1)
	whole := f[name]
	ls := lines(whole)
	// The checkpoint in line 13 says that all was durable up to record 11. The
	// one in line 9 knows of record 1 only, but the head says that itself was.
	for _, c := range []struct {
		lines, durable int
		head           *Head
	}{
		{14, 11, &head}, {14, 11, nil}, {12, 9, &head}, {12, 1, nil}, {9, 9, &head}, {9, 1, nil},
	} {
		for i := range c.lines {
			for _, where := range []int{0, 30, len(ls[i]) / 2, len(ls[i]) - 30, len(ls[i]) - 1} {
				at := len(bytes.Join(ls[:i], nil)) + where
				f[name] = bytes.Join(ls[:c.lines], nil)
				f[name][at] ^= 1
				damaged := lines(f[name])[i]
				f.write(t, dir)
				l, err := Open(quiet(fixed(Options{Dir: dir, ExpectedHead: c.head})))
				if err != nil {
					if !errors.Is(err, ErrDamaged) && !(errors.Is(err, ErrHead) && i < 9) {
						t.Fatalf("%+v: line %d, byte %d changed: %v", c, i+1, where, err)
					}
					if after := readDir(t, dir); !bytes.Equal(after[name], f[name]) || len(after) != len(f) {
						t.Fatalf("%+v: line %d, byte %d changed: the damaged log was written to", c, i+1, where)
					}
					// A crash makes no other lines that parse.
					if i >= c.durable && !parses(damaged) {
						t.Fatalf("%+v: line %d, byte %d changed: a torn end is refused: %v", c, i+1, where, err)
					}
					continue
				}
				closeLog(t, l)
				if i < c.durable {
					t.Fatalf("%+v: line %d, byte %d changed: opened", c, i+1, where)
				}
				mustVerify(t, dir, VerifyOptions{})
				kept := bytes.Contains(bytes.Join(tornFiles(t, dir), nil), damaged)
				if i == c.lines-1 && parses(damaged) {
					// The very end is chained, not signed.
					continue
				}
				if !kept || bytes.Contains(readDir(t, dir)[name], damaged) {
					t.Fatalf("%+v: line %d, byte %d changed: not cut off", c, i+1, where)
				}
			}
		}
	}
}

func parses(line []byte) bool {
	_, ok := parseLine(line)
	return ok
}

func tornFiles(t testing.TB, dir string) [][]byte {
	t.Helper()
	var all [][]byte
	for name, b := range readDir(t, dir) {
		if strings.HasPrefix(name, tornPrefix) {
			all = append(all, b)
		}
	}
	return all
}

func TestExpectedHead(t *testing.T) {
	dir := t.TempDir()
	var head Head
	l := open(t, fixed(Options{Dir: dir, SegmentBytes: 1500, CheckpointEvery: 3, OnCheckpoint: func(h Head) { head = h }}))
	var heads []Head // that are in older segments
	for i := range 10 {
		if _, err := l.Append(named(fmt.Sprint(i)), true); err != nil {
			t.Fatal(err)
		}
		heads = append(heads, l.Head())
	}
	closeLog(t, l)
	f := readDir(t, dir)
	segs := f.segments()
	for _, h := range append(heads, head) {
		l := open(t, fixed(Options{Dir: dir, ExpectedHead: &h}))
		crash(t, l)
		f.write(t, dir)
	}
	refuse := func(what string, h Head, change func(files), want string) {
		t.Helper()
		c := f.clone()
		change(c)
		c.write(t, dir)
		_, err := Open(quiet(fixed(Options{Dir: dir, ExpectedHead: &h})))
		if !errors.Is(err, ErrHead) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
		after := readDir(t, dir)
		for name := range c {
			if !bytes.Equal(after[name], c[name]) {
				t.Errorf("%s: %s was written to", what, name)
			}
		}
		// An operator may insist.
		l, err := Open(quiet(fixed(Options{Dir: dir, ExpectedHead: &h, AcceptLoss: true})))
		if err != nil {
			t.Errorf("%s, accepted: %v", what, err)
			return
		}
		closeLog(t, l)
		mustVerify(t, dir, VerifyOptions{})
		own := ownEvents(t, dir)
		if len(own) != 1 || own[0].EventName != EventLossAccepted || own[0].ServiceEventDetails.ExpectedSequence != h.Sequence ||
			own[0].ServiceEventDetails.ExpectedHash != h.Hash.String() {
			t.Errorf("%s, accepted: %+v", what, own)
		}
	}
	lastSeg := segs[len(segs)-1]
	ls := lines(f[lastSeg])
	refuse("the last line cut off", head, func(f files) { f[lastSeg] = bytes.Join(ls[:len(ls)-1], nil) }, "its end was cut off")
	refuse("the last segment gone", head, func(f files) { delete(f, lastSeg) }, "its end was cut off")
	refuse("all segments gone", head, func(f files) {
		for _, s := range segs {
			delete(f, s)
		}
	}, "there is none")
	refuse("all gone", head, func(f files) { clear(f) }, "there is none")
	refuse("another hash", Head{head.Sequence, Hash{1}}, func(files) {}, "is not the checkpoint")
	refuse("another hash in an older segment", Head{heads[0].Sequence, Hash{1}}, func(files) {}, "is not the checkpoint")
	refuse("a record", Head{2, heads[0].Hash}, func(files) {}, "is not the checkpoint")

	// Segments moved away are not missed, the last but one is.
	c := f.clone()
	delete(c, segs[0])
	c.write(t, dir)
	crash(t, open(t, fixed(Options{Dir: dir, ExpectedHead: &heads[0]})))
	c = files{lastSeg: f[lastSeg], publicKeyFile: f[publicKeyFile]}
	c.write(t, dir)
	if _, err := Open(quiet(fixed(Options{Dir: dir}))); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "the last two must stay") {
		t.Errorf("the last segment alone: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	s := newSmallLog(t)
	segs := s.files.segments()
	first, second := segs[0], segs[1]
	for what, change := range map[string]func(files){
		"no segment but a public key":      func(f files) { delete(f, first); delete(f, second) },
		"a public key that is none":        func(f files) { f[publicKeyFile] = []byte("x") },
		"a public key of another length":   func(f files) { f[publicKeyFile] = []byte(publicKeyPrefix + "AAAA\n") },
		"another public key":               func(f files) { f[publicKeyFile] = publicKeyText(publicOf(testKey(2))) },
		"the segment before cut":           func(f files) { f[first] = f[first][:len(f[first])-1] },
		"the segment before without end":   func(f files) { f[first] = bytes.Join(lines(f[first])[:3], nil) },
		"the segment before empty":         func(f files) { f[first] = nil },
		"a gap":                            func(f files) { f[segmentName(90)] = f[second]; delete(f, second) },
		"the segment before is another's":  func(f files) { f[first] = f[second] },
		"a checkpoint with another's name": func(f files) { f[second] = bytes.Replace(f[second], []byte(`"keyId":"`), []byte(`"keyId":"A`), 1) },
	} {
		c := s.files.clone()
		change(c)
		c.write(t, s.dir)
		l, err := Open(quiet(fixed(Options{Dir: s.dir})))
		if err == nil {
			closeLog(t, l)
			if what == "a checkpoint with another's name" {
				continue // not in a checkpoint's form: a torn end
			}
			t.Errorf("%s: opened", what)
			continue
		}
		after := readDir(t, s.dir)
		for name := range c {
			if !bytes.Equal(after[name], c[name]) || len(after) != len(c) {
				t.Errorf("%s: the log was written to", what)
			}
		}
	}
	s.files.write(t, s.dir)
	if err := os.Chmod(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	closeLog(t, open(t, fixed(Options{Dir: s.dir})))
}
