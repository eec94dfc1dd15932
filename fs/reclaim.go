package fs

import (
	"sync"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
)

// reclaimer frees what removed files occupy. The filesystem below does that when the last
// reference to a file goes, and takes many times longer than for the name: so a
// handle of the file is kept when its name is removed, and closed in the background. The name
// is gone all the same before anybody is told, and a crash frees the file as it does one
// that was open.
//
// Nobody should find less space than there is: who asks how much is free waits for
// what is under way (drain), and where little is free nothing is put off.
type reclaimer struct {
	mu      sync.Mutex // guards what follows
	files   []removed
	bytes   int64     // that they, and the one being closed, occupy
	kept    uint64    // how many were kept so far
	closed  uint64    // and how many of them are closed
	closes  sync.Cond // one more is
	running bool      // a goroutine closes them
}

// removed is a file without a name.
type removed struct {
	handle int   // O_PATH
	bytes  int64 // that it occupies
}

const (
	// reclaimFiles bounds the files that wait, each of which takes a descriptor.
	reclaimFiles = 256
	// reclaimShare is how many times as much as waits has to be free besides: somebody may
	// remove files to have room for others.
	reclaimShare = 8
)

func (c *reclaimer) init() { c.closes.L = &c.mu }

// unlinkFile removes the name of what is no directory. st is what it was found to be.
func (r *Root) unlinkFile(d *dir, stored string, st *unix.Stat_t) error {
	return r.replaceFile(d, stored, st, func() error { return backing.Unlink(d.fd, stored) })
}

// replaceFile has remove take the name stored away from what st describes, or give it to
// something else.
func (r *Root) replaceFile(d *dir, stored string, st *unix.Stat_t, remove func() error) error {
	f := removed{-1, st.Blocks * 512} // stat(2) counts in these
	if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1 && r.mayWait(f.bytes) {
		// Whatever has been put in its place by now is only held for a moment.
		if handle, err := backing.Open(d.fd, stored, unix.O_PATH, 0); err == nil {
			f.handle = handle
		}
	}
	err := remove()
	if f.handle >= 0 {
		c := &r.reclaimer
		c.mu.Lock()
		c.files, c.kept, c.bytes = append(c.files, f), c.kept+1, c.bytes+f.bytes
		if !c.running {
			c.running = true
			r.stopped.Add(1)
			go r.reclaim()
		}
		c.mu.Unlock()
	}
	return err
}

// mayWait reports whether a file of so many bytes can be left to the background.
func (r *Root) mayWait(bytes int64) bool {
	var free unix.Statfs_t
	if unix.Fstatfs(r.rootfd, &free) != nil {
		return false
	}
	c := &r.reclaimer
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept-c.closed < reclaimFiles && (c.bytes+bytes)*reclaimShare < int64(free.Bavail)*free.Bsize
}

// reclaim closes what waits.
func (r *Root) reclaim() {
	defer r.stopped.Done()
	c := &r.reclaimer
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.files) > 0 {
		f := c.files[0]
		c.files = c.files[1:]
		c.mu.Unlock()
		backing.Close(f.handle)
		c.mu.Lock()
		c.closed, c.bytes = c.closed+1, c.bytes-f.bytes
		c.closes.Broadcast()
	}
	c.files, c.running = nil, false
}

// drain waits until what was removed before it is free.
func (c *reclaimer) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for before := c.kept; c.closed < before; {
		c.closes.Wait()
	}
}
