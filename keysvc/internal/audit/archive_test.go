package audit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestArchive moves segments away while the log is written, twice, once after a
// crash in between: both places together are the log.
func TestArchive(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "archive")
	l := open(t, Options{Dir: dir, SegmentBytes: 4 << 10})
	fill := func(segments int) {
		t.Helper()
		for n := len(readDir(t, dir).segments()); n < segments; n = len(readDir(t, dir).segments()) {
			mustAppend(t, l, named("x"))
		}
	}
	archive := func() []string {
		t.Helper()
		moved, err := Archive(dir, to)
		if err != nil {
			t.Fatal(err)
		}
		return moved
	}
	fill(2)
	if moved := archive(); len(moved) > 0 {
		t.Errorf("of two segments %q are moved", moved)
	}
	fill(4)
	anchor := mustVerify(t, dir, VerifyOptions{}).LastCheckpoint
	fill(5)
	all := readDir(t, dir)
	names := all.segments()
	// A crash left a copy, and the original.
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	overwrite(t, filepath.Join(to, names[0]), all[names[0]])
	if moved := archive(); !slices.Equal(moved, names[:3]) {
		t.Errorf("moved %q of %q", moved, names)
	}
	fill(4)
	if moved := archive(); len(moved) != 2 {
		t.Errorf("moved %q", moved)
	}
	closeLog(t, l)
	l = open(t, Options{Dir: dir}) // what is left suffices
	closeLog(t, l)

	o := VerifyOptions{Archives: []string{to}, Anchor: anchor.Line}
	if r := mustVerify(t, dir, o); r.First != 1 || !r.AnchorFound || r.Segments != len(readDir(t, to).segments())+2 {
		t.Errorf("both places: %+v", r)
	}
	if r := verify(t, dir, VerifyOptions{}); r.Fault == nil || r.Fault.Kind != FaultMissing {
		t.Errorf("without the archive: %v", r.Fault)
	}
	mustVerify(t, dir, VerifyOptions{AllowArchived: true})
	mustVerify(t, to, VerifyOptions{Anchor: anchor.Line})
	hidden := filepath.Join(to, names[1])
	if err := os.Rename(hidden, hidden+".away"); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir, o); r.Fault == nil || r.Fault.Kind != FaultMissing || r.Fault.Place.Segment != names[2] {
		t.Errorf("a segment of the archive is missing: %v", r.Fault)
	}
}

func TestArchiveRefuses(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir, SegmentBytes: 2 << 10})
	for len(readDir(t, dir).segments()) < 4 {
		mustAppend(t, l, named("x"))
	}
	closeLog(t, l)
	before := readDir(t, dir)
	oldest := before.segments()[0]
	for name, c := range map[string]struct {
		file    string
		content []byte
		says    string
	}{
		"another log's archive": {publicKeyFile, publicKeyText(publicOf(testKey(2))), "holds another audit log"},
		"another segment":       {oldest, before[oldest][:100], "differs"},
	} {
		to := t.TempDir()
		overwrite(t, filepath.Join(to, c.file), c.content)
		if moved, err := Archive(dir, to); err == nil || len(moved) > 0 || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: moved %q, %v", name, moved, err)
		}
		if after := readDir(t, dir); !slices.Equal(after.segments(), before.segments()) {
			t.Errorf("%s: %q are left", name, after.segments())
		}
	}
}
