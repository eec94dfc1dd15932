package fs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

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
