package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// smallLog is a closed log of two segments, and where its lines are.
type smallLog struct {
	dir   string
	files files
	lines []smallLine
	disk  files // what is in dir
}

type smallLine struct {
	place Place
	bytes []byte
}

func newSmallLog(t testing.TB) *smallLog {
	t.Helper()
	s := &smallLog{dir: t.TempDir()}
	l := open(t, fixed(Options{Dir: s.dir, SegmentBytes: 1500, CheckpointEvery: 2}))
	for i := range 3 {
		mustAppend(t, l, named(fmt.Sprint(i)))
	}
	closeLog(t, l)
	s.files = readDir(t, s.dir)
	s.disk = s.files.clone()
	n := uint64(0)
	for _, name := range s.files.segments() {
		offset := int64(0)
		for i, line := range lines(s.files[name]) {
			n++
			s.lines = append(s.lines, smallLine{Place{name, uint64(i + 1), offset, n}, line})
			offset += int64(len(line))
		}
	}
	if len(s.files.segments()) != 2 {
		t.Fatalf("segments: %v", s.files.segments())
	}
	return s
}

// check verifies the log with its files changed.
func (s *smallLog) check(t *testing.T, change func(files), o VerifyOptions) *Report {
	t.Helper()
	f := s.files.clone()
	change(f)
	for name := range s.disk {
		if _, ok := f[name]; !ok {
			if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, b := range f {
		if was, ok := s.disk[name]; !ok || !bytes.Equal(b, was) {
			overwrite(t, filepath.Join(s.dir, name), b)
		}
	}
	s.disk = f
	return verify(t, s.dir, o)
}

// every thins out what tests try beyond one change of each byte. The long run
// tries all.
var every = func() int {
	if os.Getenv("KMSFS_LONG") != "" {
		return 1
	}
	return 29
}()

// TestVerifyFindsEveryEdit changes each byte of a small log, some in several ways.
// The fault is in the line that was changed.
func TestVerifyFindsEveryEdit(t *testing.T) {
	s := newSmallLog(t)
	for _, line := range s.lines {
		for i := range line.bytes {
			was := line.bytes[i]
			for k, b := range []byte{was ^ 1, was ^ 0x20, was ^ 0x80, '\n', ' ', '"'} {
				if b == was || k > 0 && (i+k)%every != 0 {
					continue
				}
				at := line.place.Offset + int64(i)
				r := s.check(t, func(f files) { f[line.place.Segment][at] = b }, VerifyOptions{})
				if r.Fault == nil {
					t.Fatalf("%v: byte %d changed from %q to %q: not found", line.place, i, was, b)
				}
				// Which of the last record and the checkpoint after it has
				// changed is known as well: that one is signed.
				if r.Fault.Place != line.place {
					t.Fatalf("%v: byte %d changed from %q to %q: found at %v", line.place, i, was, b, r.Fault)
				}
				if r.Last >= line.place.Sequence {
					t.Fatalf("%v: counted as good up to %d", r.Fault, r.Last)
				}
			}
		}
	}
}

// TestVerifyFindsEveryInsertion removes each byte, and adds some.
func TestVerifyFindsEveryInsertion(t *testing.T) {
	s := newSmallLog(t)
	for name, whole := range s.files {
		if !strings.HasPrefix(name, segmentPrefix) {
			continue
		}
		for i := range whole {
			for k, b := range [][]byte{{}, {whole[i], ' '}, {'\n', whole[i]}, {whole[i], whole[i]}} {
				if k > 0 && (i+k)%every != 0 {
					continue
				}
				r := s.check(t, func(f files) {
					f[name] = slices.Concat(whole[:i], b, whole[i+1:])
				}, VerifyOptions{})
				if r.Fault == nil {
					t.Fatalf("%s: byte %d (%q) replaced by %q: not found", name, i, whole[i], b)
				}
			}
		}
	}
}

func join(ls []smallLine, segment string) []byte {
	var b []byte
	for _, l := range ls {
		if l.place.Segment == segment {
			b = append(b, l.bytes...)
		}
	}
	return b
}

// TestVerifyFindsEveryDrop removes each line, and each run of lines.
func TestVerifyFindsEveryDrop(t *testing.T) {
	s := newSmallLog(t)
	head := Head{}
	if r := mustVerify(t, s.dir, VerifyOptions{}); r.LastCheckpoint != nil {
		head = r.LastCheckpoint.Head
	}
	for from := range s.lines {
		for to := from + 1; to <= len(s.lines); to++ {
			rest := slices.Concat(s.lines[:from], s.lines[to:])
			r := s.check(t, func(f files) {
				for _, name := range f.segments() {
					f[name] = join(rest, name)
				}
			}, VerifyOptions{Head: &head})
			if r.Fault == nil {
				t.Fatalf("lines %d to %d dropped: not found", from+1, to)
			}
			if want := s.lines[from].place.Sequence; r.Fault.Place.Sequence != want {
				t.Errorf("lines %d to %d dropped: found at %v", from+1, to, r.Fault)
			}
			if kind := r.Fault.Kind; kind != FaultMissing && kind != FaultTruncated {
				t.Errorf("lines %d to %d dropped: %v", from+1, to, r.Fault)
			}
		}
	}
}

// TestVerifyFindsEverySwap exchanges each two lines, and repeats each line at
// each place.
func TestVerifyFindsEverySwap(t *testing.T) {
	s := newSmallLog(t)
	for i := range s.lines {
		for j := i + 1; j < len(s.lines); j++ {
			swapped := slices.Clone(s.lines)
			swapped[i].bytes, swapped[j].bytes = swapped[j].bytes, swapped[i].bytes
			r := s.check(t, func(f files) {
				for _, name := range f.segments() {
					f[name] = join(swapped, name)
				}
			}, VerifyOptions{})
			if r.Fault == nil || r.Fault.Place.Sequence != s.lines[i].place.Sequence {
				t.Fatalf("lines %d and %d exchanged: found %v", i+1, j+1, r.Fault)
			}
			same := s.lines[i].place.Segment == s.lines[j].place.Segment
			if same && r.Fault.Kind != FaultReordered {
				t.Errorf("lines %d and %d exchanged: %v", i+1, j+1, r.Fault)
			}
		}
		for j := range s.lines {
			repeated := slices.Insert(slices.Clone(s.lines), j, smallLine{s.lines[j].place, s.lines[i].bytes})
			r := s.check(t, func(f files) {
				for _, name := range f.segments() {
					f[name] = join(repeated, name)
				}
			}, VerifyOptions{})
			if r.Fault == nil {
				t.Fatalf("line %d repeated before line %d: not found", i+1, j+1)
			}
		}
	}
}

// TestVerifyFindsEveryTruncation cuts each segment at each byte. At the end of a
// line only the head tells, or an anchor.
func TestVerifyFindsEveryTruncation(t *testing.T) {
	s := newSmallLog(t)
	last := mustVerify(t, s.dir, VerifyOptions{}).LastCheckpoint
	segs := s.files.segments()
	for i, name := range segs {
		for cut := range s.files[name] {
			do := func(f files) { f[name] = f[name][:cut] }
			whole := cut == 0 || s.files[name][cut-1] == '\n'
			for what, o := range map[string]VerifyOptions{"head": {Head: &last.Head}, "anchor": {Anchor: last.Line}} {
				if !whole && cut%every != 0 {
					continue // the same as without
				}
				r := s.check(t, do, o)
				if r.Fault == nil || r.HeadFound || r.AnchorFound {
					t.Fatalf("%s cut to %d bytes: not found with %s", name, cut, what)
				}
			}
			r := s.check(t, do, VerifyOptions{})
			if i == len(segs)-1 && whole {
				if r.Fault != nil {
					t.Fatalf("%s cut to %d bytes: %v", name, cut, r.Fault)
				}
				if r.Closed && cut > 0 {
					t.Fatalf("%s cut to %d bytes: taken for closed", name, cut)
				}
				continue
			}
			if r.Fault == nil {
				t.Fatalf("%s cut to %d bytes: not found", name, cut)
			}
		}
	}
}

func TestVerifySegments(t *testing.T) {
	s := newSmallLog(t)
	segs := s.files.segments()
	first, second := segs[0], segs[1]
	lastLine := s.lines[len(s.lines)-1]
	head := headOf(link{lastLine.place.Sequence, Hash{}}, lastLine.bytes)
	for _, c := range []struct {
		name   string
		change func(files)
		o      VerifyOptions
		want   Kind
	}{
		{"first missing", func(f files) { delete(f, first) }, VerifyOptions{}, FaultMissing},
		{"last missing", func(f files) { delete(f, second) }, VerifyOptions{Head: &head}, FaultTruncated},
		{"all missing", func(f files) { delete(f, first); delete(f, second) }, VerifyOptions{}, FaultMissing},
		{"exchanged", func(f files) { f[first], f[second] = f[second], f[first] }, VerifyOptions{}, FaultMissing},
		{"renamed up", func(f files) { f[segmentName(90)] = f[second]; delete(f, second) }, VerifyOptions{}, FaultMissing},
		{"renamed down", func(f files) { f[segmentName(2)] = f[second]; delete(f, second) }, VerifyOptions{}, FaultReordered},
		{"renamed to no segment", func(f files) { f["audit-2.jsonl"] = f[second]; delete(f, second) }, VerifyOptions{Head: &head}, FaultTruncated},
		{"copied", func(f files) { f[segmentName(90)] = f[second] }, VerifyOptions{}, FaultMissing},
		{"joined", func(f files) { f[first] = append(f[first], f[second]...); delete(f, second) }, VerifyOptions{}, ""},
		{"split", func(f files) {
			at := s.lines[2].place
			f[segmentName(at.Sequence)] = f[first][at.Offset:]
			f[first] = f[first][:at.Offset]
		}, VerifyOptions{}, FaultTruncated},
		{"empty one after", func(f files) { f[segmentName(lastLine.place.Sequence+1)] = nil }, VerifyOptions{}, FaultTruncated},
		{"first moved away", func(f files) { delete(f, first) }, VerifyOptions{AllowArchived: true, Head: &head}, ""},
		{"first moved away, with the head", func(f files) { delete(f, first) }, VerifyOptions{AllowArchived: true, Head: &Head{1, head.Hash}}, FaultMissing},
		{"first moved away, then damaged", func(f files) { delete(f, first); f[second][0] = '[' }, VerifyOptions{AllowArchived: true}, FaultEdited},
	} {
		r := s.check(t, c.change, c.o)
		switch {
		case c.want == "" && r.Fault != nil:
			t.Errorf("%s: %v", c.name, r.Fault)
		case c.want != "" && (r.Fault == nil || r.Fault.Kind != c.want):
			t.Errorf("%s: %v, want %s", c.name, r.Fault, c.want)
		}
	}
	r := s.check(t, func(f files) { delete(f, first) }, VerifyOptions{AllowArchived: true})
	if r.First != s.lines[len(s.lines)-len(lines(s.files[second]))].place.Sequence || !strings.Contains(r.Caveats()[0], "moved away") {
		t.Errorf("report: %+v, %q", r, r.Caveats())
	}
}

func TestVerifyErrors(t *testing.T) {
	if _, err := Verify(t.TempDir(), VerifyOptions{}); !missing(err) {
		t.Errorf("no log: %v", err)
	}
	if _, err := Verify(t.TempDir(), VerifyOptions{PublicKey: make([]byte, 5)}); err == nil {
		t.Error("a short key was accepted")
	}
	if _, err := Verify("/nonexistent", VerifyOptions{PublicKey: publicOf(testKey(1))}); !missing(err) {
		t.Errorf("no directory: %v", err)
	}
	if r := verify(t, t.TempDir(), VerifyOptions{PublicKey: publicOf(testKey(1))}); r.Fault == nil || r.Fault.Kind != FaultMissing {
		t.Errorf("no segments: %v", r.Fault)
	}
}

func TestEventsAreBounded(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	for i := range maxEvents + 10 {
		r := &Record{EventName: fmt.Sprint("e", i)}
		if i%2 == 0 {
			r.ErrorCode = "AccessDenied"
		}
		mustAppend(t, l, r)
	}
	closeLog(t, l)
	r := mustVerify(t, dir, VerifyOptions{})
	if len(r.Events) != maxEvents+1 || r.Events[OtherEvents] != 10 || r.Errors != (maxEvents+10)/2 {
		t.Errorf("%d names, %d others, %d errors", len(r.Events), r.Events[OtherEvents], r.Errors)
	}
}
