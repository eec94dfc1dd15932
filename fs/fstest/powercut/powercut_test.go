package powercut

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const reg = unix.S_IFREG | 0o644

func fill(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n) }

// outcomes makes many states at every choice and returns which contents of
// the one named file came out: -1 absent, otherwise as described by see.
func outcomes(t *testing.T, events []Event, name string, see func([]byte) string) map[string]bool {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	for i := range 400 {
		s := New(events, len(events), Choice(i%numberOfChoices), rng)
		dir := filepath.Join(t.TempDir(), "d")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := s.Write(dir); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			seen["absent"] = true
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[see(b)] = true
	}
	return seen
}

// first and last byte of each page, and the size: enough to tell versions.
func letters(b []byte) string {
	var s []byte
	for off := 0; off < len(b); off += pageSize {
		c := b[off]
		if c == 0 {
			c = '0'
		}
		s = append(s, c)
	}
	return string(s)
}

func want(t *testing.T, seen map[string]bool, allowed ...string) {
	t.Helper()
	for _, a := range allowed {
		if !seen[a] {
			t.Errorf("%q never came out", a)
		}
		delete(seen, a)
	}
	for s := range seen {
		t.Errorf("%q came out", s)
	}
}

func TestAppendIsAnySubset(t *testing.T) {
	events := []Event{
		{Kind: Create, ID: 2, Parent: RootID, Name: "f", Mode: reg},
		{Kind: Write, ID: 2, Data: fill('a', pageSize)},
		{Kind: DataSync, ID: 2, Began: 2},
		{Kind: Write, ID: 2, Off: pageSize, Data: fill('b', pageSize)},
		{Kind: Write, ID: 2, Off: 0, Data: fill('c', pageSize)},
	}
	want(t, outcomes(t, events, "f", letters), "a", "c", "a0", "c0", "ab", "cb")
}

func TestTruncateIsOrdered(t *testing.T) {
	events := []Event{
		{Kind: Create, ID: 2, Parent: RootID, Name: "f", Mode: reg},
		{Kind: Write, ID: 2, Data: fill('a', 2*pageSize)},
		{Kind: FileSync, ID: 2, Began: 2},
		{Kind: Truncate, ID: 2, Size: pageSize},
		{Kind: Create, ID: 3, Parent: RootID, Name: "g", Mode: reg},
		{Kind: Write, ID: 2, Off: pageSize, Data: fill('b', pageSize)},
	}
	// After the truncate old pages never come back; before it new ones are not there.
	want(t, outcomes(t, events, "f", letters), "aa", "a", "a0", "ab")
	// g was created after the truncate: with g, the truncate is there.
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		s := New(events, len(events), AtRandom, rng)
		if _, ok := s.inodes[3]; ok && s.Ordered < 4 {
			t.Fatal("names out of order")
		}
	}
}

func TestDataSyncDoesNotCoverLaterRename(t *testing.T) {
	events := []Event{
		{Kind: Create, ID: 2, Parent: RootID, Name: "tmp", Mode: reg},
		{Kind: Write, ID: 2, Data: fill('a', 10)},
		{Kind: Rename, Parent: RootID, Name: "tmp", Parent2: RootID, Name2: "f"},
		{Kind: DataSync, ID: 2, Began: 3},
	}
	want(t, outcomes(t, events, "f", letters), "absent", "a")
	events[3].Kind = FileSync
	want(t, outcomes(t, events, "f", letters), "a")
}

func TestPunch(t *testing.T) {
	events := []Event{
		{Kind: Create, ID: 2, Parent: RootID, Name: "f", Mode: reg},
		{Kind: Write, ID: 2, Data: fill('a', 2*pageSize)},
		{Kind: SyncAll, Began: 2},
		{Kind: Punch, ID: 2, Off: 0, Size: pageSize},
		{Kind: Write, ID: 2, Off: 0, Data: fill('b', pageSize)},
	}
	want(t, outcomes(t, events, "f", letters), "aa", "0a", "ba")
}

func TestNames(t *testing.T) {
	dirMode := uint32(unix.S_IFDIR | 0o755)
	events := []Event{
		{Kind: Create, ID: 2, Parent: RootID, Name: "d", Mode: dirMode},
		{Kind: Create, ID: 3, Parent: 2, Name: "f", Mode: reg},
		{Kind: Link, ID: 3, Parent: RootID, Name: "f2"},
		{Kind: Create, ID: 4, Parent: RootID, Name: "l", Name2: "target", Mode: unix.S_IFLNK | 0o777},
		{Kind: Rename, Parent: 2, Name: "f", Parent2: RootID, Name2: "l", Flags: unix.RENAME_EXCHANGE},
		{Kind: Unlink, Parent: RootID, Name: "f2"},
		{Kind: Chmod, ID: 3, Mode: 0o600},
		{Kind: SetXattr, ID: 3, Name: "user.x", Data: []byte("v")},
		{Kind: SyncAll, Began: 8},
	}
	dir := t.TempDir()
	if err := New(events, len(events), Nothing, rand.New(rand.NewPCG(1, 1))).Write(dir); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "d/f")); err != nil || target != "target" {
		t.Errorf("d/f: %q, %v", target, err)
	}
	if st, err := os.Lstat(filepath.Join(dir, "l")); err != nil || st.Mode() != 0o600 {
		t.Errorf("l: %v, %v", st, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "f2")); !os.IsNotExist(err) {
		t.Errorf("f2: %v", err)
	}
}
