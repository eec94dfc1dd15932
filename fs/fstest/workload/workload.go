// Package workload changes a directory at random while it remembers every
// state the directory went through, so that after a crash it can tell whether
// what is left is one of the things that may be left: a namespace that existed
// (every rename whole), files whose bytes are those of the last fsync or of
// what was written since, and nothing unreadable that was ever synced.
package workload

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Object is what a name leads to.
type Object struct {
	Kind   byte // 'd', 'f' or 'l'
	File   int  // 'f': which file; hard links share it
	Target string
}

// State is the directory as it stands after an operation. Contents are never
// changed in place, so that states share them.
type State struct {
	Names map[string]Object
	Files map[int][]byte
}

func (s State) clone() State { return State{maps.Clone(s.Names), maps.Clone(s.Files)} }

// Step is one operation of the history.
type Step struct {
	What       string
	After      State
	Synced     []int // files whose content the operation made durable
	SyncedAll  bool  // everything
	Start, End int64 // positions, see Workload.Position
}

// Workload is one directory with its history. It is used by one goroutine.
type Workload struct {
	Root string
	// Position, when not nil, is asked before and after each operation: where
	// a recording of the disk stands.
	Position func() int64
	// Steps is the history. Steps[0] is the start, durable and complete. The
	// last step may be in flight: its End is then -1.
	Steps []Step

	rng      *rand.Rand
	nextFile int
	open     map[int]*os.File
}

// New starts a workload in an empty directory.
func New(root string, seed uint64) *Workload {
	w := &Workload{Root: root, rng: rand.New(rand.NewPCG(seed, 1)), nextFile: 1, open: map[int]*os.File{}}
	w.Steps = []Step{{What: "start", After: State{map[string]Object{}, map[int][]byte{}}, SyncedAll: true}}
	return w
}

func (w *Workload) last() State { return w.Steps[len(w.Steps)-1].After }

// Close closes the files the workload keeps open.
func (w *Workload) Close() {
	for _, f := range w.open {
		f.Close()
	}
	clear(w.open)
}

func (w *Workload) position() int64 {
	if w.Position == nil {
		return 0
	}
	return w.Position()
}

// do records an operation as in flight, does it, and completes it.
func (w *Workload) do(s Step, f func() error) error {
	s.Start, s.End = w.position(), -1
	w.Steps = append(w.Steps, s)
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", s.What, err)
	}
	w.Steps[len(w.Steps)-1].End = w.position()
	return nil
}

func (w *Workload) path(name string) string { return filepath.Join(w.Root, name) }

// names lists the names of one kind in order, so that a seed means the same
// sequence always.
func (s State) names(kind byte) []string {
	var list []string
	for name, o := range s.Names {
		if o.Kind == kind {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func (w *Workload) pick(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[w.rng.IntN(len(list))]
}

// fresh is a name that does not exist, in a directory that does.
func (w *Workload) fresh(s State) string {
	dirs := append(s.names('d'), "")
	for {
		dir := dirs[w.rng.IntN(len(dirs))]
		if strings.Count(dir, "/") >= 2 {
			dir = ""
		}
		name := fmt.Sprintf("n%d", w.rng.IntN(400))
		if w.rng.IntN(12) == 0 {
			name = strings.Repeat("long", 60) + name
		}
		if full := path.Join(dir, name); s.Names[full].Kind == 0 {
			return full
		}
	}
}

// Step does one random operation. An error says that the filesystem refused
// what it had to do, or is gone.
func (w *Workload) Step() error {
	s := w.last().clone()
	files := s.names('f')
	if len(files) < 3 {
		return w.create(s)
	}
	switch k := w.rng.IntN(100); {
	case k < 8 && len(files) < 12:
		return w.create(s)
	case k < 45:
		return w.change(s, w.pick(files))
	case k < 60:
		return w.sync(s, w.pick(files))
	case k < 63:
		return w.syncAll(s)
	case k < 78:
		return w.rename(s)
	case k < 83:
		from, to := w.pick(files), w.fresh(s)
		s.Names[to] = s.Names[from]
		return w.do(Step{What: "link " + from + " " + to, After: s},
			func() error { return os.Link(w.path(from), w.path(to)) })
	case k < 90:
		return w.unlink(s, w.pick(append(files, s.names('l')...)))
	case k < 95:
		name := w.fresh(s)
		s.Names[name] = Object{Kind: 'd'}
		return w.do(Step{What: "mkdir " + name, After: s}, func() error { return os.Mkdir(w.path(name), 0o755) })
	case k < 97:
		return w.rmdir(s)
	default:
		name, target := w.fresh(s), fmt.Sprintf("target%d", w.rng.IntN(1000))
		s.Names[name] = Object{Kind: 'l', Target: target}
		return w.do(Step{What: "symlink " + name, After: s}, func() error { return os.Symlink(target, w.path(name)) })
	}
}

func (w *Workload) create(s State) error {
	name, id := w.fresh(s), w.nextFile
	w.nextFile++
	s.Names[name] = Object{Kind: 'f', File: id}
	s.Files[id] = []byte{}
	err := w.do(Step{What: "create " + name, After: s}, func() error {
		f, err := os.OpenFile(w.path(name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if err == nil {
			w.open[id] = f
		}
		return err
	})
	// Half of the files stay open, and are written through renames.
	if err == nil && w.rng.IntN(2) == 0 {
		err = w.open[id].Close()
		delete(w.open, id)
	}
	return err
}

// with calls f on a file's open handle, or on one of its own.
func (w *Workload) with(name string, id int, f func(*os.File) error) error {
	if h := w.open[id]; h != nil {
		return f(h)
	}
	h, err := os.OpenFile(w.path(name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := f(h); err != nil {
		h.Close()
		return err
	}
	return h.Close()
}

// change writes, appends, truncates or punches.
func (w *Workload) change(s State, name string) error {
	id := s.Names[name].File
	old := s.Files[id]
	const most = 60_000
	switch k := w.rng.IntN(10); {
	case k < 7 || len(old) == 0:
		off := len(old)
		switch k {
		case 0, 1:
			off = w.rng.IntN(len(old) + 1)
		case 2:
			off += w.rng.IntN(9000) // a gap
		}
		n := 1 + w.rng.IntN([]int{100, 5000, 20000}[w.rng.IntN(3)])
		if off+n > most {
			off = w.rng.IntN(max(1, min(len(old), most-n)))
		}
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(w.rng.Uint32() | 1) // never zero: zeros are told apart
		}
		content := make([]byte, max(len(old), off+n))
		copy(content, old)
		copy(content[off:], data)
		s.Files[id] = content
		return w.do(Step{What: fmt.Sprintf("write %s off=%d len=%d", name, off, n), After: s}, func() error {
			return w.with(name, id, func(f *os.File) error { _, err := f.WriteAt(data, int64(off)); return err })
		})
	case k < 9:
		size := w.rng.IntN(len(old) + 1)
		if w.rng.IntN(3) == 0 {
			size = len(old) + w.rng.IntN(9000)
		}
		content := make([]byte, size)
		copy(content, old)
		s.Files[id] = content
		return w.do(Step{What: fmt.Sprintf("truncate %s %d", name, size), After: s}, func() error {
			return w.with(name, id, func(f *os.File) error { return f.Truncate(int64(size)) })
		})
	default:
		off := w.rng.IntN(len(old))
		n := 1 + w.rng.IntN(len(old)-off)
		content := bytes.Clone(old)
		clear(content[off : off+n])
		s.Files[id] = content
		return w.do(Step{What: fmt.Sprintf("punch %s off=%d len=%d", name, off, n), After: s}, func() error {
			return w.with(name, id, func(f *os.File) error {
				return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))
			})
		})
	}
}

func (w *Workload) sync(s State, name string) error {
	id := s.Names[name].File
	return w.do(Step{What: "fsync " + name, After: s, Synced: []int{id}}, func() error {
		return w.with(name, id, (*os.File).Sync)
	})
}

// syncAll is the fsync of a directory half of the time, which makes no
// content durable, and syncfs otherwise.
func (w *Workload) syncAll(s State) error {
	all := w.rng.IntN(2) == 0
	what := "fsync of the directory"
	if all {
		what = "syncfs"
	}
	return w.do(Step{What: what, After: s}, func() error {
		d, err := os.Open(w.Root)
		if err != nil {
			return err
		}
		defer d.Close()
		if all {
			return unix.Syncfs(int(d.Fd()))
		}
		return d.Sync()
	})
}

func (w *Workload) rename(s State) error {
	all := append(append(s.names('f'), s.names('l')...), s.names('d')...)
	from := w.pick(all)
	kind := s.Names[from].Kind
	to, flags, what := w.fresh(s), uint(unix.RENAME_NOREPLACE), "rename "
	switch w.rng.IntN(4) {
	case 0: // over another name
		if other := w.pick(s.names('f')); kind != 'd' && s.Names[other].File != s.Names[from].File {
			to, flags, what = other, 0, "rename over "
		}
	case 1:
		if other := w.pick(all); other != from && !below(other, from) && !below(from, other) {
			to, flags, what = other, unix.RENAME_EXCHANGE, "exchange "
		}
	}
	if below(to, from) {
		return nil
	}
	moved := map[string]Object{}
	for name, o := range s.Names {
		switch {
		case name == from || below(name, from):
			moved[to+name[len(from):]] = o
		case flags == unix.RENAME_EXCHANGE && (name == to || below(name, to)):
			moved[from+name[len(to):]] = o
		case name == to: // replaced
		default:
			moved[name] = o
		}
	}
	s.Names = moved
	s.forget()
	return w.do(Step{What: what + from + " " + to, After: s}, func() error {
		return unix.Renameat2(unix.AT_FDCWD, w.path(from), unix.AT_FDCWD, w.path(to), flags)
	})
}

func below(name, dir string) bool { return strings.HasPrefix(name, dir+"/") }

// forget drops the files that have no name any more.
func (s *State) forget() {
	named := map[int]bool{}
	for _, o := range s.Names {
		named[o.File] = true
	}
	maps.DeleteFunc(s.Files, func(id int, _ []byte) bool { return !named[id] })
}

func (w *Workload) unlink(s State, name string) error {
	delete(s.Names, name)
	s.forget()
	return w.do(Step{What: "unlink " + name, After: s}, func() error { return os.Remove(w.path(name)) })
}

func (w *Workload) rmdir(s State) error {
	dir := w.pick(s.names('d'))
	for name := range s.Names {
		if dir == "" || below(name, dir) {
			return nil
		}
	}
	delete(s.Names, dir)
	return w.do(Step{What: "rmdir " + dir, After: s}, func() error { return os.Remove(w.path(dir)) })
}
