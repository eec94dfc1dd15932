package format

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/names"
)

// Records do not open in another place, as another kind, or in another form.
func TestRecordsOutOfPlace(t *testing.T) {
	s := testSealer(t)
	dir := s.SealDir(&testDirs[2])
	settled := s.SealSettled(id(1), &SettledRecord{1, 2})
	name, err := s.SealName(id(1), tag(2), &testNames[0])
	if err != nil {
		t.Fatal(err)
	}
	link, err := s.SealSymlink(&Symlink{id(1), id(2), tag(3), "target"})
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.SealXattrs(id(1), testXattrs()[2])
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = s.OpenSettled(id(2), settled)
	refuse("another root's settled record", err)
	_, err = s.OpenName(id(2), tag(2), name)
	refuse("another directory's name record", err)
	_, err = s.OpenName(id(1), tag(3), name)
	refuse("another name's record", err)
	_, err = s.OpenXattrs(id(2), x)
	refuse("another object's attributes", err)
	move := s.SealMove(id(1), &testMoves[2])
	_, err = s.OpenMove(id(2), move)
	refuse("another object's move", err)

	opens := map[string]func(target string) error{
		"directory": func(t string) error { _, err := s.OpenDir(t); return err },
		"settled":   func(t string) error { _, err := s.OpenSettled(id(1), t); return err },
		"name":      func(t string) error { _, err := s.OpenName(id(1), tag(2), t); return err },
		"symlink":   func(t string) error { _, err := s.OpenSymlink(t); return err },
		"attributes": func(t string) error {
			_, err := s.OpenXattrs(id(1), []byte(t))
			return err
		},
		"move": func(t string) error { _, err := s.OpenMove(id(1), []byte(t)); return err },
	}
	for kind, target := range map[string]string{"directory": dir, "settled": settled, "name": name, "symlink": link} {
		for as, open := range opens {
			if err := open(target); (err == nil) != (as == kind) {
				t.Errorf("%s record as %s: %v", kind, as, err)
			}
		}
		open := opens[kind]
		for i := range len(target) {
			for _, c := range []byte{'A', 'B', '\n', '=', '+', 0} {
				if c != target[i] {
					refuse("a character changed", open(target[:i]+string(c)+target[i+1:]))
				}
				refuse("a character inserted", open(target[:i]+string(c)+target[i:]))
			}
			refuse("cut short", open(target[:i]))
		}
		for _, tail := range []string{"\n", "\r", "=", "==", "A", "AA", "AAAA", strings.Repeat("A", 8192)} {
			refuse("a tail", open(target+tail))
		}
	}
	raw := map[string][]byte{"attributes": x, "move": move}
	for kind, sealed := range raw {
		for as, open := range opens {
			if as != kind {
				refuse(kind+" as "+as, open(string(sealed)))
				refuse(kind+" as "+as, open(encoding.EncodeToString(sealed)))
			}
		}
		open := opens[kind]
		for i := range sealed {
			sealed[i] ^= 1
			refuse(kind+" changed", open(string(sealed)))
			sealed[i] ^= 1
			refuse(kind+" cut short", open(string(sealed[:i])))
		}
		refuse(kind+" with a tail", open(string(sealed)+"\x00"))
		refuse(kind+" with a long tail", open(string(sealed)+strings.Repeat("\x00", 1<<16)))
		if err := open(string(sealed)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestRecordsRefused(t *testing.T) {
	s := testSealer(t)
	file := NameEntry{ID: id(1), Kind: KindFile}
	for what, change := range map[string]func(e *NameEntry){
		"kind 0":                func(e *NameEntry) { e.Kind = 0 },
		"kind 5":                func(e *NameEntry) { e.Kind = 5 },
		"key of a directory":    func(e *NameEntry) { e.Kind, e.Wrapped = KindDir, seq(0, 48) },
		"path of a symlink":     func(e *NameEntry) { e.Kind, e.Path = KindSymlink, "/p" },
		"path without a key":    func(e *NameEntry) { e.Path = "/p" },
		"long key":              func(e *NameEntry) { e.Wrapped = seq(0, 257) },
		"long path":             func(e *NameEntry) { e.Wrapped, e.Path = seq(0, 1), strings.Repeat("p", 1025) },
		"mode of a file":        func(e *NameEntry) { e.Mode = unix.S_IFIFO },
		"regular mode":          func(e *NameEntry) { e.Mode = unix.S_IFREG },
		"special without mode":  func(e *NameEntry) { e.Kind = KindSpecial },
		"special directory":     func(e *NameEntry) { e.Kind, e.Mode = KindSpecial, unix.S_IFDIR },
		"permission bits":       func(e *NameEntry) { e.Kind, e.Mode = KindSpecial, unix.S_IFIFO|0o644 },
		"device number of FIFO": func(e *NameEntry) { e.Kind, e.Mode, e.Rdev = KindSpecial, unix.S_IFIFO, 1 },
		"device number of file": func(e *NameEntry) { e.Rdev = 1 },
	} {
		e := file
		change(&e)
		if _, err := s.SealName(id(1), tag(2), &NameRecord{[]NameEntry{file, e}}); err == nil {
			t.Errorf("%s is sealed", what)
		}
	}
	for _, n := range []int{0, 3, 256, 257} {
		if _, err := s.SealName(id(1), tag(2), &NameRecord{make([]NameEntry, n)}); err == nil {
			t.Errorf("%d entries are sealed", n)
		}
	}
	for target, want := range map[string]error{
		"":                                   nil,
		"a\x00b":                             nil,
		strings.Repeat("s", MaxSymlink+1):    ErrTooLarge,
		strings.Repeat("s", 4095):            ErrTooLarge,
		strings.Repeat("\x00", 2*MaxSymlink): ErrTooLarge,
	} {
		if _, err := s.SealSymlink(&Symlink{Target: target}); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("target %.10q of %d bytes: %v", target, len(target), err)
		}
	}
	for what, x := range map[string]XattrSet{
		"unsorted":  {{"user.b", nil}, {"user.a", nil}},
		"twice":     {{"user.a", nil}, {"user.a", nil}},
		"no name":   {{"", nil}},
		"NUL":       {{"user.\x00", nil}},
		"long name": {{strings.Repeat("n", 256), nil}},
		"too large": {{"user.a", make([]byte, maxXattrSet-16-2-6-4+1)}},
	} {
		if _, err := s.SealXattrs(id(1), x); err == nil || (what == "too large") != errors.Is(err, ErrTooLarge) {
			t.Errorf("attributes, %s: %v", what, err)
		}
	}
	for what, seal := range map[string]func(){
		"settled after next":         func() { s.SealSettled(id(1), &SettledRecord{2, 1}) },
		"a directory with a long ID": func() { s.SealDir(&DirRecord{ID: id(1)}) },
		"a 13th byte of ID":          func() { s.SealDir(&DirRecord{ID: names.ID{12: 1}}) },
		"a 16th byte of ID":          func() { s.SealDir(&DirRecord{ID: names.ID{15: 1}}) },
		"a large counter":            func() { s.SealDir(&DirRecord{Counter: MaxDirCounter + 1}) },
		"a move to nowhere":          func() { s.SealMove(id(1), &MoveRecord{}) },
		"a move to three places":     func() { s.SealMove(id(1), &MoveRecord{Tags: make([]names.Tag, 3)}) },
		"a move to 257 places":       func() { s.SealMove(id(1), &MoveRecord{Tags: make([]names.Tag, 257)}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is sealed", what)
				}
			}()
			seal()
		}()
	}
}

// The lengths for which the format has what it has: 59 characters of a symlink
// and 64 bytes of user.kmsfs.mv fit an inode of ext4.
func TestRecordsFitInodes(t *testing.T) {
	s := testSealer(t)
	for _, d := range testDirs {
		if n := len(s.SealDir(&d)); n != 59 {
			t.Errorf("%+v is sealed to %d characters", d, n)
		}
	}
	for n, want := range map[int]int{1: 41, 2: 57} {
		if got := len(s.SealMove(id(1), &MoveRecord{Tags: make([]names.Tag, n)})); got != want {
			t.Errorf("a move record of %d places has %d bytes, want %d", n, got, want)
		}
	}
	if len(MoveXattr) > len("user.kmsfs.mv") {
		t.Error("the attribute's name takes room from its value")
	}
}

func TestDirPlace(t *testing.T) {
	s := testSealer(t)
	root, err := s.OpenDir(s.SealDir(&DirRecord{ID: names.NewDirID()}))
	if err != nil || !root.IsRoot() || root.At(tag(3)) {
		t.Errorf("root: %+v: %v", root, err)
	}
	whole := &DirRecord{ID: names.NewDirID(), Tag: tag(3)}
	d, err := s.OpenDir(s.SealDir(whole))
	if err != nil || d.ID != whole.ID || d.Tag != dirTag(3) {
		t.Fatalf("%+v is opened as %+v: %v", whole, d, err)
	}
	for _, d := range []*DirRecord{d, whole} {
		if d.IsRoot() {
			t.Errorf("%+v is a root", d)
		}
		for i := range len(names.Tag{}) {
			other := tag(3)
			if !d.At(other) {
				t.Errorf("%+v is elsewhere", d)
			}
			other[i] ^= 0x80
			if d.At(other) != (i >= 12) {
				t.Errorf("byte %d of the tag changed: At is %v", i, d.At(other))
			}
		}
	}
}

func TestMoveAllows(t *testing.T) {
	m := &MoveRecord{Tags: []names.Tag{tag(1), tag(2)}}
	if !m.Allows(tag(1)) || !m.Allows(tag(2)) || m.Allows(tag(3)) || m.Allows(names.Tag{}) {
		t.Error("Allows is wrong")
	}
	other := tag(1)
	other[15] ^= 1 // all 16 bytes count
	if m.Allows(other) || (&MoveRecord{Tags: m.Tags[1:]}).Allows(tag(1)) {
		t.Error("Allows is wrong")
	}
}

// Moves with a right tag and a form that no writer writes, as a holder of the
// key can make.
func TestMovesNoWriterWrites(t *testing.T) {
	s := testSealer(t)
	object := id(1)
	record := func(count byte, tags int) []byte {
		return append(append(make([]byte, 8), count), make([]byte, 16*tags)...)
	}
	for what, raw := range map[string][]byte{
		"nothing":           nil,
		"half a counter":    make([]byte, 4),
		"a counter":         make([]byte, 8),
		"no places":         record(0, 0),
		"no places and one": record(0, 1),
		"one missing":       record(1, 0),
		"one and a byte":    append(record(1, 1), 0),
		"one short":         record(1, 1)[:24],
		"one of two":        record(2, 1),
		"two of one":        record(1, 2),
		"two and a byte":    append(record(2, 2), 0),
		"three":             record(3, 3),
		"three, as two":     record(2, 3),
		"255":               record(255, 2),
		"255, complete":     record(255, 255),
	} {
		if m, err := s.OpenMove(object, s.records.Seal(ad(adMove, object[:]), raw)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
	}
}

func TestSymlinkLength(t *testing.T) {
	s := testSealer(t)
	lengths := make(map[int]int)
	for n := 1; n <= MaxSymlink; n++ {
		target, err := s.SealSymlink(&Symlink{Target: strings.Repeat("s", n)})
		if err != nil {
			t.Fatal(err)
		}
		lengths[len(target)] = n
	}
	for backing := -1; backing < 5000; backing++ {
		want, wantOK := lengths[backing]
		if n, ok := SymlinkLength(backing); ok != wantOK || ok && n != want {
			t.Fatalf("backing length %d: %d, %v; want %d, %v", backing, n, ok, want, wantOK)
		}
	}
}

func TestXattrSet(t *testing.T) {
	var x XattrSet
	for _, name := range []string{"user.b", "user.a", "user.c", "user.b"} {
		before := len(x)
		y := x.With(name, []byte(name+"!"))
		if len(x) != before {
			t.Error("With changes its receiver")
		}
		x = y
	}
	if err := x.check(); err != nil || len(x) != 3 {
		t.Fatalf("%v: %v", x, err)
	}
	if v, ok := x.Get("user.b"); !ok || string(v) != "user.b!" {
		t.Errorf("Get: %q, %v", v, ok)
	}
	if _, ok := x.Get("user.d"); ok {
		t.Error("Get finds what is not there")
	}
	y := x.Without("user.b")
	if _, ok := y.Get("user.b"); ok || len(y) != 2 || len(x) != 3 {
		t.Errorf("Without: %v of %v", y, x)
	}
	if len(y.Without("user.b")) != 2 || y.check() != nil {
		t.Error("Without removes what is not there")
	}
}

func BenchmarkRecords(b *testing.B) {
	s := testSealer(b)
	target, move := s.SealDir(&testDirs[2]), s.SealMove(id(1), &testMoves[2])
	for name, f := range map[string]func() error{
		"SealDir":  func() error { s.SealDir(&testDirs[2]); return nil },
		"OpenDir":  func() error { _, err := s.OpenDir(target); return err },
		"SealMove": func() error { s.SealMove(id(1), &testMoves[2]); return nil },
		"OpenMove": func() error { _, err := s.OpenMove(id(1), move); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
