package format

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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

	opens := map[string]func(target string) error{
		"directory": func(t string) error { _, err := s.OpenDir(t); return err },
		"settled":   func(t string) error { _, err := s.OpenSettled(id(1), t); return err },
		"name":      func(t string) error { _, err := s.OpenName(id(1), tag(2), t); return err },
		"symlink":   func(t string) error { _, err := s.OpenSymlink(t); return err },
		"attributes": func(t string) error {
			_, err := s.OpenXattrs(id(1), []byte(t))
			return err
		},
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
	for i := range x {
		x[i] ^= 1
		_, err = s.OpenXattrs(id(1), x)
		refuse("attributes changed", err)
		x[i] ^= 1
		_, err = s.OpenXattrs(id(1), x[:i])
		refuse("attributes cut short", err)
	}
}

func TestRecordsRefused(t *testing.T) {
	s := testSealer(t)
	file := NameEntry{ID: id(1), Kind: KindFile}
	for what, change := range map[string]func(e *NameEntry){
		"kind 0":                func(e *NameEntry) { e.Kind = 0 },
		"kind 5":                func(e *NameEntry) { e.Kind = 5 },
		"counters":              func(e *NameEntry) { e.CounterMin = 1 },
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
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a settled record with settled after next is sealed")
			}
		}()
		s.SealSettled(id(1), &SettledRecord{2, 1})
	}()
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
