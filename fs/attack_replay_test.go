package fs_test

import (
	"os"
	"path/filepath"
	"strconv"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// record is a sealed record as it stood on disk.
type savedRecord struct{ path, target string }

// records saves all name records of a ciphertext directory.
func (s *scene) records(dir string) []savedRecord {
	var list []savedRecord
	for _, name := range s.entries(dir, "kmsfs.ln.") {
		p := filepath.Join(dir, name)
		list = append(list, savedRecord{p, s.readlink(p)})
	}
	return list
}

func (s *scene) restore(list []savedRecord) {
	for _, r := range list {
		s.relink(r.path, r.target)
	}
}

// replays are the attacks on what makes a rename whole (T30): records kept
// from an earlier rename, and records made up.
func replays() []attack {
	var kept, dirs []savedRecord
	return []attack{
		{
			id: "T30", name: "replay the record of a rename on a file moved back",
			prepare: func(s *scene) {
				s.write("a", "bystander")
				s.must(os.Rename(s.plain("a"), s.plain("b")))
				kept = s.records(s.v.BackingPath(s.t, s.dir))
				// The name "b" is used by another file, then by none.
				s.saved["b"] = []byte(s.v.BackingPath(s.t, filepath.Join(s.dir, "b")))
				s.must(os.Rename(s.plain("b"), s.plain("c")))
			},
			attack: func(s *scene) {
				s.must(os.Rename(s.cipher("c"), string(s.saved["b"])))
				s.restore(kept)
			},
			check: func(s *scene) {
				s.gone("a", "b", "c")
				s.intact("bystander")
			},
		},
		{
			id: "T30", name: "replay the record of a directory's rename",
			prepare: func(s *scene) {
				s.write("d/f", "bystander")
				s.must(os.Rename(s.plain("d"), s.plain("e")))
				dirs = s.records(s.v.BackingPath(s.t, s.dir))
				s.saved["e"] = []byte(s.v.BackingPath(s.t, filepath.Join(s.dir, "e")))
				s.must(os.Rename(s.plain("e"), s.plain("g")))
			},
			attack: func(s *scene) {
				s.must(os.Rename(s.cipher("g"), string(s.saved["e"])))
				s.restore(dirs)
			},
			check: func(s *scene) {
				s.gone("d/f", "e/f", "g/f")
				s.intact("bystander")
			},
		},
		{
			id: "T30", name: "make records up",
			prepare: func(s *scene) { s.write("a", "b", "d/f"); symlinks(s) },
			attack: func(s *scene) {
				dir := filepath.Dir(s.cipher("a"))
				ln := func(name string) string { return filepath.Join(dir, "kmsfs.ln."+filepath.Base(s.cipher(name))) }
				s.relink(ln("a"), "AAAA")
				s.relink(ln("d"), s.readlink(filepath.Join(s.cipher("d"), "kmsfs.dir")))
				s.relink(ln("l1"), s.readlink(s.cipher("l1")))
				s.must(os.RemoveAll(ln("b")))
				s.must(os.WriteFile(ln("b"), nil, 0o644))
				s.relink(filepath.Join(dir, "kmsfs.ln.nothing"), "nothing")
				s.relink(filepath.Join(dir, "kmsfs.new.nothing"), "nothing")
				s.relink(filepath.Join(dir, "kmsfs.name.nothing"), "nothing")
			},
			check: func(s *scene) {
				// Their own binding is whole: nobody needs the records.
				s.intact("a", "b", "d/f")
				s.target("l1", "target1")
				s.onlyLists("", "a", "b", "d", "l1", "l2", "l3")
			},
		},
		{
			id: "T30", name: "a hard link's record under another name",
			prepare: func(s *scene) {
				s.write("a", "b")
				s.must(os.Link(s.plain("a"), s.plain("a2")))
			},
			attack: func(s *scene) {
				dir := s.cipher(".")
				for _, r := range s.records(dir) {
					s.relink(filepath.Join(dir, "kmsfs.ln."+filepath.Base(s.cipher("b"))), r.target)
				}
				s.must(os.Remove(s.cipher("b")))
				s.must(os.Link(s.cipher("a"), s.cipher("b")))
			},
			check: func(s *scene) { s.unreadable("b") },
		},
	}
}
