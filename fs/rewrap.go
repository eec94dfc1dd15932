package fs

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// After a directory rename the keys of all files below it are still wrapped
// under their old paths. Opening such a file re-wraps its key first; a sweep
// in the background does the rest, so that policies and audit log see today's
// paths soon. The sweep is a convenience: what it does not reach, because it
// is refused or the mount goes away, waits for a later open.

// rewrapBatch is how many keys go to the key service at a time.
const rewrapBatch = 128

const (
	// rewrapDelay lets renames that come in series pass before the sweep starts,
	// and opens before it goes on: a program that reads what was renamed re-wraps
	// the keys itself, and would share the processors with it.
	rewrapDelay = 2 * time.Second
	// rewrapPatience bounds each wait for opens: a server that never pauses must
	// not keep the rest under old paths.
	rewrapPatience = 30 * time.Second
)

// sweepLater has the keys below the directory n re-wrapped in the background.
// Holds: tree, shared suffices.
func (r *Root) sweepLater(n *node) {
	if !r.keys.bindsPath() {
		return
	}
	r.rewrap.mu.Lock()
	defer r.rewrap.mu.Unlock()
	if slices.Contains(r.rewrap.dirs, n) {
		return
	}
	n.refs.Add(1)
	r.rewrap.dirs = append(r.rewrap.dirs, n)
	if !r.rewrap.running {
		r.rewrap.running = true
		r.stopped.Add(1)
		go r.rewrapLoop()
	}
}

// sweeping reports whether a sweep is due or under way. Whoever re-wraps a
// key to open a file leaves it to the sweep to store it: writing a header
// costs more than the sweep's share of a batch. If the sweep does not come to
// the file after all, the next open re-wraps it again.
func (r *Root) sweeping() bool {
	r.rewrap.mu.Lock()
	defer r.rewrap.mu.Unlock()
	return r.rewrap.running
}

func (r *Root) rewrapLoop() {
	defer r.stopped.Done()
	r.pause(rewrapDelay)
	for {
		r.rewrap.mu.Lock()
		if len(r.rewrap.dirs) == 0 {
			r.rewrap.running = false
			r.rewrap.mu.Unlock()
			return
		}
		n := r.rewrap.dirs[0]
		r.rewrap.dirs = r.rewrap.dirs[1:]
		r.rewrap.mu.Unlock()
		s := &rewrapSweep{r: r, began: time.Now()}
		s.rest()
		s.dir(n)
		s.flush()
		r.tree.Lock()
		n.refs.Add(-1)
		r.reapLocked(n)
		r.tree.Unlock()
	}
}

// pause waits, or until the mount ends.
func (r *Root) pause(d time.Duration) {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-r.stop:
	case <-wait.C:
	}
}

func (r *Root) stopping() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}

// rewrapSweep collects stale files of one subtree into batches.
type rewrapSweep struct {
	r     *Root
	stale []*staleFile
	seen  int       // entries since the last rest
	began time.Time // what it has done since
}

type staleFile struct {
	n        *node // with one lookup counted
	from, to string
	wrapped  []byte
}

// dir collects the stale files below the directory n.
func (s *rewrapSweep) dir(n *node) {
	r := s.r
	d, list, err := r.listDir(n)
	if err != nil {
		return // an open will say what is wrong
	}
	defer r.release1(d)
	defer list.Close()
	for !r.stopping() {
		e, more, err := list.Next()
		if err != nil || !more {
			return
		}
		if e.Type == unix.S_IFLNK {
			continue
		}
		if name, stored, ok := r.plainName(d, e.Name); ok && stored != nil {
			s.entry(n, name, stored)
			if s.seen++; s.seen >= rewrapBatch {
				s.rest()
			}
		}
	}
}

// rest lets foreground work go first: four times as long as the last batch took,
// and as long as opens re-wrap keys.
func (s *rewrapSweep) rest() {
	r := s.r
	pause := 4 * time.Since(s.began)
	for rested := time.Duration(0); pause > 0 && rested < rewrapPatience && !r.stopping(); {
		r.pause(pause)
		rested += pause
		pause = time.Until(time.Unix(0, r.rewrap.opened.Load()).Add(rewrapDelay))
	}
	s.seen, s.began = 0, time.Now()
}

func (s *rewrapSweep) entry(parent *node, name string, stored *names.Stored) {
	r := s.r
	var st unix.Stat_t
	n, err := r.lookup(parent, name, 1, &st)
	if err != nil {
		return
	}
	switch {
	case n.isDir():
		s.dir(n)
	case n.isRegular():
		if f := s.staleFile(n); f != nil {
			if s.stale = append(s.stale, f); len(s.stale) >= rewrapBatch {
				s.flush()
			}
			return // keeps its lookup until flushed
		}
	}
	r.Forget(n.id, 1)
}

// staleFile tells how n's key is wrapped when it is not under n's path.
func (s *rewrapSweep) staleFile(n *node) *staleFile {
	f, err := s.r.hold(n, accessHeader, theMount)
	if err != nil {
		return nil
	}
	defer s.r.letGo(f)
	n.mu.Lock()
	defer n.mu.Unlock()
	s.r.tree.RLock()
	to := contextOf(n.pathLocked())
	s.r.tree.RUnlock()
	if f.path == to || f.path == "" {
		s.storeOpened(f)
		return nil
	}
	return &staleFile{n: n, from: f.path, to: to, wrapped: f.wrapped}
}

// flush re-wraps what has been collected, in one batch.
func (s *rewrapSweep) flush() {
	r := s.r
	stale := s.stale
	s.stale = nil
	if len(stale) == 0 {
		return
	}
	defer func() {
		for _, f := range stale {
			r.Forget(f.n.id, 1)
		}
	}()
	items := make([]kmsapi.BatchItem, len(stale))
	for i, f := range stale {
		items[i] = r.keys.reEncrypt(f.wrapped, f.from, f.to, theMount)
	}
	results, err := ask(context.Background(), r.keys.svc, items)
	if err != nil {
		r.log.Warn("background re-wrap got no answer; files are re-wrapped when opened", "err", err)
		return
	}
	for i, f := range stale {
		if results[i].Err == nil {
			s.store(f, results[i].CiphertextBlob)
		}
	}
}

// store records a re-wrapped key, unless the file has been moved or re-wrapped
// meanwhile.
func (s *rewrapSweep) store(stale *staleFile, wrapped []byte) {
	r, n := s.r, stale.n
	n.mu.Lock()
	defer n.mu.Unlock()
	f, err := r.holdLocked(n, accessHeader, theMount)
	if err != nil {
		return
	}
	defer r.letGoLocked(n, f)
	r.tree.RLock()
	same := len(n.names) > 0 && contextOf(n.pathLocked()) == stale.to
	r.tree.RUnlock()
	switch {
	case !same:
	case f.path == stale.from:
		if err := f.storeWrapped(wrapped, stale.to); err != nil {
			r.log.Warn("could not store a re-wrapped key", "ino", n.ino, "err", err)
		}
	case f.path == stale.to:
		s.storeOpened(f)
	}
}

// storeOpened records the key of an open file that the open has re-wrapped
// and left to the sweep. Holds: n.mu.
func (s *rewrapSweep) storeOpened(f *file) {
	if !f.unstored {
		return
	}
	if err := f.storeWrapped(f.wrapped, f.path); err != nil {
		s.r.log.Warn("could not store a re-wrapped key", "ino", f.n.ino, "err", err)
	}
}
