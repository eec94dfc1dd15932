package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Category is the kind of a Finding.
type Category string

// What a check may find. Only Damage means that something is lost or was
// changed behind the filesystem's back.
const (
	Damage       Category = "damage"        // what no writer and no crash leaves
	Unchecked    Category = "unchecked"     // its key is refused, or it cannot be read
	NeverWritten Category = "never-written" // a file whose creation a crash cut short
	Unsettled    Category = "unsettled"     // a change that a crash cut short; the next mount finishes it
	WrongSize    Category = "wrong-size"    // st_size or the tail behind the final page is not as it should be
	Leftover     Category = "leftover"      // a record or temporary object that nothing needs
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Category   Category
	Path       string // in the volume; of the directory where the name is not known
	StoredPath string // below the ciphertext directory
	Reason     string
	Repaired   bool
	Advice     string // what to do next, or what was done
}

// Summary counts what a check saw. The counts of findings are of those that
// were not repaired.
type Summary struct {
	Volume                                 string
	Files, Directories, Symlinks, Specials int64
	Bytes                                  int64 // of plaintext in files

	Damage, Unchecked, NeverWritten, Unsettled, WrongSize, Leftover int64
	Repaired                                                        int64
	Failed                                                          int64 // repairs that did not succeed
}

// CheckOptions of a check.
type CheckOptions struct {
	Keys   KeyService
	Repair bool         // else not a byte of the ciphertext directory changes
	Logger *slog.Logger // nil: slog.Default()

	// Found is told of each finding, Progress from time to time of the counts
	// so far. They are not called at the same time.
	Found    func(*Finding)
	Progress func(Summary)
}

// progressInterval is the time between calls of CheckOptions.Progress.
const progressInterval = 500 * time.Millisecond

// Check examines every name, record, key and page of the unmounted volume in
// dir. Its error says that the check is not complete. With Repair it finishes
// what a crash interrupted and removes what a crash left; it never removes or
// changes what is damaged.
func Check(ctx context.Context, dir string, o CheckOptions) (Summary, error) {
	c := &checker{ctx: ctx, o: o, ids: map[[16]byte]uint64{}}
	stop := c.startProgress()
	err := c.run(dir)
	stop()
	return c.summary(), err
}

// checker is one check of one volume. The volume is not mounted, so that the
// tree lock guards nothing here and is not taken; nodes are the checker's own
// and in no map.
type checker struct {
	ctx context.Context
	o   CheckOptions
	r   *Root

	files, dirs, links, specials, bytes atomic.Int64

	mu    sync.Mutex // guards found, and calls of o.Found and o.Progress
	found Summary    // its counts of findings

	settledErr error  // why kmsfs.settled cannot be used
	maxGen     uint64 // newest generation seen in a header

	// open says that files may be unsettled of which the check cannot tell:
	// nothing may be called settled then.
	open atomic.Bool

	// ids has the inode number of each file and directory ID seen: about 50
	// bytes for each object of the volume, the one thing that grows with it.
	ids map[[16]byte]uint64

	batch []*fileCheck // files whose keys are to be asked for
	queue chan *fileCheck
	fatal atomic.Pointer[error]
}

func (c *checker) run(dir string) error {
	var err error
	c.r, err = openVolume(c.ctx, dir, Options{Keys: c.o.Keys, ReadOnly: !c.o.Repair, Logger: c.o.Logger})
	switch {
	case errors.Is(err, errBadRootDir):
		c.report(&Finding{Category: Damage, Path: "/", StoredPath: dirName, Reason: err.Error(),
			Advice: "nothing else can be checked; restore " + dirName + " from a backup of the ciphertext"})
		return nil
	case errors.Is(err, format.ErrCorrupt):
		c.report(&Finding{Category: Damage, Path: "/", StoredPath: configName, Reason: err.Error(),
			Advice: "nothing else can be checked; restore " + configName + " from a backup of the ciphertext"})
		return nil
	case err != nil:
		return err
	}
	defer c.r.release()
	c.settledErr = c.r.loadSettled()
	if c.o.Repair {
		// What is on disk now is what repairs rely on.
		if err := backing.SyncFS(c.r.rootfd); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	wait := c.startWorkers()
	c.checkTree(c.r.root)
	c.flush()
	wait()
	if err := c.err(); err != nil {
		return err
	}
	return c.finish()
}

// finish judges the volume as a whole, and settles it after repairs.
func (c *checker) finish() error {
	r, s := c.r, &c.r.settle
	f := &Finding{Path: "/", StoredPath: settledName}
	switch {
	case c.settledErr != nil:
		f.Category, f.Reason = Damage, "the record is missing or does not verify: what a crash may have left unfinished was checked strictly"
	case c.maxGen >= s.next:
		f.Category, f.Reason = Damage, "the record is older than the volume's files: somebody put an old one back"
	case r.crashed():
		f.Category, f.Reason = Unsettled, "the volume was not unmounted cleanly"
		f.Advice = "mount and unmount it, or use --repair"
	case s.dirty.Load():
		return c.settle()
	case c.o.Repair:
		return backing.SyncFS(r.rootfd)
	default:
		return nil
	}
	if f.Category == Damage {
		f.Advice = "restore it from a backup of the ciphertext, or have --repair make it anew"
	}
	if !c.o.Repair {
		c.report(f)
		return nil
	}
	if c.open.Load() {
		f.Advice = "not settled, since some files could not be checked: see those"
		c.report(f)
		return nil
	}
	if f.Category == Damage {
		// Beyond every generation in use, also in files that could not be seen:
		// each session that ended in a crash has taken 2^32.
		s.gen.Store(max(c.maxGen, s.gen.Load()) + 1<<40)
		r.lenient.from, r.lenient.to = 0, 0
	}
	r.recovered.Store(true)
	c.repaired(f, c.settle(), "settled the volume")
	return nil
}

// settle ends the check as a clean unmount ends a session. The check itself
// has used no generation.
func (c *checker) settle() error {
	s := &c.r.settle
	s.next = s.gen.Load() + 1
	return c.r.endSession()
}

// startProgress calls o.Progress until the function it returns is called.
func (c *checker) startProgress() (stop func()) {
	if c.o.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s := c.summary()
				c.mu.Lock()
				c.o.Progress(s)
				c.mu.Unlock()
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func (c *checker) summary() Summary {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.found
	if c.r != nil {
		s.Volume = c.r.conf.Volume
	}
	s.Files, s.Directories, s.Symlinks, s.Specials = c.files.Load(), c.dirs.Load(), c.links.Load(), c.specials.Load()
	s.Bytes = c.bytes.Load()
	return s
}

// report counts a finding and passes it on.
func (c *checker) report(f *Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.found
	count := map[Category]*int64{
		Damage: &s.Damage, Unchecked: &s.Unchecked, NeverWritten: &s.NeverWritten,
		Unsettled: &s.Unsettled, WrongSize: &s.WrongSize, Leftover: &s.Leftover,
	}[f.Category]
	if f.Repaired {
		count = &s.Repaired
	}
	*count++
	if c.o.Found != nil {
		c.o.Found(f)
	}
}

// repaired reports a finding whose repair ended with err.
func (c *checker) repaired(f *Finding, err error, done string) {
	if err == nil {
		f.Repaired, f.Advice = true, done
	} else {
		f.Advice = "the repair failed: " + err.Error()
		c.open.Store(true)
		c.mu.Lock()
		c.found.Failed++
		c.mu.Unlock()
	}
	c.report(f)
}

// fail reports what is wrong with the object at ref.
func (c *checker) fail(ref *nameRef, err error) {
	f := c.at(ref)
	f.Category, f.Reason, f.Advice = classify(err)
	c.report(f)
}

// at begins a finding about the object at ref.
func (c *checker) at(ref *nameRef) *Finding {
	return &Finding{Path: ref.pathLocked(), StoredPath: filepath.Join(ref.parent.storedPathLocked(), ref.stored.Name)}
}

// in begins a finding about an entry of the directory n that is no object's.
func (c *checker) in(n *node, entry string) *Finding {
	return &Finding{Path: n.pathLocked(), StoredPath: filepath.Join(n.storedPathLocked(), entry)}
}

const (
	adviceDamage = "restore it from a backup, or delete it through a mount"
	adviceRepair = "harmless; --repair removes it"
)

// classify tells damage from what could not be looked at.
func classify(err error) (cat Category, reason, advice string) {
	reason = err.Error()
	var refusal *kmsapi.Error
	if errors.As(err, &refusal) {
		if kmsErrnoTable[refusal.Code] == unix.EIO {
			return Damage, "the key service does not accept the file's wrapped key: " + reason, adviceDamage
		}
		return Unchecked, "key refused: " + reason, "check again when the key may be used"
	}
	for _, damage := range []error{
		errMisplaced, content.ErrCorrupt, content.ErrAbsent, format.ErrCorrupt, names.ErrCorrupt, format.ErrNeverWritten,
	} {
		if errors.Is(err, damage) {
			return Damage, reason, adviceDamage
		}
	}
	switch {
	case errors.Is(err, unix.EIO):
		return Damage, "the disk cannot read it: " + reason, adviceDamage
	case errors.Is(err, unix.EXDEV):
		return Damage, "a mount lies inside the volume", "unmount it"
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return Unchecked, reason, "check as root or as the owner"
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE):
		return Unchecked, "it changed during the check", "check again while nobody changes the ciphertext"
	}
	return Unchecked, reason, "check again"
}

// stopWith ends the check early.
func (c *checker) stopWith(err error) { c.fatal.CompareAndSwap(nil, &err) }

// err is why the check must end, or nil.
func (c *checker) err() error {
	if err := c.ctx.Err(); err != nil {
		return fmt.Errorf("interrupted: %w", err)
	}
	if err := c.fatal.Load(); err != nil {
		return *err
	}
	return nil
}
