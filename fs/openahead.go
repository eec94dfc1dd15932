package fs

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Whoever reads a whole tree opens one file after the other, and each open
// waits for the key service. So once several files of a directory have been
// opened in a row, an open takes along those whose names come next, in the order
// that the row has shown (aheadorder.go): their keys are asked for in one request,
// and the opens that follow find their files open already. Half of them later the
// next ones are opened in the background.
//
// The key service decides on each by itself, as the mount's principal, which is
// who opens files in any case; what it decided then counts for
// --key-cache-ttl, as it does for any open file. What it refuses is left for
// the open to ask again and be told.
const (
	aheadAfter = 3 // opens in a row that start a run
	aheadFirst = 8 // files of a run's first batch; each further one has twice as many
	// aheadBatch bounds a batch. A file whose path has changed takes two items,
	// which must not come apart: the service splits requests after 64.
	aheadBatch = 32
	// aheadUnused bounds the files of a run that wait to be used: with so many
	// of them, an open of yet another belongs to no walk in the names' order.
	aheadUnused = 8 * aheadBatch
	aheadAstray = 2           // rows of opens in no order, of which none was used, end a run
	aheadRuns   = 16          // at a time: a walk leaves directories for those below them
	aheadWait   = time.Second // for the next open of a run
	// aheadNames bounds the directory that is looked at: to find the next names
	// all must be decrypted.
	aheadNames      = 1 << 14
	aheadMaxBackoff = time.Minute
)

// openAhead watches opens for the beginnings of walks.
type openAhead struct {
	mu      sync.Mutex // guards what follows
	last    *node      // the file opened last, compared only; reading one again and again is no walk
	parent  *node      // its directory, compared only
	row     []string   // the names in parent of the files last opened that were not open
	order   aheadOrder // of the last run that was used
	runs    map[*node]*aheadRun
	trusted bool          // the last runs were used: the first open in a directory starts one
	backoff time.Duration // doubles with each run in vain
	resume  time.Time     // no run before
	closed  bool
}

// aheadRun opens the files of one directory.
type aheadRun struct {
	r      *Root
	parent *node
	expiry *time.Timer // ends the run when it is not used for a while

	mu      sync.Mutex // guards what follows; one batch is opened at a time
	row     []string   // the names last opened that were not open, since rowUsed files were used
	rowUsed int64
	astray  int      // rows in no order, since then too
	listed  []string // the names of the directory's files
	names   aheadSequence
	taken   []bool  // which of the names have been opened ahead, or asked for
	next    int     // where the next batch begins
	size    int     // of it
	held    []*file // what was opened; a file that waits to be used has its ahead set
	opened  int
	ended   bool
	vain    bool // to be ended: the opens do not follow the names, or the key service says no to all

	order   atomic.Int32 // an aheadOrder: that of the names, likely at first
	used    atomic.Int64
	unused  atomic.Int64 // opened less used
	lastUse atomic.Int64 // in nanoseconds since 1970
	behind  atomic.Bool  // a batch is being opened in the background
	all     atomic.Bool  // every file of the directory has been taken
}

// opensAhead reports whether this mount opens files ahead at all. Where each
// caller is decided on, nobody knows who will come.
func (r *Root) opensAhead() bool {
	return r.keys.perFile() && r.opts.KeyCacheTTL >= aheadWait && r.opts.Authorize == AuthorizeVolume
}

// toCome reports whether a file is not open, or is just being opened by a run: who did
// not wait for that would ask for its key a second time.
func (n *node) toCome() bool {
	f := n.file.Load()
	return f == nil || f.coming.Load()
}

// willOpen tells of an open of n, which is to come; other files may be opened
// with it.
func (r *Root) willOpen(n *node) {
	if !r.opensAhead() {
		return
	}
	r.tree.RLock()
	if len(n.names) != 1 {
		r.tree.RUnlock()
		return
	}
	at := n.names[0]
	run, stalest := r.ahead.runFor(r, n, &at)
	r.tree.RUnlock()
	if stalest != nil {
		stalest.end()
	}
	if run != nil {
		run.mu.Lock() // waits for a batch that is being opened: n may be in it
		if n.file.Load() == nil {
			run.openFrom(n, at.name)
		}
		vain := run.vain
		run.mu.Unlock()
		if vain {
			run.end()
		}
	}
}

// runFor returns the run in a directory of which a file is being opened, or nil
// if there is, as yet, no reason for one; and one that is to end for it.
// Holds: tree, shared.
func (a *openAhead) runFor(r *Root, n *node, ref *nameRef) (run, stalest *aheadRun) {
	parent := ref.parent
	a.mu.Lock()
	defer a.mu.Unlock()
	if run := a.runs[parent]; run != nil {
		return run, nil
	}
	if a.parent != parent {
		a.parent, a.row = parent, nil
	}
	if a.last != n {
		a.last = n
		a.row = appendRow(a.row, ref.name)
	}
	if len(a.row) < aheadAfter && !a.trusted {
		return nil, nil
	}
	if time.Now().Before(a.resume) || a.closed {
		return nil, nil
	}
	if len(a.runs) >= aheadRuns {
		for _, run := range a.runs {
			if stalest == nil || run.lastUse.Load() < stalest.lastUse.Load() {
				stalest = run
			}
		}
	}
	run = &aheadRun{r: r, parent: parent, size: aheadFirst, row: slices.Clone(a.row)}
	run.order.Store(int32(a.order))
	run.expiry = time.AfterFunc(aheadWait, run.expire)
	if a.runs == nil {
		a.runs = map[*node]*aheadRun{}
	}
	a.runs[parent] = run
	parent.refs.Add(1)
	r.stopped.Add(1) // until end
	run.lastUse.Store(time.Now().UnixNano())
	return run, stalest
}

// openFrom opens a batch that begins with name, n's, unless it was in one
// before. Holds: run.mu.
func (run *aheadRun) openFrom(n *node, name string) {
	if run.ended {
		return
	}
	inOrder := run.findOrder(name)
	at, found := run.names.at[name]
	if !found {
		return
	}
	run.next = at
	if run.taken[at] {
		return
	}
	if run.unused.Load() >= aheadUnused || run.astray >= aheadAstray {
		run.vain = true
		return
	}
	if !inOrder {
		return
	}
	run.openNext()
	if f := n.file.Load(); f != nil && f.ahead.Load() == run {
		// This one was not opened ahead of anything.
		run.opened--
		run.used.Add(-1)
	}
}

// findOrder sees to it that the names are in the order in which files are being
// opened. It reports whether the open of name belongs to that, as far as is known.
// Holds: run.mu.
func (run *aheadRun) findOrder(name string) bool {
	if run.listed == nil {
		run.listed = run.list()
		run.setNames(sequenceOf(run.listed, run.row, aheadOrder(run.order.Load())))
		return run.inOrder()
	}
	if _, known := run.names.at[name]; !known {
		return false // made since
	}
	if used := run.used.Load(); used != run.rowUsed {
		run.row, run.rowUsed, run.astray = nil, used, 0
	}
	run.row = appendRow(run.row, name)
	if inOrder := run.inOrder(); inOrder || len(run.row) < aheadAfter {
		return inOrder
	}
	s, ok := otherSequence(run.listed, run.row, run.names.order)
	if ok {
		run.setNames(s)
	} else {
		run.astray++
	}
	run.row = nil // not at each open, if there is no order
	return ok
}

// inOrder reports whether the names last opened are in order. One alone is, unless
// those before were not. Holds: run.mu.
func (run *aheadRun) inOrder() bool {
	if len(run.row) < 2 {
		return run.astray == 0
	}
	return run.names.follows(run.row)
}

// setNames puts the names into another order. Holds: run.mu.
func (run *aheadRun) setNames(s aheadSequence) {
	taken := make([]bool, len(s.names))
	for i, name := range run.names.names {
		taken[s.at[name]] = run.taken[i]
	}
	run.names, run.taken = s, taken
	run.order.Store(int32(s.order))
}

// appendRow adds a name to the last that were opened.
func appendRow(row []string, name string) []string {
	if len(row) > 0 && row[len(row)-1] == name {
		return row
	}
	row = append(row, name)
	return row[max(0, len(row)-aheadAfter):]
}

// openNext opens a batch. Behind the last name comes the first. Holds: run.mu.
func (run *aheadRun) openNext() {
	names := run.names.names
	var batch []string
	for range names {
		if len(batch) == run.size {
			break
		}
		if !run.taken[run.next] {
			run.taken[run.next] = true
			batch = append(batch, names[run.next])
		}
		run.next = (run.next + 1) % len(names)
	}
	if len(batch) > 0 {
		run.open(batch)
		run.size = min(2*run.size, aheadBatch)
		run.lastUse.Store(time.Now().UnixNano()) // the key service may have taken its time
	}
	run.all.Store(!slices.Contains(run.taken, false))
}

// use takes a file over from the run that opened it.
func (f *file) use() {
	run := f.ahead.Swap(nil)
	if run == nil {
		return
	}
	f.r.letGo(f)
	run.lastUse.Store(time.Now().UnixNano())
	used, unused := run.used.Add(1), run.unused.Add(-1)
	if used == aheadFirst/2 {
		run.r.ahead.trust(aheadOrder(run.order.Load()))
	}
	if run.all.Load() {
		if unused == 0 {
			run.end()
		}
		return
	}
	if unused <= aheadBatch/2 && used > aheadFirst/2 && run.behind.CompareAndSwap(false, true) {
		run.r.stopped.Add(1) // not too late: Close comes after the last open
		go func() {
			defer run.r.stopped.Done()
			defer run.behind.Store(false)
			run.mu.Lock()
			defer run.mu.Unlock()
			if !run.ended {
				run.openNext()
			}
		}()
	}
}

// abandon closes a file that was opened ahead and is removed, so that its
// blocks are free. Holds nothing.
func (f *file) abandon() {
	if run := f.ahead.Swap(nil); run != nil {
		run.unused.Add(-1)
		f.r.letGo(f)
	}
}

// trust takes a run that is being used for a sign of others to come.
func (a *openAhead) trust(o aheadOrder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trusted, a.backoff, a.order = true, 0, o
}

// expire ends the run if it has not been used for a while.
func (run *aheadRun) expire() {
	run.mu.Lock() // not while a batch is being opened
	left := aheadWait - time.Since(time.Unix(0, run.lastUse.Load()))
	run.mu.Unlock()
	if left > 0 {
		run.expiry.Reset(left)
		return
	}
	run.end()
}

// end closes what was not used. Runs in vain become rarer.
func (run *aheadRun) end() {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.ended {
		return
	}
	run.ended = true
	run.expiry.Stop()
	for _, f := range run.held {
		if f.ahead.CompareAndSwap(run, nil) {
			run.r.letGo(f)
		}
	}
	run.r.log.Debug("opened files ahead", "ino", run.parent.ino, "opened", run.opened, "used", run.used.Load())
	run.r.ahead.ended(run)
	run.r.unref(run.parent)
	run.r.stopped.Done()
}

func (a *openAhead) ended(run *aheadRun) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.runs, run.parent)
	if a.parent == run.parent {
		a.row = nil
	}
	if run.vain || int(run.used.Load()) < run.opened/4 {
		a.trusted = false
		a.backoff = min(max(2*a.backoff, aheadWait), aheadMaxBackoff)
		a.resume = time.Now().Add(a.backoff)
	}
}

// close ends all runs.
func (a *openAhead) close() {
	a.mu.Lock()
	a.closed = true
	runs := slices.Collect(maps.Values(a.runs))
	a.mu.Unlock()
	for _, run := range runs {
		run.end()
	}
}

// list returns the names of the directory's files, as it lists them.
func (run *aheadRun) list() []string {
	r := run.r
	d, list, err := r.listDir(run.parent)
	if err != nil {
		return nil
	}
	defer r.release1(d)
	defer list.Close()
	var all []string
	for len(all) < aheadNames {
		e, more, err := list.Next()
		if err != nil || !more {
			return all
		}
		if e.Type != unix.S_IFREG {
			continue
		}
		if name, stored, ok := r.plainName(d, e.Name); ok && stored != nil {
			all = append(all, name)
		}
	}
	return []string{} // too many
}

// aheadFile is a file of a batch: how its key is wrapped, and for which path it
// is wanted.
type aheadFile struct {
	*file
	from, to string
	wrapped  []byte
	items    int // of the request that are for it
}

// open opens a batch of files, as far as they are not open and let themselves
// be opened. Holds: run.mu.
func (run *aheadRun) open(batch []string) {
	r := run.r
	var begun []*file
	for _, name := range batch {
		if f := run.begin(name); f != nil {
			begun = append(begun, f)
		}
	}
	attached := 0
	var files []aheadFile // those whose keys are to be asked for
	var items []kmsapi.BatchItem
	for _, f := range begun {
		f, ok := run.attach(f)
		if !ok {
			continue
		}
		attached++
		if key, asked := r.keys.cached(f.hdr.FileID, f.wrapped, f.from, f.to, theMount); key != nil {
			run.keep(f, f.wrapped, key, asked)
			continue
		}
		its := r.keys.opening(f.wrapped, f.from, f.to, theMount)
		f.items = len(its)
		files, items = append(files, f), append(items, its...)
	}
	if len(files) > 0 {
		run.ask(files, items)
	}
	for _, f := range begun {
		f.coming.Store(false)
	}
	if attached > 0 && run.opened == 0 {
		run.vain = true
	}
}

// ask has the key service decide on files, for which items ask. Holds: run.mu.
func (run *aheadRun) ask(files []aheadFile, items []kmsapi.BatchItem) {
	r, asked := run.r, time.Now()
	results, err := ask(context.Background(), r.keys.svc, items)
	if err != nil {
		for _, f := range files {
			r.letGo(f.file)
		}
		run.vain = true
		return // an open will say what is wrong
	}
	for _, f := range files {
		wrapped, key, err := r.keys.opened(results[:f.items], f.hdr.FileID, f.wrapped, f.to, theMount, asked)
		results = results[f.items:]
		if err != nil {
			r.letGo(f.file)
			continue
		}
		run.keep(f, wrapped, key, asked)
	}
}

// keep leaves a file to the next open, or closes it if that cannot be. Holds: run.mu.
func (run *aheadRun) keep(f aheadFile, wrapped []byte, key *secret.Buffer, asked time.Time) {
	defer key.Free()
	if err := run.unlock(f, wrapped, key, asked); err != nil {
		run.r.letGo(f.file)
	}
}

// aheadBytes is how much of a file the disk is asked for when it is opened ahead.
const aheadBytes = 128 << 10

// begin opens a file's backing file and has the disk fetch what will be read of
// it. The disk works on those of a whole batch at the same time.
func (run *aheadRun) begin(name string) *file {
	r := run.r
	var st unix.Stat_t
	n, err := r.lookup(run.parent, name, 1, &st)
	if err != nil {
		return nil
	}
	var f *file
	// Where its mode keeps the worker out, opening it would change it.
	open := os.Geteuid() == 0 || st.Mode&0o600 == 0o600
	if n.isRegular() && n.file.Load() == nil && open {
		r.tree.RLock()
		if len(n.names) == 1 && n.names[0].parent == run.parent {
			f, _ = r.openAt(n, &n.names[0], accessRead)
		}
		r.tree.RUnlock()
	}
	if f == nil {
		r.Forget(n.id, 1)
		return nil
	}
	backing.WillNeed(f.fd, 0, min(f.size, aheadBytes))
	return f // with its node's lookup, until attach
}

// attach verifies a file that was begun and makes it its node's.
func (run *aheadRun) attach(f *file) (a aheadFile, ok bool) {
	r, n := run.r, f.n
	defer r.Forget(n.id, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	r.tree.RLock()
	// Somebody may have opened, changed, moved or linked it since.
	var st unix.Stat_t
	ok = n.file.Load() == nil && n.hasNameLocked(f.at.parent, f.at.stored.Name) &&
		backing.Fstat(f.fd, &st) == nil && st.Size == f.size && f.single == (st.Nlink == 1) && f.verify() == nil
	r.tree.RUnlock()
	if !ok {
		f.closeLocked()
		return a, false
	}
	f.refs = 1
	f.coming.Store(true)
	n.file.Store(f)
	return aheadFile{file: f, from: f.path, to: f.wrappingNow(), wrapped: f.wrapped}, true
}

// unlock makes f's content readable and leaves it to the next open.
// Holds: run.mu.
func (run *aheadRun) unlock(f aheadFile, wrapped []byte, key *secret.Buffer, asked time.Time) error {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	run.r.tree.RLock()
	gone := len(f.n.names) == 0
	run.r.tree.RUnlock()
	if gone || f.cipher != nil || f.path != f.from {
		return errAheadUseless // somebody was faster
	}
	if err := f.accept(wrapped, f.to, theMount, asked); err != nil {
		return err
	}
	if err := f.file.unlock(key); err != nil {
		return err
	}
	run.r.prefillLocked(f.file)
	f.tellResized() // it may be closed unused
	run.held = append(run.held, f.file)
	run.opened++
	run.unused.Add(1)
	f.ahead.Store(run)
	return nil
}

var errAheadUseless = errors.New("opened or removed meanwhile")
