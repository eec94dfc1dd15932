package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rehash is what an attacker without the key does: the lines from one on get
// links that fit. Checkpoints keep their signatures.
func rehash(b []byte, at link) []byte {
	var out []byte
	for _, line := range lines(b) {
		var c struct {
			Chain *Chain `json:"kmsfs"`
		}
		if json.Unmarshal(line, &c) != nil || c.Chain == nil {
			panic("no chain")
		}
		body := line[:bytes.LastIndex(line, []byte(`,"kmsfs":`))]
		start := len(out)
		out = append(out, body...)
		out = at.appendTo(out, start)
	}
	return out
}

func TestVerifyFindsForgeries(t *testing.T) {
	dir := t.TempDir()
	l := open(t, fixed(Options{Dir: dir, CheckpointEvery: 3}))
	for i := range 8 { // checkpoints at 1, 5, 9; 10 and 11 are not signed
		mustAppend(t, l, named(fmt.Sprint(i)))
	}
	crash(t, l)
	name := segmentName(1)
	f := readDir(t, dir)
	whole := f[name]
	ls := lines(whole)
	key := publicOf(testKey(1))
	edit := func(i int) []byte {
		e := slices.Clone(ls)
		e[i] = bytes.Replace(e[i], []byte(`"requestID":"`), []byte(`"requestID":"x`), 1)
		return rehash(bytes.Join(e, nil), genesis(key))
	}
	check := func(b []byte) *Report {
		t.Helper()
		f[name] = b
		f.write(t, dir)
		return verify(t, dir, VerifyOptions{PublicKey: key})
	}
	for i := range ls {
		if IsCheckpoint(ls[i]) {
			continue
		}
		r := check(edit(i))
		if i < 9 {
			// Found at the next checkpoint: what it signs is not what is there.
			if r.Fault == nil || r.Fault.Kind != FaultForged || r.Fault.Place.Sequence != []uint64{5, 9}[(i-1)/4] {
				t.Errorf("record %d changed and all hashed anew: %v", i+1, r.Fault)
			}
			continue
		}
		// The documented limit.
		if r.Fault != nil || r.Unsigned != 2 || !slices.ContainsFunc(r.Caveats(), func(c string) bool {
			return strings.Contains(c, "2 records follow the last checkpoint")
		}) {
			t.Errorf("record %d changed and all hashed anew: %v, %q", i+1, r.Fault, r.Caveats())
		}
	}

	// Another key signs everything, and lays its own public key beside it.
	other := t.TempDir()
	l = open(t, fixed(Options{Dir: other, Signer: testKey(2), CheckpointEvery: 3}))
	for i := range 8 {
		mustAppend(t, l, named(fmt.Sprint(i)))
	}
	closeLog(t, l)
	if r := verify(t, other, VerifyOptions{PublicKey: key}); r.Fault == nil || r.Fault.Place.Sequence != 1 {
		t.Errorf("a log by another key: %v", r.Fault)
	}
	r := mustVerify(t, other, VerifyOptions{})
	if r.KeyID == keyID(key) || !r.KeyFromLog || !strings.Contains(strings.Join(r.Caveats(), "\n"), r.KeyID.String()) {
		t.Errorf("a log by another key: %+v", r)
	}

	// One checkpoint by another key, or none where one was.
	s, err := newSigner(testKey(2))
	if err != nil {
		t.Fatal(err)
	}
	at := genesis(key)
	for _, line := range ls[:4] {
		at.follow(line)
	}
	forged, err := s.append(bytes.Join(ls[:4], nil), &at, reasonPeriodic, l.opts.Clock(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if r := check(slices.Concat(forged, rehash(bytes.Join(ls[5:], nil), at))); r.Fault == nil || r.Fault.Kind != FaultForged || r.Fault.Place.Sequence != 5 || !strings.Contains(r.Fault.Reason, "another key") {
		t.Errorf("a checkpoint by another key: %v", r.Fault)
	}
}

func TestAnchor(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	mustAppend(t, l, named("a"))
	closeLog(t, l)
	old := readDir(t, dir)
	anchorOld := mustVerify(t, dir, VerifyOptions{}).LastCheckpoint.Line

	l = open(t, Options{Dir: dir})
	mustAppend(t, l, named("b"))
	closeLog(t, l)
	anchor := mustVerify(t, dir, VerifyOptions{}).LastCheckpoint.Line
	for _, a := range [][]byte{anchor, anchorOld, bytes.TrimSpace(anchor), []byte("\n " + string(anchor) + "\n\n")} {
		if r := mustVerify(t, dir, VerifyOptions{Anchor: a}); !r.AnchorFound || len(r.Caveats()) != 0 {
			t.Errorf("anchor: %+v, %q", r, r.Caveats())
		}
	}

	// The whole directory is put back: nothing in it is wrong.
	old.write(t, dir)
	if r := mustVerify(t, dir, VerifyOptions{}); !strings.Contains(strings.Join(r.Caveats(), "\n"), "--anchor") {
		t.Errorf("caveats: %q", r.Caveats())
	}
	if r := verify(t, dir, VerifyOptions{Anchor: anchor}); r.Fault == nil || r.Fault.Kind != FaultTruncated || !strings.Contains(r.Fault.Reason, "the anchor is record 6") {
		t.Errorf("rolled back: %v", r.Fault)
	}
	// And goes on from there, beyond the anchor.
	l = open(t, Options{Dir: dir})
	for range 5 {
		mustAppend(t, l, named("c"))
	}
	closeLog(t, l)
	mustVerify(t, dir, VerifyOptions{})
	if r := verify(t, dir, VerifyOptions{Anchor: anchor}); r.Fault == nil || r.Fault.Kind != FaultReplaced || r.Fault.Place.Sequence != 6 {
		t.Errorf("rolled back and on: %v", r.Fault)
	}

	other := t.TempDir()
	closeLog(t, open(t, Options{Dir: other, Signer: testKey(2)}))
	foreign := mustVerify(t, other, VerifyOptions{}).LastCheckpoint.Line
	for _, a := range [][]byte{{}, []byte("{}"), foreign, lines(old[segmentName(1)])[1], anchor[1:], bytes.Replace(anchor, []byte("close"), []byte("open"), 1)} {
		if _, err := Verify(dir, VerifyOptions{Anchor: a}); !errors.Is(err, ErrAnchor) {
			t.Errorf("anchor %.60s: %v", a, err)
		}
	}
}
