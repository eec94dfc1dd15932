package systems

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/bench/procstat"
)

// hangTimeout is how long an interrupted workload may take to end.
const hangTimeout = 20 * time.Second

// family knows which processes descend from this one. Filesystems that put
// themselves into the background stay ours, because this process makes itself
// the reaper of its orphaned descendants: so their CPU time can be told, and
// none outlives the run.
type family struct {
	mu       sync.Mutex
	launched map[int]bool // children that an exec.Cmd waits for; guarded by mu
	claimed  map[int]bool // descendants that belong to a site; used by one goroutine
}

func newFamily() (*family, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the reaper of orphaned descendants: %w", err)
	}
	return &family{launched: make(map[int]bool), claimed: make(map[int]bool)}, nil
}

func (f *family) launch(pid int) { f.mu.Lock(); f.launched[pid] = true; f.mu.Unlock() }
func (f *family) waited(pid int) { f.mu.Lock(); delete(f.launched, pid); f.mu.Unlock() }

// claim tells whether pid belonged to no site, and makes it the caller's.
func (f *family) claim(pid int) bool {
	was := f.claimed[pid]
	f.claimed[pid] = true
	return !was
}

// members returns the living descendants of this process, by pid, and reaps
// the dead ones nobody else waits for.
func (f *family) members() (map[int]procstat.Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]procstat.Process)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it exited meanwhile
		}
		p, err := procstat.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("/proc/%s/stat: %w", e.Name(), err)
		}
		children[p.Parent] = append(children[p.Parent], p)
	}
	found := make(map[int]procstat.Process)
	queue := []int{os.Getpid()}
	for len(queue) > 0 {
		parent := queue[0]
		queue = queue[1:]
		for _, p := range children[parent] {
			queue = append(queue, p.PID)
			if p.Zombie {
				f.reap(p)
				continue
			}
			found[p.PID] = p
		}
	}
	return found, nil
}

func (f *family) reap(p procstat.Process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Parent == os.Getpid() && !f.launched[p.PID] {
		// Failure means that it is gone already, which is what is wanted.
		_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
	}
}

// breakHang is for an interrupted run: a workload that waits for a filesystem
// that answers no more never looks at the context. Killing the filesystem
// makes the kernel end the call, and the run goes on to its clean-up.
func (f *family) breakHang(ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-time.After(hangTimeout):
	}
	members, err := f.members()
	if err != nil {
		return // the clean-up meets the same error and reports it
	}
	for pid := range members {
		_ = unix.Kill(pid, unix.SIGKILL) // what exited meanwhile is fine
	}
}
