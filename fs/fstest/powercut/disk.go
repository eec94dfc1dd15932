package powercut

import (
	"encoding/gob"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

// pageSize is the unit that a disk writes whole, and the unit of the page
// cache.
const pageSize = 4096

// Load reads a recording.
func Load(name string) ([]Event, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var events []Event
	return events, gob.NewDecoder(f).Decode(&events)
}

// State is one directory that a power cut may leave.
type State struct {
	Cut     int // the recording's length when the power went
	Ordered int // ordered events before this one persisted, later ones did not
	inodes  map[uint64]*inode
}

type inode struct {
	id             uint64
	mode, uid, gid uint32
	rdev           uint64
	target         string
	xattrs         map[string][]byte
	entries        map[string]uint64 // of a directory
	file           file
}

// Choice is how a state is chosen among those possible at one cut.
type Choice int

// The choices. At random picks, for each page, any version it had since it
// was last durable.
const (
	Everything      Choice = iota // all that was issued persisted
	Nothing                       // only what barriers made durable
	NamesOnly                     // all ordered events, no data
	DataOnly                      // all data, only the durable ordered events
	OnePageLost                   // one page is not there
	OnePageThere                  // one page is there of all
	AtRandom                      // any subset
	numberOfChoices = iota
)

// New makes one of the states in which a cut after the first cut events may
// leave the disk.
func New(events []Event, cut int, choice Choice, rng *rand.Rand) *State {
	barriers := analyse(events[:cut])
	s := &State{Cut: cut, Ordered: barriers.ordered, inodes: map[uint64]*inode{
		RootID: {id: RootID, mode: unix.S_IFDIR | 0o755, entries: map[string]uint64{}},
	}}
	switch choice {
	case Everything, NamesOnly:
		s.Ordered = cut
	case Nothing, DataOnly:
	default:
		s.Ordered += rng.IntN(cut - s.Ordered + 1)
	}
	for i := range s.Ordered {
		s.apply(&events[i])
	}
	for i := range cut {
		e := &events[i]
		if n := s.inodes[e.ID]; n != nil && n.mode&unix.S_IFMT == unix.S_IFREG {
			n.file.apply(e, i < s.Ordered, i < barriers.synced(e.ID))
		}
	}
	s.choosePages(choice, rng)
	return s
}

// barriers is what the syncs of a recording made durable.
type barriers struct {
	ordered int            // events before this one, if ordered
	files   map[uint64]int // data and size of a file, from events before this one
	all     int            // of every file
}

func (b *barriers) synced(id uint64) int { return max(b.all, b.files[id]) }

func analyse(events []Event) *barriers {
	b := &barriers{files: map[uint64]int{}}
	allocated := map[uint64]int{} // after the last change of a file's allocation
	sizes := map[uint64]int64{}
	for i := range events {
		e := &events[i]
		switch e.Kind {
		case Create, Punch:
			allocated[e.ID] = i + 1
		case Truncate, Grow:
			allocated[e.ID] = i + 1
			sizes[e.ID] = e.Size
		case Write:
			if end := e.Off + int64(len(e.Data)); end > sizes[e.ID] {
				sizes[e.ID] = end
				allocated[e.ID] = i + 1
			}
		case FileSync:
			b.ordered = max(b.ordered, e.Began)
			b.files[e.ID] = e.Began
		case DataSync:
			b.ordered = max(b.ordered, allocated[e.ID])
			b.files[e.ID] = e.Began
		case SyncAll:
			b.ordered, b.all = max(b.ordered, e.Began), max(b.all, e.Began)
		}
	}
	return b
}

// apply does an ordered event to names and attributes.
func (s *State) apply(e *Event) {
	switch e.Kind {
	case Create:
		n := &inode{id: e.ID, mode: e.Mode, uid: e.UID, gid: e.GID, rdev: e.Rdev, target: e.Name2}
		if e.Mode&unix.S_IFMT == unix.S_IFDIR {
			n.entries = map[string]uint64{}
		}
		s.inodes[e.ID] = n
		s.inodes[e.Parent].entries[e.Name] = e.ID
	case Link:
		s.inodes[e.Parent].entries[e.Name] = e.ID
	case Unlink:
		delete(s.inodes[e.Parent].entries, e.Name)
	case Rename:
		from, to := s.inodes[e.Parent].entries, s.inodes[e.Parent2].entries
		a, b := from[e.Name], to[e.Name2]
		if a == b {
			return // two names of one file: rename does nothing
		}
		to[e.Name2] = a
		if e.Flags&unix.RENAME_EXCHANGE != 0 {
			from[e.Name] = b
		} else {
			delete(from, e.Name)
		}
	case Chmod:
		n := s.inodes[e.ID]
		n.mode = n.mode&unix.S_IFMT | e.Mode&0o7777
	case Chown:
		n := s.inodes[e.ID]
		n.uid, n.gid = e.UID, e.GID
	case SetXattr:
		n := s.inodes[e.ID]
		n.xattrs = maps.Clone(n.xattrs)
		if n.xattrs == nil {
			n.xattrs = map[string][]byte{}
		}
		n.xattrs[e.Name] = e.Data
	case DelXattr:
		delete(s.inodes[e.ID].xattrs, e.Name)
	}
}

// choosePages picks a version of every page and of every size.
func (s *State) choosePages(choice Choice, rng *rand.Rand) {
	// In the order of ids, so that a seed means one state.
	var files []*file
	pages := 0
	for id := uint64(1); id <= s.lastID(); id++ {
		if n := s.inodes[id]; n != nil && n.mode&unix.S_IFMT == unix.S_IFREG {
			files = append(files, &n.file)
			pages += n.file.undecided()
		}
	}
	odd := -1
	if pages > 0 {
		odd = rng.IntN(pages)
	}
	at := 0
	for _, f := range files {
		f.chooseSize(choice, rng)
		for _, index := range f.indexes() {
			p := f.pages[index]
			newest := len(p.versions) - 1
			if newest == 0 {
				continue
			}
			switch choice {
			case Everything, DataOnly:
				p.chosen = newest
			case Nothing, NamesOnly:
				p.chosen = 0
			case OnePageLost:
				p.chosen = newest
				if at == odd {
					p.chosen = rng.IntN(newest)
				}
			case OnePageThere:
				p.chosen = 0
				if at == odd {
					p.chosen = 1 + rng.IntN(newest)
				}
			default:
				p.chosen = rng.IntN(newest + 1)
			}
			at++
		}
	}
}

func (s *State) lastID() uint64 {
	var last uint64
	for id := range s.inodes {
		last = max(last, id)
	}
	return last
}

func (s *State) String() string {
	return fmt.Sprintf("cut after %d events, ordered ones persisted before %d", s.Cut, s.Ordered)
}

// RandomChoice picks a choice.
func RandomChoice(rng *rand.Rand) Choice { return Choice(rng.IntN(numberOfChoices)) }
