package fs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// fsckReport is what kmsfs fsck --json prints.
type fsckReport struct {
	Summary  fs.Summary
	Findings []fs.Finding
	exit     int
}

// fsck checks the unmounted volume. Nothing may be on standard error, where
// progress would be on a terminal.
func fsck(t *testing.T, v *fstest.Volume, args ...string) *fsckReport {
	t.Helper()
	stdout, stderr, exit := v.Run(append(append([]string{"fsck", "--json"}, args...), v.Cipher)...)
	r := &fsckReport{exit: exit}
	if err := json.Unmarshal([]byte(stdout), r); err != nil || stderr != "" {
		t.Fatalf("fsck: exit %d, %v\n%s%s", exit, err, stdout, stderr)
	}
	return r
}

// below returns the findings at and below a path, as "category stored-name".
func (r *fsckReport) below(path string) []fs.Finding {
	var list []fs.Finding
	for _, f := range r.Findings {
		if f.Path == path || strings.HasPrefix(f.Path, strings.TrimSuffix(path, "/")+"/") {
			list = append(list, f)
		}
	}
	return list
}

func (r *fsckReport) String() string {
	b, _ := json.MarshalIndent(r.Findings, "", " ")
	return fmt.Sprintf("exit %d, %+v\n%s", r.exit, r.Summary, b)
}

// unchanged runs do and fails the test when anything in the ciphertext
// directory is different afterwards: content, attributes or times. The times of
// access that no program can leave alone, those of symlinks, do not count.
func unchanged(t *testing.T, dir string, do func()) {
	t.Helper()
	before := snapshot(t, dir)
	do()
	after := snapshot(t, dir)
	for p, was := range before {
		if is := after[p]; is != was {
			t.Errorf("%s changed\nfrom %s\nto   %s", p, was, is)
		}
		delete(after, p)
	}
	for p := range maps.Keys(after) {
		t.Errorf("%s was made", p)
	}
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		s := fmt.Sprintf("ino %d mode %o owner %d:%d links %d size %d mtime %v ctime %v", st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim, st.Ctim)
		switch d.Type() {
		case os.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			s += " -> " + target
		case 0:
			fd, err := unix.Open(p, unix.O_RDONLY|unix.O_NOATIME, 0)
			if err != nil {
				return err
			}
			h := sha256.New()
			err = dataOf(fd, h)
			unix.Close(fd)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" %x", h.Sum(nil))
			if d.Name() != "kmsfs.conf" {
				s += fmt.Sprintf(" atime %v", st.Atim)
			}
		}
		seen[p] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// dataOf writes all that is stored of an open file to w, but no holes.
func dataOf(fd int, w io.Writer) error {
	buf := make([]byte, 1<<20)
	for pos := int64(0); ; {
		data, err := unix.Seek(fd, pos, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		n, err := unix.Pread(fd, buf[:min(int64(len(buf)), hole-data)], data)
		if err != nil {
			return err
		}
		fmt.Fprintln(w, data)
		w.Write(buf[:n])
		pos = data + int64(n)
	}
}

// everyKind makes one of each kind of object, in the ways that their ciphertext
// differs, and tells how many of which there are.
func everyKind(t *testing.T, v *fstest.Volume) (want fs.Summary) {
	t.Helper()
	p := func(name string) string { return filepath.Join(v.Mnt, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want.Directories = 1
	file := func(name string, size int) {
		t.Helper()
		must(os.WriteFile(p(name), content(filepath.Base(name), size), 0o640))
		want.Files++
		want.Bytes += int64(size)
	}
	dir := func(name string) {
		t.Helper()
		must(os.Mkdir(p(name), 0o755))
		want.Directories++
	}
	long := strings.Repeat("long", 60)
	dir("d")
	dir("d/" + long)
	dir("d/moved")
	must(os.Rename(p("d/moved"), p("d/"+long+"/here")))
	for _, size := range []int{0, 1, 3551, 3552, 3553, 3552 + 4064, 3552 + 4064 + 1, 3 << 20} {
		file(fmt.Sprintf("d/f%d", size), size)
	}
	file("d/"+long+"/"+long[1:], 10)
	file("d/moves", 5000)
	must(os.Rename(p("d/moves"), p("d/"+long+"/here/moved")))
	file("linked", 5000)
	must(os.Link(p("linked"), p("d/further name")))
	must(os.Link(p("linked"), p("d/"+long+"/further name")))
	must(os.Rename(p("d/further name"), p("d/another name")))
	file("read-only", 1)
	must(os.Chmod(p("read-only"), 0o400))
	must(unix.Setxattr(p("linked"), "user.x", []byte("y"), 0))
	must(unix.Setxattr(p("d"), "user.x", []byte("y"), 0))

	sparse, err := os.Create(p("sparse"))
	must(err)
	_, err = sparse.WriteAt([]byte("end"), 1<<30)
	must(err)
	_, err = sparse.WriteAt([]byte("middle"), 1<<29)
	must(err)
	must(sparse.Close())
	want.Files++
	want.Bytes += 1<<30 + 3

	must(os.Symlink("target", p("d/link")))
	must(os.Rename(p("d/link"), p("link")))
	must(os.Symlink(strings.Repeat("t", 3000), p("d/"+long+"/link")))
	want.Symlinks = 2
	must(unix.Mkfifo(p("d/fifo"), 0o600))
	want.Specials = 1
	if os.Getuid() == 0 {
		must(unix.Mknod(p("d/null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		must(os.Link(p("d/null"), p("null")))
		want.Specials += 2
	}
	return want
}

func TestFsckClean(t *testing.T) {
	for _, args := range [][]string{
		nil, {"--keys", "volume"}, {"--context", "opaque"}, {"--context", "volume"}, {"--algorithm", "xchacha20-poly1305"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			v := fstest.New(t, fstest.InitArgs(args...))
			want := everyKind(t, v)
			v.Unmount()
			unchanged(t, v.Cipher, func() {
				r := fsck(t, v)
				want.Volume = r.Summary.Volume
				if r.exit != 0 || r.Summary != want || len(r.Findings) != 0 {
					t.Errorf("a clean volume, want %+v, but: %v", want, r)
				}
			})
			if r := fsck(t, v, "--repair"); r.exit != 0 || len(r.Findings) != 0 {
				t.Errorf("--repair of a clean volume: %v", r)
			}
			out, stderr, exit := v.Run("fsck", v.Cipher)
			if lines := strings.Count(out, "\n"); exit != 0 || lines != 1 || stderr != "" || !strings.Contains(out, "no damage") {
				t.Errorf("exit %d, %q, %q", exit, out, stderr)
			}
			if out, stderr, exit := v.Run("fsck", "--quiet", v.Cipher); exit != 0 || out+stderr != "" {
				t.Errorf("--quiet: exit %d, %q, %q", exit, out, stderr)
			}
			v.Mount()
			v.Unmount()
		})
	}
}

// fsckCase is one state that somebody or a crash leaves in the ciphertext of a
// directory of its own, and what the check says of it.
type fsckCase struct {
	name     string
	prepare  func(s *scene)
	change   func(s *scene)
	findings []string // "category name", sorted; the name is "" for the directory
	repairs  bool     // --repair leaves nothing to say
	after    func(s *scene)
}

// recordOf is where the name record of a name is.
func recordOf(path string) string {
	return filepath.Join(filepath.Dir(path), "kmsfs.ln."+strings.TrimPrefix(filepath.Base(path), "kmsfs."))
}

func fsckCases() []fsckCase {
	long := strings.Repeat("x", 200)
	still := func(names ...string) func(s *scene) { // what is damaged is not removed
		return func(s *scene) {
			for _, name := range names {
				if _, err := os.Lstat(s.cipher(name)); err != nil {
					s.t.Errorf("after --repair: %v", err)
				}
			}
		}
	}
	onFile := func(name string, change func(s *scene, path string)) fsckCase {
		return fsckCase{
			name:     name,
			prepare:  func(s *scene) { s.write("victim", "bystander") },
			change:   func(s *scene) { change(s, s.cipher("victim")) },
			findings: []string{"damage victim"},
			after:    func(s *scene) { still("victim")(s) },
		}
	}
	resize := func(name string, by int64) fsckCase {
		c := onFile(name, func(s *scene, p string) {
			st, err := os.Stat(p)
			s.must(err)
			s.must(os.Truncate(p, st.Size()+by))
		})
		c.findings, c.repairs = []string{"wrong-size victim"}, true
		c.after = func(s *scene) { s.intact("victim", "bystander") }
		return c
	}
	return []fsckCase{
		{name: "nothing", prepare: func(s *scene) { s.write("a", "b"); symlinks(s) }, change: func(*scene) {}, repairs: true},
		onFile("a bit", func(s *scene, p string) { s.flip("victim", 2*cipherPage+17) }),
		onFile("a bit of the first page", func(s *scene, p string) { s.flip("victim", headerSize+17) }),
		onFile("a bit of the final page", func(s *scene, p string) { s.flip("victim", 3*cipherPage+17) }),
		onFile("a bit of the header", func(s *scene, p string) { s.flip("victim", headerFileID) }),
		onFile("a zeroed page", func(s *scene, p string) { s.patch(p, cipherPage, make([]byte, cipherPage)) }),
		onFile("a zeroed header", func(s *scene, p string) { s.patch(p, 0, make([]byte, headerSize)) }),
		onFile("cut off at a page", func(s *scene, p string) { s.must(os.Truncate(p, 2*cipherPage)) }),
		onFile("cut off in the first page", func(s *scene, p string) { s.must(os.Truncate(p, 100)) }),
		onFile("a page behind the final one", func(s *scene, p string) {
			s.patch(p, 4*cipherPage, s.bytesAt(p, cipherPage, cipherPage))
		}),
		onFile("a FIFO for a file", func(s *scene, p string) { s.must(os.Remove(p)); s.must(unix.Mkfifo(p, 0o600)) }),
		resize("a size too small", -1),
		resize("a size too large", 7),
		resize("a size without a tail", -100),
		{
			name:     "bytes behind the final page",
			prepare:  func(s *scene) { s.write("victim") },
			change:   func(s *scene) { s.patch(s.cipher("victim"), 4*cipherPage+10, []byte("x")) },
			findings: []string{"wrong-size victim"}, repairs: true,
			after: func(s *scene) {
				s.intact("victim")
				if b := s.bytesAt(s.cipher("victim"), 4*cipherPage, 11); !bytes.Equal(b, make([]byte, 11)) {
					s.t.Errorf("%q is still there", b)
				}
			},
		},
		{
			name:     "files swapped",
			prepare:  func(s *scene) { s.write("a", "b") },
			change:   func(s *scene) { s.swap(s.cipher("a"), s.cipher("b")) },
			findings: []string{"damage a", "damage b"}, after: still("a", "b"),
		},
		{
			name: "an old file put back beside its renamed self",
			prepare: func(s *scene) {
				s.write("a")
				path := s.v.BackingPath(s.t, filepath.Join(s.dir, "a"))
				s.saved["path"] = []byte(path)
				s.saved["old"], _ = os.ReadFile(path)
				s.must(os.Rename(s.plain("a"), s.plain("b")))
			},
			change: func(s *scene) { s.must(os.WriteFile(string(s.saved["path"]), s.saved["old"], 0o600)) },
			// Which of the two is the copy, only their user can tell.
			findings: []string{"damage ?"},
			after:    func(s *scene) { s.must(os.Remove(string(s.saved["path"]))) },
		},
		{
			name:     "never written",
			prepare:  func(s *scene) { s.write("empty", "zero", "sparse", long) },
			findings: []string{"never-written empty", "never-written sparse", "never-written zero", "never-written " + long}, repairs: true,
			change: func(s *scene) {
				for name, size := range map[string]int64{"empty": 0, "zero": 2 * cipherPage, "sparse": 1 << 40, long: 10} {
					s.must(os.Truncate(s.cipher(name), 0))
					s.must(os.Truncate(s.cipher(name), size))
				}
				s.patch(s.cipher("zero"), 0, make([]byte, 2*cipherPage))
			},
			after: func(s *scene) {
				s.onlyLists("")
				s.write("empty", long)
				s.intact("empty", long)
			},
		},
		{
			name:     "first page never written",
			prepare:  func(s *scene) { s.write("victim") },
			change:   func(s *scene) { s.patch(s.cipher("victim"), 0, make([]byte, cipherPage)) },
			findings: []string{"never-written victim"},
			after:    func(s *scene) { still("victim")(s); s.must(os.Remove(s.plain("victim"))) },
		},
		{
			name:    "half made",
			prepare: func(s *scene) { s.write("bystander") },
			change: func(s *scene) {
				dir := s.cipher(".")
				s.must(os.Symlink("AAAA", filepath.Join(dir, "kmsfs.new.link")))
				s.must(os.WriteFile(filepath.Join(dir, "kmsfs.new.file"), []byte("half"), 0o600))
				for _, sub := range []string{"kmsfs.new.dir", "kmsfs.del.dir"} {
					s.must(os.Mkdir(filepath.Join(dir, sub), 0o700))
					s.must(os.Symlink("AAAA", filepath.Join(dir, sub, "kmsfs.dir")))
				}
			},
			findings: []string{"leftover ", "leftover ", "leftover ", "leftover "}, repairs: true,
			after: func(s *scene) {
				for _, prefix := range []string{"kmsfs.new", "kmsfs.del"} {
					if left := s.entries(s.cipher("."), prefix); len(left) > 0 {
						s.t.Errorf("after --repair: %v", left)
					}
				}
			},
		},
		{
			name: "directories that renames were to replace",
			prepare: func(s *scene) {
				for _, name := range []string{"d", long, "replaced", "old"} {
					s.must(os.Mkdir(s.plain(name), 0o755))
				}
				s.write("d2/f")
			},
			change: func(s *scene) {
				for from, to := range map[string]string{"d": "d", long: long, "old": "replaced"} {
					s.must(os.Rename(s.cipher(from), filepath.Join(s.cipher("."), "kmsfs.old."+filepath.Base(s.cipher(to)))))
				}
			},
			findings: []string{"leftover replaced", "unsettled d", "unsettled " + long}, repairs: true,
			after: func(s *scene) {
				if dirs, err := os.ReadDir(s.plain("")); err != nil || len(dirs) != 4 {
					s.t.Errorf("%v, %v", dirs, err)
				}
				s.must(os.Remove(s.plain("d")))
				s.must(os.Remove(s.plain(long)))
				s.intact("d2/f")
			},
		},
		{
			name:    "hidden under a temporary name",
			prepare: func(s *scene) { s.write("a", "d/f") },
			change: func(s *scene) {
				dir := s.cipher(".")
				s.must(os.Rename(s.cipher("a"), filepath.Join(dir, "kmsfs.new.a")))
				s.must(os.Rename(s.cipher("d"), filepath.Join(dir, "kmsfs.del.d")))
			},
			findings: []string{"damage ", "damage "},
			after: func(s *scene) {
				dir := s.cipher(".")
				s.must(os.Rename(filepath.Join(dir, "kmsfs.new.a"), s.cipher("a")))
				s.must(os.Rename(filepath.Join(dir, "kmsfs.del.d"), s.cipher("d")))
				s.intact("a", "d/f")
			},
		},
		{
			name: "records of names that are gone",
			prepare: func(s *scene) {
				for _, name := range []string{"a", "b", long} {
					s.must(unix.Mkfifo(s.plain(name), 0o600))
				}
				path := recordOf(s.v.BackingPath(s.t, filepath.Join(s.dir, "b")))
				s.saved["path"], s.saved["record"] = []byte(path), []byte(s.readlink(path))
				s.must(os.Remove(s.plain("b")))
				s.write("b")
			},
			change: func(s *scene) {
				s.must(os.Remove(s.cipher("a")))
				s.must(os.Remove(s.cipher(long)))
				s.relink(string(s.saved["path"]), string(s.saved["record"]))
			},
			findings: []string{"leftover a", "leftover b", "leftover " + long}, repairs: true,
			after: func(s *scene) {
				s.intact("b")
				if left := s.entries(s.cipher("."), "kmsfs."); len(left) != 1 {
					s.t.Errorf("after --repair: %v", left)
				}
			},
		},
		{
			name:    "a long name without its record",
			prepare: func(s *scene) { s.write(long, "bystander") },
			change:  func(s *scene) { s.must(os.Remove(sidecar(s.cipher(long)))) },
			// Only a path in the header tells the name.
			findings: []string{"damage ?" + long},
			after:    func(s *scene) { s.intact(long, "bystander") },
		},
		{
			name:    "another's long name",
			prepare: func(s *scene) { s.write(long+"1", long+"2") },
			change: func(s *scene) {
				s.must(os.Remove(sidecar(s.cipher(long + "1"))))
				s.must(os.Symlink(s.readlink(sidecar(s.cipher(long+"2"))), sidecar(s.cipher(long+"1"))))
			},
			findings: []string{"damage "}, after: still(long+"1", long+"2"),
		},
		{
			name:    "foreign",
			prepare: func(s *scene) { s.write("bystander") },
			change: func(s *scene) {
				dir := s.cipher(".")
				s.must(os.WriteFile(filepath.Join(dir, "notes\x1b[31m.txt"), []byte("x"), 0o600))
				s.must(os.WriteFile(filepath.Join(dir, "kmsfs.conf"), []byte("x"), 0o600))
				s.must(os.Mkdir(filepath.Join(dir, "kmsfs.other"), 0o700))
				s.must(os.Symlink("x", filepath.Join(dir, "kmsfs.ln.kmsfs.dir")))
				s.must(os.Symlink("x", filepath.Join(dir, "kmsfs.name.x")))
				s.must(os.Symlink("x", recordOf(s.cipher("bystander"))))
			},
			findings: []string{"damage ", "damage ", "damage ", "damage ", "damage ", "damage bystander"},
			after: func(s *scene) {
				s.intact("bystander")
				if n := len(s.entries(s.cipher("."), "")); n != 8 {
					s.t.Errorf("%d entries after --repair", n)
				}
			},
		},
		{
			name:     "symlinks swapped",
			prepare:  symlinks,
			change:   func(s *scene) { s.swap(s.cipher("l1"), s.cipher("l2")) },
			findings: []string{"damage l1", "damage l2"}, after: still("l1", "l2"),
		},
		{
			name: "special files",
			prepare: func(s *scene) {
				s.must(unix.Mkfifo(s.plain("a"), 0o600))
				s.must(unix.Mkfifo(s.plain("b"), 0o600))
				s.must(unix.Mkfifo(s.plain("c"), 0o600))
			},
			change: func(s *scene) {
				s.must(os.Remove(recordOf(s.cipher("a"))))
				s.must(os.Remove(s.cipher("b")))
				s.must(unix.Mknod(s.cipher("b"), unix.S_IFSOCK|0o600, 0))
			},
			findings: []string{"damage a", "damage b"}, after: still("a", "b", "c"),
		},
		{
			name:     "a directory without its record",
			prepare:  func(s *scene) { s.write("d/f", "bystander") },
			change:   func(s *scene) { s.must(os.Remove(filepath.Join(s.cipher("d"), "kmsfs.dir"))) },
			findings: []string{"damage d"}, after: still("d", "d/f"),
		},
		{
			name:     "directories swapped",
			prepare:  func(s *scene) { s.write("d/f", "e/f") },
			change:   func(s *scene) { s.swap(s.cipher("d"), s.cipher("e")) },
			findings: []string{"damage d", "damage e"}, after: still("d", "e"),
		},
		{
			name:    "extended attributes added",
			prepare: func(s *scene) { s.write("a", "b"); s.must(os.Mkdir(s.plain("d"), 0o755)); s.setXattr("b") },
			change: func(s *scene) {
				s.must(unix.Lsetxattr(s.cipher("a"), "user.kmsfs", s.rawXattr("b"), 0))
				s.must(unix.Lsetxattr(s.cipher("d"), "user.kmsfs", s.rawXattr("b"), 0))
			},
			findings: []string{"leftover a", "leftover d"}, repairs: true,
			after: func(s *scene) { s.intact("a", "b"); s.xattr("b") },
		},
		{
			name:     "extended attributes dropped",
			prepare:  func(s *scene) { xattrFiles(s); s.must(os.Mkdir(s.plain("d"), 0o755)); s.setXattr("d") },
			findings: []string{"damage a", "damage b", "damage d"},
			change: func(s *scene) {
				s.must(unix.Lremovexattr(s.cipher("a"), "user.kmsfs"))
				s.must(unix.Lsetxattr(s.cipher("b"), "user.kmsfs", s.rawXattr("c"), 0))
				s.must(unix.Lremovexattr(s.cipher("d"), "user.kmsfs"))
			},
		},
	}
}

func TestFsckFindings(t *testing.T) {
	for _, keys := range []string{"path", "volume"} {
		t.Run("keys="+keys, func(t *testing.T) { fsckFindings(t, fstest.New(t, fstest.InitArgs("--keys", keys)), keys == "path") })
	}
}

func fsckFindings(t *testing.T, v *fstest.Volume, paths bool) {
	cases := fsckCases()
	scenes := make([]*scene, len(cases))
	for i, c := range cases {
		s := &scene{t: t, v: v, dir: fmt.Sprintf("%02d", i), saved: map[string][]byte{}}
		s.must(os.Mkdir(filepath.Join(v.Mnt, s.dir), 0o755))
		c.prepare(s)
		scenes[i] = s
	}
	v.Remount()
	for _, s := range scenes {
		s.learn()
	}
	v.Unmount()
	for i, c := range cases {
		c.change(scenes[i])
	}
	check := func(r *fsckReport, after bool) {
		for i, c := range cases {
			var got []string
			for _, f := range r.below("/" + scenes[i].dir) {
				name := strings.TrimPrefix(strings.TrimPrefix(f.Path, "/"+scenes[i].dir), "/")
				got = append(got, string(f.Category)+" "+name)
				if f.Reason == "" || f.Advice == "" || f.StoredPath == "" {
					t.Errorf("%s: %+v", c.name, f)
				}
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(c.findings))
			if after && c.repairs {
				want = nil
			}
			for i, w := range want {
				switch {
				case w == "damage ?": // either of two names
					want[i] = got[min(i, max(len(got)-1, 0))]
				case strings.Contains(w, " ?") && !paths:
					want[i], _, _ = strings.Cut(w, "?")
				case strings.Contains(w, " ?") && after:
					want = nil
				default:
					want[i] = strings.Replace(w, "?", "", 1)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, after --repair %t: found %q, want %q", c.name, after, got, want)
			}
		}
		if r.exit != 4 || r.Summary.Damage == 0 {
			t.Errorf("exit %d, want 4", r.exit)
		}
	}
	unchanged(t, v.Cipher, func() {
		r := fsck(t, v)
		check(r, false)
		if r.Summary.Repaired+r.Summary.Failed != 0 {
			t.Errorf("repaired without being told: %v", r)
		}
	})
	r := fsck(t, v, "--repair")
	if r.Summary.Repaired == 0 || r.Summary.Failed != 0 || r.exit != 4 {
		t.Errorf("--repair: %v", r)
	}
	unchanged(t, v.Cipher, func() { check(fsck(t, v), true) })
	out, _, _ := v.Run("fsck", v.Cipher)
	if strings.ContainsRune(out, '\x1b') {
		t.Errorf("a stored name reached the terminal: %q", out)
	}
	v.Mount()
	for i, c := range cases {
		if c.after != nil {
			t.Run("after "+c.name, func(t *testing.T) { scenes[i].t = t; c.after(scenes[i]) })
		}
	}
	v.CheckAlive()
}

func TestFsckMounted(t *testing.T) {
	v := fstest.New(t)
	for _, args := range [][]string{nil, {"--repair"}} {
		out, stderr, exit := v.Run(append(append([]string{"fsck"}, args...), v.Cipher)...)
		if exit != 1 || !strings.Contains(stderr, "unmount it first") {
			t.Errorf("exit %d, %q, %q", exit, out, stderr)
		}
	}
	if _, stderr, exit := v.Run("fsck", v.Mnt); exit != 1 || !strings.Contains(stderr, "not a kmsfs ciphertext directory") {
		t.Errorf("fsck of the mountpoint: exit %d, %q", exit, stderr)
	}
	if _, _, exit := v.Run("fsck"); exit != 2 {
		t.Errorf("fsck without an argument: exit %d", exit)
	}
}

// TestFsckAfterCrash leaves changes unfinished as a crash does.
func TestFsckAfterCrash(t *testing.T) {
	v := fstest.New(t)
	s := &scene{t: t, v: v, saved: map[string][]byte{}}
	s.write("settled", "renamed", "d/f")
	v.Remount()
	s.learn()
	s.write("cut", "lost", "whole")
	s.must(os.Mkdir(s.plain("empty"), 0o755))
	header := s.bytesAt(s.cipher("renamed"), 0, headerSize)
	s.must(os.Rename(s.plain("renamed"), s.plain("moved")))
	s.must(os.Rename(s.plain("d"), s.plain("e")))
	s.learn()
	v.Kill()
	// The header with the new binding and the file's end did not reach the disk.
	s.patch(s.cipher("moved"), 0, header)
	s.must(os.Truncate(s.cipher("cut"), 3*cipherPage))
	s.must(os.Truncate(s.cipher("lost"), 0))

	want := []string{"never-written /lost", "unsettled /", "unsettled /cut", "unsettled /e", "unsettled /moved"}
	list := func(r *fsckReport) (list []string) {
		for _, f := range r.Findings {
			list = append(list, string(f.Category)+" "+f.Path)
		}
		slices.Sort(list)
		return list
	}
	unchanged(t, v.Cipher, func() {
		if r := fsck(t, v); r.exit != 0 || !slices.Equal(list(r), want) {
			t.Errorf("want %q: %v", want, r)
		}
	})
	r := fsck(t, v, "--repair")
	if r.exit != 3 || !slices.Equal(list(r), want) || int(r.Summary.Repaired) != len(want) {
		t.Errorf("--repair: want %q: %v", want, r)
	}
	unchanged(t, v.Cipher, func() {
		if r := fsck(t, v); r.exit != 0 || len(r.Findings) != 0 {
			t.Errorf("after --repair: %v", r)
		}
	})
	v.Mount()
	s.intact("settled", "whole")
	for name, was := range map[string]string{"moved": "renamed", "e/f": "d/f"} {
		if b, err := os.ReadFile(s.plain(name)); err != nil || !bytes.Equal(b, content(was, attackSize)) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if b, err := os.ReadFile(s.plain("cut")); err != nil || !bytes.Equal(b, content("cut", attackSize)[:3552+2*4064]) {
		t.Errorf("cut: %d bytes, %v", len(b), err)
	}
}

// TestFsckDamageAfterCrash: what fsync promised is not given up, and what is
// not a page is damage, crash or not.
func TestFsckDamageAfterCrash(t *testing.T) {
	v := fstest.New(t)
	s := &scene{t: t, v: v}
	s.write("synced", "flipped")
	v.Remount()
	for _, name := range []string{"synced", "flipped"} {
		f, err := os.OpenFile(s.plain(name), os.O_APPEND|os.O_WRONLY, 0)
		s.must(err)
		_, err = f.Write(make([]byte, 20000))
		s.must(err)
		f.Close()
	}
	s.learn()
	v.Kill()
	s.must(os.Truncate(s.cipher("synced"), 2*cipherPage))
	s.flip("flipped", 5*cipherPage+100)
	for _, args := range [][]string{nil, {"--repair"}, nil} {
		r := fsck(t, v, args...)
		if r.exit != 4 || r.Summary.Damage != 2 {
			t.Errorf("%q: %v", args, r)
		}
	}
}

func TestFsckSettledRecord(t *testing.T) {
	v := fstest.New(t)
	s := &scene{t: t, v: v}
	s.write("a")
	v.Unmount()
	settled := filepath.Join(v.Cipher, "kmsfs.settled")
	old := s.readlink(settled)
	v.Mount()
	s.write("b")
	v.Unmount()

	for what, spoil := range map[string]func(){
		"missing":    func() { s.must(os.Remove(settled)) },
		"damaged":    func() { s.relink(settled, "AAAA") },
		"no link":    func() { s.must(os.Remove(settled)); s.must(os.WriteFile(settled, nil, 0o600)) },
		"an old one": func() { s.relink(settled, old) },
	} {
		t.Run(what, func(t *testing.T) {
			s.t = t
			spoil()
			unchanged(t, v.Cipher, func() {
				if r := fsck(t, v); r.exit != 4 || r.Summary.Damage != 1 || r.Findings[0].StoredPath != "kmsfs.settled" {
					t.Errorf("%v", r)
				}
			})
			if r := fsck(t, v, "--repair"); r.exit != 3 || r.Summary.Repaired != 1 {
				t.Errorf("--repair: %v", r)
			}
			if r := fsck(t, v); r.exit != 0 || len(r.Findings) != 0 {
				t.Errorf("after --repair: %v", r)
			}
			v.Mount()
			s.intact("a", "b")
			s.write("b", what)
			v.Unmount()
			if r := fsck(t, v); r.exit != 0 || len(r.Findings) != 0 {
				t.Errorf("after a mount: %v", r)
			}
		})
	}
}

func TestFsckVolumeFiles(t *testing.T) {
	for name, spoil := range map[string]func(p string) error{
		"kmsfs.conf":            func(p string) error { return os.WriteFile(p, []byte("{}"), 0o600) },
		"kmsfs.dir":             os.Remove,
		"another's kmsfs.dir":   func(p string) error { return nil },
		"kmsfs.conf, algorithm": func(p string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			v := fstest.New(t)
			s := &scene{t: t, v: v}
			s.write("d/f")
			s.learn()
			v.Unmount()
			switch name {
			case "another's kmsfs.dir":
				s.relink(filepath.Join(v.Cipher, "kmsfs.dir"), s.readlink(filepath.Join(s.cipher("d"), "kmsfs.dir")))
			case "kmsfs.conf, algorithm":
				p := filepath.Join(v.Cipher, "kmsfs.conf")
				b, err := os.ReadFile(p)
				s.must(err)
				s.must(os.WriteFile(p, bytes.Replace(b, []byte("AES-256-GCM"), []byte("XChaCha20-Poly1305"), 1), 0o600))
			default:
				s.must(spoil(filepath.Join(v.Cipher, name)))
			}
			unchanged(t, v.Cipher, func() {
				for _, args := range [][]string{nil, {"--repair"}} {
					r := fsck(t, v, args...)
					if r.exit != 4 || r.Summary.Damage != 1 || len(r.Findings) != 1 || r.Findings[0].Path != "/" {
						t.Errorf("%q: %v", args, r)
					}
				}
			})
		})
	}
}

// TestFsckMountInside: nothing outside the volume is looked at.
func TestFsckMountInside(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t)
	s := &scene{t: t, v: v}
	s.write("d/f", "file", "other", "e/f")
	s.learn()
	v.Unmount()
	outside := fstest.Dir(t)
	s.must(os.WriteFile(filepath.Join(outside, "x"), nil, 0o600))
	for target, source := range map[string]string{"d": outside, "file": filepath.Join(outside, "x"), "e": s.cipher("d")} {
		s.must(unix.Mount(source, s.cipher(target), "", unix.MS_BIND, ""))
		defer func() { s.must(unix.Unmount(s.cipher(target), 0)) }()
	}
	for _, args := range [][]string{nil, {"--repair"}} {
		r := fsck(t, v, args...)
		if r.exit != 4 || len(r.Findings) != 3 || r.Summary.Damage != 3 {
			t.Errorf("%q: %v", args, r)
		}
	}
}

// refusing is a key service that refuses the keys of some paths.
type refusing struct {
	fs.KeyService
	paths []string
}

func (k refusing) Batch(ctx context.Context, items []kmsapi.BatchItem) ([]kmsapi.BatchResult, error) {
	res, err := k.KeyService.Batch(ctx, items)
	for i := range res {
		if slices.Contains(k.paths, items[i].EncryptionContext["kmsfs:path"]) {
			clear(res[i].Plaintext)
			res[i] = kmsapi.BatchResult{Err: &kmsapi.Error{Code: kmsapi.CodeAccessDenied}}
		}
	}
	return res, err
}

// TestFsckRefusedKeys: a file whose key is refused is neither sound nor
// damaged, and if it may be unsettled nothing is settled for it.
func TestFsckRefusedKeys(t *testing.T) {
	v := fstest.New(t)
	s := &scene{t: t, v: v}
	s.write("a", "secret")
	s.learn()
	v.Kill()
	client, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: v.State})
	s.must(err)
	defer client.Close()
	check := func(refused ...string) (sum fs.Summary, found []string) {
		sum, err := fs.Check(t.Context(), v.Cipher, fs.CheckOptions{
			Keys: refusing{client, refused}, Repair: true, Logger: slog.New(slog.DiscardHandler),
			Found: func(f *fs.Finding) { found = append(found, fmt.Sprint(f.Category, " ", f.Path, " ", f.Repaired)) },
		})
		s.must(err)
		slices.Sort(found)
		return sum, found
	}
	for range 2 {
		sum, found := check("/secret")
		if want := []string{"unchecked /secret false", "unsettled / false"}; !slices.Equal(found, want) || sum.Unchecked != 1 {
			t.Errorf("%+v, found %q, want %q", sum, found, want)
		}
	}
	if sum, found := check(); len(found) != 1 || sum.Repaired != 1 {
		t.Errorf("%+v, found %q", sum, found)
	}

	// Without any key there is no check.
	v.Must("key", "disable", "alias/kmsfs/"+check0Volume(v))
	for _, args := range [][]string{nil, {"--repair"}} {
		_, stderr, exit := v.Run(append(append([]string{"fsck"}, args...), v.Cipher)...)
		if exit != 1 || !strings.Contains(stderr, "Disabled") {
			t.Errorf("with the key disabled: exit %d, %q", exit, stderr)
		}
	}
}

func check0Volume(v *fstest.Volume) string {
	conf, err := fs.ReadConfig(v.Cipher)
	if err != nil {
		return err.Error()
	}
	return conf.Volume
}
