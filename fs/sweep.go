package fs

import (
	"slices"
	"time"
)

// After a directory rename the keys of all files below it are still wrapped
// under their old paths. Opening such a file re-wraps its key first; a sweep
// in the background does the rest, so that policies and audit log see today's
// paths soon. The sweep is a convenience: what it does not reach, because it
// is refused or the mount goes away, waits for a later open.

const (
	// sweepDelay lets renames that come in series pass before the sweep starts,
	// and opens before it goes on: a program that reads what was renamed re-wraps
	// the keys itself, and would share the processors with it.
	sweepDelay = 2 * time.Second
	// sweepPatience bounds each wait for opens: a server that never pauses must
	// not keep the rest under old paths.
	sweepPatience = 30 * time.Second
)

// sweepLater has the keys below the directory n re-wrapped in the background.
// Holds: tree, shared suffices.
func (r *Root) sweepLater(n *node) {
	if !r.keys.bindsPath() {
		return
	}
	r.sweeps.mu.Lock()
	defer r.sweeps.mu.Unlock()
	if slices.Contains(r.sweeps.dirs, n) {
		return
	}
	n.refs.Add(1)
	r.sweeps.dirs = append(r.sweeps.dirs, n)
	if !r.sweeps.running {
		r.sweeps.running = true
		r.stopped.Add(1)
		go r.sweepLoop()
	}
}

// sweeping reports whether a sweep is due or under way. Whoever re-wraps a
// key to open a file leaves it to the sweep to store it: writing a header
// costs more than the sweep's share of a batch. If the sweep does not come to
// the file after all, the next open re-wraps it again.
func (r *Root) sweeping() bool {
	r.sweeps.mu.Lock()
	defer r.sweeps.mu.Unlock()
	return r.sweeps.running
}

func (r *Root) sweepLoop() {
	defer r.stopped.Done()
	r.pause(sweepDelay)
	for {
		r.sweeps.mu.Lock()
		if len(r.sweeps.dirs) == 0 {
			r.sweeps.running = false
			r.sweeps.mu.Unlock()
			return
		}
		n := r.sweeps.dirs[0]
		r.sweeps.dirs = r.sweeps.dirs[1:]
		r.sweeps.mu.Unlock()
		r.sweepDir(n)
		r.unref(n)
	}
}

// sweepDir has the keys below n re-wrapped that are under an older path.
func (r *Root) sweepDir(n *node) {
	pace := pacer{r: r, began: time.Now()}
	pace.rest()
	w := &rewrapper{
		r:    r,
		due:  func(_ []byte, from, to string) bool { return from != to && from != "" },
		over: r.stopping,
		hooks: hooks{
			seen:      pace.entry,
			rewrapped: func() {},
			failed:    func(*node, error) {}, // an open will say what is wrong
		},
	}
	w.dir(n)
	w.flush()
	if w.err != nil {
		r.log.Warn("background re-wrap got no answer; files are re-wrapped when opened", "err", w.err)
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

// pacer lets foreground work go first.
type pacer struct {
	r     *Root
	seen  int       // entries since the last rest
	began time.Time // what has been done since
}

// entry rests after each batch of entries.
func (p *pacer) entry(bool) {
	if p.seen++; p.seen >= 2*rewrapBatch {
		p.rest()
	}
}

// rest waits four times as long as it took since the last rest, and as long as
// opens re-wrap keys.
func (p *pacer) rest() {
	r := p.r
	pause := 4 * time.Since(p.began)
	for rested := time.Duration(0); pause > 0 && rested < sweepPatience && !r.stopping(); {
		r.pause(pause)
		rested += pause
		pause = time.Until(time.Unix(0, r.sweeps.opened.Load()).Add(sweepDelay))
	}
	p.seen, p.began = 0, time.Now()
}
