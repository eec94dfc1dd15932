package powercut

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// file follows what of a file's data and size may be on the disk.
type file struct {
	pages map[int64]*page
	size  int64 // as programs saw it
	// sizes are the sizes that may be on disk. After an ordered change that
	// did not persist they grow no more: what came later did not either.
	sizes    []int64
	sizeDone bool
}

// page is the versions of one page that may be on disk, the oldest first; nil
// is zeros.
type page struct {
	now      []byte // as programs saw it
	versions [][]byte
	chosen   int
	// done: the page was dropped by an ordered change that did not persist.
	// What was written to it later went to other blocks, which nothing on disk
	// leads to.
	done bool
}

func (f *file) page(index int64) *page {
	if f.pages == nil {
		f.pages = map[int64]*page{}
	}
	p := f.pages[index]
	if p == nil {
		p = &page{versions: [][]byte{nil}}
		f.pages[index] = p
	}
	return p
}

// apply follows one event. persisted tells of an ordered event that it is on
// disk, synced of any event that the file was synced after it.
func (f *file) apply(e *Event, persisted, synced bool) {
	switch e.Kind {
	case Create:
		f.sizes = []int64{0}
	case Write:
		end := e.Off + int64(len(e.Data))
		for off := e.Off; off < end; {
			index, in := off/pageSize, off%pageSize
			n := min(pageSize-in, end-off)
			f.change(index, synced, func(b []byte) { copy(b[in:], e.Data[off-e.Off:off-e.Off+n]) })
			off += n
		}
		f.grow(max(f.size, end), synced)
	case Truncate:
		f.drop(e.Size, 1<<62, persisted, synced)
		f.setSize(e.Size, persisted)
	case Grow:
		f.setSize(e.Size, persisted)
	case Punch:
		f.drop(e.Off, e.Off+e.Size, persisted, synced)
	}
}

// change writes to a page in the page cache.
func (f *file) change(index int64, synced bool, write func([]byte)) {
	p := f.page(index)
	next := make([]byte, pageSize)
	copy(next, p.now)
	write(next)
	p.now = next
	switch {
	case synced:
		p.versions, p.done = [][]byte{next}, false
	case !p.done:
		p.versions = append(p.versions, next)
	}
}

// drop makes a range zeros: whole pages by giving up their blocks, which is
// an ordered change, and parts of pages by writing zeros.
func (f *file) drop(from, to int64, persisted, synced bool) {
	for _, index := range f.indexes() {
		start := index * pageSize
		p := f.pages[index]
		switch {
		case start+pageSize <= from || start >= to || p.now == nil && len(p.versions) == 1 && p.versions[0] == nil:
		case start >= from && start+pageSize <= to:
			p.now = nil
			if persisted {
				p.versions, p.done = [][]byte{nil}, false
			} else {
				p.done = true
			}
		default:
			f.change(index, synced, func(b []byte) {
				clear(b[max(from-start, 0):min(to-start, pageSize)])
			})
		}
	}
}

// grow is a write's growth, which persists when the disk likes.
func (f *file) grow(size int64, synced bool) {
	f.size = size
	switch {
	case synced:
		f.sizes, f.sizeDone = []int64{size}, false
	case !f.sizeDone && f.sizes[len(f.sizes)-1] != size:
		f.sizes = append(f.sizes, size)
	}
}

// setSize is an ordered change of the size.
func (f *file) setSize(size int64, persisted bool) {
	f.size = size
	if persisted {
		f.sizes, f.sizeDone = []int64{size}, false
	} else {
		f.sizeDone = true
	}
}

func (f *file) indexes() []int64 { return slices.Sorted(maps.Keys(f.pages)) }

// undecided counts the pages with more than one version.
func (f *file) undecided() int {
	n := 0
	for _, p := range f.pages {
		if len(p.versions) > 1 {
			n++
		}
	}
	return n
}

// chooseSize leaves the chosen size alone in sizes.
func (f *file) chooseSize(choice Choice, rng *rand.Rand) {
	if len(f.sizes) == 0 {
		f.sizes = []int64{0}
	}
	last := len(f.sizes) - 1
	chosen := rng.IntN(last + 1)
	switch choice {
	case Everything, OnePageLost:
		chosen = last
	case Nothing:
		chosen = 0
	}
	f.sizes = f.sizes[chosen : chosen+1]
}
