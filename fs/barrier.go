package fs

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
)

// settler keeps the generations that tell settled files from unsettled ones.
//
// A file's header carries the generation in which its shape (number of pages,
// final page, holes) last began to change. A barrier raises the generation,
// makes everything durable with one syncfs, and then records in kmsfs.settled
// that all older generations are settled. No file is touched for it: settling
// costs the same for one changed file and for a million, and leaves their
// times alone. See fs/FORMAT.md, "Settling".
type settler struct {
	gen     atomic.Uint64 // generation of changes made now
	settled atomic.Uint64 // all older ones are, as kmsfs.settled says

	// shape is held, shared, by every change of a file's shape from the look
	// at gen to its last system call, and exclusively by a barrier while it
	// raises gen: what is under an older generation was then issued before
	// the syncfs.
	shape sync.RWMutex

	dirty   atomic.Bool // something changed since the last barrier
	barrier sync.Mutex  // one barrier at a time

	mu    sync.Mutex
	next  uint64  // first generation of the next session
	moved []*node // directories whose record tells an older place
	folds []fold  // files whose header does
}

// loadSettled reads kmsfs.settled.
func (r *Root) loadSettled() error {
	target, err := backing.Readlink(r.rootfd, settledName)
	if err != nil {
		return fmt.Errorf("%w: %v", errNoSettled, err)
	}
	rec, err := r.sealer.OpenSettled(r.root.dir.id, target)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoSettled, err)
	}
	var st unix.Stat_t
	if err := backing.Stat(r.rootfd, settledName, &st); err != nil {
		return err
	}
	r.lenient.since = st.Ctim.Sec - int64(2*r.opts.BarrierInterval/time.Second) - 60
	s := &r.settle
	s.next = rec.Next
	s.settled.Store(rec.Settled)
	r.lenient.from, r.lenient.to = rec.Settled, rec.Next
	s.gen.Store(rec.Next)
	return nil
}

// startSession reads kmsfs.settled and reserves this session's generations.
func (r *Root) startSession() error {
	if err := r.loadSettled(); err != nil || r.opts.ReadOnly {
		return err
	}
	// Until a clean end every generation from settled on is in doubt; the
	// session may use this many (one per barrier).
	r.settle.next += 1 << 32
	if err := r.writeSettled(); err != nil {
		return err
	}
	if err := backing.SyncDir(r.rootfd); err != nil {
		return err
	}
	r.stopped.Add(1)
	go r.barrierLoop()
	if r.crashed() {
		r.log.Info("the volume was not unmounted cleanly; checking the files that were being changed")
		r.stopped.Add(1)
		go r.recoverAll()
	}
	return nil
}

// crashed reports whether files may exist that an earlier session left unsettled.
func (r *Root) crashed() bool { return r.lenient.from < r.lenient.to }

// mayBeUnsettled reports whether a crash may have left the file of generation
// gen in the middle of a change. Files of this session are not meant: what we
// wrote since mounting is in the page cache, whole, whatever is on disk.
func (r *Root) mayBeUnsettled(gen uint64) bool {
	return r.recovering() && r.lenient.from <= gen && gen < r.lenient.to
}

func (r *Root) writeSettled() error {
	s := &r.settle
	rec := &format.SettledRecord{Settled: s.settled.Load(), Next: s.next}
	target := r.sealer.SealSettled(r.root.dir.id, rec)
	return r.replaceRecord(r.rootfd, settledName, target)
}

func (r *Root) barrierLoop() {
	defer r.stopped.Done()
	tick := time.NewTicker(r.opts.BarrierInterval)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			if r.settle.dirty.Load() {
				if err := r.runBarrier(); err != nil {
					r.log.Error("barrier failed; files stay unsettled until the next one", "err", err)
				}
			}
		}
	}
}

// runBarrier makes everything done so far durable and settles it.
func (r *Root) runBarrier() error {
	s := &r.settle
	s.barrier.Lock()
	defer s.barrier.Unlock()

	s.dirty.Store(false)
	s.shape.Lock()
	gen := s.gen.Add(1)
	s.shape.Unlock()
	r.foldMoves()
	s.mu.Lock()
	folds := s.folds
	s.folds = nil
	s.mu.Unlock()

	if err := backing.SyncFS(r.rootfd); err != nil {
		s.mu.Lock()
		s.folds = append(folds, s.folds...)
		s.mu.Unlock()
		s.dirty.Store(true)
		return err
	}
	r.foldFiles(folds)
	// While files of a crashed session wait for their check nothing older may
	// be called settled; recoverAll moves the mark when it is through.
	if !r.recovering() {
		s.mu.Lock()
		s.settled.Store(gen)
		err := r.writeSettled()
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// endSession settles everything: after it the next session trusts every file
// to be exactly as its header says.
func (r *Root) endSession() error {
	if r.opts.ReadOnly {
		return nil
	}
	if err := r.runBarrier(); err != nil {
		return err
	}
	if r.recovering() {
		return nil // the next session goes on with the check
	}
	s := &r.settle
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = s.gen.Load()
	s.settled.Store(s.next)
	if err := r.writeSettled(); err != nil {
		return err
	}
	if err := backing.SyncFS(r.rootfd); err != nil && err != unix.EROFS {
		return err
	}
	return nil
}
