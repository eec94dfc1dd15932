package oracle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what to compare and how much.
type Config struct {
	Seed               int64
	Ops                int
	Subject, Reference string // two directories; each run works in new ones below
	Users              []User // the first is the process's own identity

	// Remount, when not nil, unmounts and mounts the subject. Nothing is open
	// in it then. It happens every RemountEvery operations.
	Remount      func() error
	RemountEvery int
	// CompareEvery says after how many operations whole trees are compared.
	CompareEvery int
	// ShrinkFor bounds the search for a shorter sequence that fails too.
	ShrinkFor time.Duration
	Logf      func(format string, args ...any)
}

// Mismatch is the first difference between the two sides, and what led to it.
type Mismatch struct {
	Seed int64
	Ops  []Op
	At   int // index of the operation that differed
	What string
}

func (m *Mismatch) Error() string {
	var b strings.Builder
	from := max(0, m.At-39)
	fmt.Fprintf(&b, "seed %d: operation %d of %d differs:\n%s\noperations from %d:\n", m.Seed, m.At, len(m.Ops), m.What, from)
	for i := from; i <= m.At && i < len(m.Ops); i++ {
		fmt.Fprintf(&b, "%6d %s\n", i, m.Ops[i])
	}
	return b.String()
}

// Run does cfg.Ops operations from cfg.Seed on both sides. The error is a
// *Mismatch when the sides differ.
func Run(cfg Config) error {
	r, err := newRunner(cfg)
	if err != nil {
		return err
	}
	defer r.close()
	g := newGenerator(cfg.Seed, max(1, len(cfg.Users)), hasZeroRange(r.reference.root))
	var ops []Op
	for i := 1; i <= cfg.Ops; i++ {
		if i%16 == 1 {
			g.learn(r.reference.root)
		}
		due := []Op{g.next()}
		if i == cfg.Ops || every(i, cfg.CompareEvery) {
			due = append(due, Op{Kind: "compare"})
		}
		if cfg.Remount != nil && (i == cfg.Ops || every(i, cfg.RemountEvery)) {
			due = append(due, Op{Kind: "remount"}, Op{Kind: "compare"})
		}
		for _, o := range due {
			ops = append(ops, o)
			if what := r.step(&o); what != "" {
				m := &Mismatch{Seed: cfg.Seed, Ops: ops, At: len(ops) - 1, What: what}
				r.close()
				return shrink(cfg, m)
			}
		}
	}
	return nil
}

// runner is one run: a new directory on each side.
type runner struct {
	cfg                Config
	subject, reference *side
	actors             []*actor
}

func newRunner(cfg Config) (*runner, error) {
	r := &runner{cfg: cfg}
	var name string
	for i := 0; ; i++ {
		name = fmt.Sprintf("run%d.%d", cfg.Seed, i)
		err := os.Mkdir(filepath.Join(cfg.Reference, name), 0o755)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		break
	}
	if err := os.Mkdir(filepath.Join(cfg.Subject, name), 0o755); err != nil {
		return nil, err
	}
	r.subject = newSide(filepath.Join(cfg.Subject, name))
	r.reference = newSide(filepath.Join(cfg.Reference, name))
	users := []*User{nil}
	for i := 1; i < len(cfg.Users); i++ {
		users = append(users, &cfg.Users[i])
	}
	for _, u := range users {
		a, err := newActor(u)
		if err != nil {
			r.close()
			return nil, err
		}
		r.actors = append(r.actors, a)
	}
	// Everybody may make names at the top.
	return r, errors.Join(os.Chmod(r.subject.root, 0o777), os.Chmod(r.reference.root, 0o777))
}

func (r *runner) close() {
	r.subject.closeAll()
	r.reference.closeAll()
	for _, a := range r.actors {
		a.close()
	}
	r.actors = nil
	// A long sequence of runs would otherwise fill the volume.
	_ = removeAll(r.subject.root)
	_ = removeAll(r.reference.root)
}

func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func every(i, n int) bool { return n > 0 && i%n == 0 }

// step does one operation on both sides and returns what differed.
func (r *runner) step(o *Op) string {
	switch o.Kind {
	case "compare":
		if err := compareTrees(r.subject.root, r.reference.root); err != nil {
			return err.Error()
		}
		return ""
	case "remount":
		r.subject.closeAll()
		r.reference.closeAll()
		if r.cfg.Remount != nil {
			if err := r.cfg.Remount(); err != nil {
				return fmt.Sprintf("remount: %v", err)
			}
		}
		return ""
	}
	want := r.apply(r.reference, o)
	if got := r.apply(r.subject, o); got != want {
		return fmt.Sprintf("  got %s\n want %s", got, want)
	}
	return ""
}

// apply does one operation on one side and renders what it answered.
func (r *runner) apply(s *side, o *Op) string {
	f := pathOps[o.Kind]
	if f == nil {
		f = handleOps[o.Kind]
	}
	if f == nil {
		panic("oracle: no operation " + o.Kind)
	}
	var res result
	err := r.actors[min(o.User, len(r.actors)-1)].do(func() {
		defer unix.Umask(unix.Umask(int(o.Umask)))
		f(s, o, &res)
	})
	if err != nil {
		res.add("%v", err)
		return res.text.String()
	}
	if o.Check {
		r.check(s, o, &res)
	}
	return res.text.String()
}

// check looks at what an operation touched. Half of the operations go without:
// looking refreshes the kernel's caches, and can hide that they were stale.
func (r *runner) check(s *side, o *Op, res *result) {
	for _, rel := range []string{o.A, o.B} {
		if rel == "" {
			continue
		}
		res.add("\n     ")
		res.stat(s.path(rel))
		if dir := filepath.Dir(rel); dir != "." && !strings.HasSuffix(rel, "/") {
			res.stat(s.path(dir))
		}
	}
	if o.usesHandle() && o.A == "" && s.handles[o.H] >= 0 {
		res.add("\n     ")
		doFstat(s, o, res)
	}
}

// hasZeroRange tells whether a filesystem has FALLOC_FL_ZERO_RANGE, which
// tmpfs lacks.
func hasZeroRange(dir string) bool {
	f, err := os.CreateTemp(dir, "probe")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE, 0, 4096) == nil
}

// shrink looks for a shorter sequence with a mismatch: it leaves out chunks,
// the longest first, as long as something still differs.
func shrink(cfg Config, m *Mismatch) *Mismatch {
	logf := cfg.Logf
	if logf == nil {
		logf = func(string, ...any) {}
	}
	deadline := time.Now().Add(cfg.ShrinkFor)
	best := &Mismatch{Seed: m.Seed, Ops: m.Ops[:m.At+1], At: m.At, What: m.What}
	defer func() { logf("shrunk %d operations to %d", m.At+1, len(best.Ops)) }()
	for chunk := len(best.Ops) / 2; chunk > 0; chunk /= 2 {
		for from := 0; from < len(best.Ops); {
			if time.Now().After(deadline) {
				return best
			}
			shorter := slices.Delete(slices.Clone(best.Ops), from, min(from+chunk, len(best.Ops)))
			found, err := Replay(cfg, shorter)
			if err != nil {
				logf("shrinking: %v", err)
				return best
			}
			if found == nil {
				from += chunk
				continue
			}
			best = found
		}
	}
	return best
}

// Replay does a given sequence and returns the first mismatch.
func Replay(cfg Config, ops []Op) (*Mismatch, error) {
	r, err := newRunner(cfg)
	if err != nil {
		return nil, err
	}
	defer r.close()
	for i := range ops {
		if what := r.step(&ops[i]); what != "" {
			return &Mismatch{Seed: cfg.Seed, Ops: ops[:i+1], At: i, What: what}, nil
		}
	}
	return nil, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
