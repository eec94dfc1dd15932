package audit

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata anew: only for a new version of the format")

// goldenLog makes the log in testdata/v1: each kind of record and checkpoint, two
// segments, a torn end.
func goldenLog(t *testing.T) (dir string, head Head) {
	t.Helper()
	dir = t.TempDir()
	key := testKey('g')
	many := manyRecords()
	l := open(t, fixed(Options{Dir: dir, Signer: key, SegmentBytes: 5000, CheckpointEvery: 4}))
	for _, name := range slices.Sorted(maps.Keys(many)) {
		r := many[name]
		mustAppend(t, l, &r)
	}
	closeLog(t, l)

	l = open(t, fixed(Options{Dir: dir, Signer: key}))
	mustAppend(t, l, named("before the crash"))
	crash(t, l)
	f := readDir(t, dir)
	segs := f.segments()
	last := segs[len(segs)-1]
	f[last] = append(f[last], `{"eventVersion":"1.11","userId`...)
	f.write(t, dir)
	l = open(t, quiet(fixed(Options{Dir: dir, Signer: key})))
	mustAppend(t, l, named("after the crash"))
	closeLog(t, l)

	l = open(t, quiet(fixed(Options{Dir: dir, Signer: key, ExpectedHead: &Head{1000, Hash{1}}, AcceptLoss: true})))
	closeLog(t, l)
	return dir, l.Head()
}

// TestGolden: logs of version 1 verify for ever, and this version writes them to
// the byte.
func TestGolden(t *testing.T) {
	const v1 = "testdata/v1"
	made, head := goldenLog(t)
	if *update {
		if err := os.MkdirAll(v1, 0o755); err != nil {
			t.Fatal(err)
		}
		readDir(t, made).write(t, v1)
	}
	want, got := readDir(t, v1), readDir(t, made)
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s is\n%s\nin testdata it is\n%s", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, %d in testdata", len(got), len(want))
	}

	anchor := lines(want[want.segments()[0]])[0]
	r := mustVerify(t, v1, VerifyOptions{Head: &head, Anchor: anchor, PublicKey: publicOf(testKey('g'))})
	c := r.LastCheckpoint
	if r.Records != uint64(len(manyRecords())+4) || r.Errors != 1 || r.Events["CreateGrant"] != 1 || r.Events[EventRepaired] != 2 ||
		r.Events[EventLossAccepted] != 1 || r.Segments != len(want.segments()) || r.Segments < 2 || r.SignedLate != 1 || !r.Closed ||
		!r.HeadFound || !r.AnchorFound || len(r.Caveats()) != 3 || c.Head != head || c.Reason != reasonClose ||
		!c.Time.Equal(time.Date(2026, 3, 1, 12, 0, 0, 750e6, time.UTC)) {
		t.Errorf("report: %+v, %+v", r, c)
	}

	// A copy goes on as any log does.
	dir := filepath.Join(t.TempDir(), "audit")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	want.write(t, dir)
	l := open(t, Options{Dir: dir, Signer: testKey('g'), ExpectedHead: &head})
	mustAppend(t, l, named("more"))
	closeLog(t, l)
	mustVerify(t, dir, VerifyOptions{Head: &head, Anchor: anchor})
}
