package fs

import (
	"slices"

	"github.com/maruel/natural"
)

// aheadOrder is an order in which programs work through a directory.
type aheadOrder int

const (
	byName   aheadOrder = iota // shells' patterns, and what sorts a directory first
	asListed                   // readdir(3): find, cp -r, tar, grep -r
	byNumber                   // file-9 before file-10: loops that count
	aheadOrders
)

// sorted returns the names of a directory, which are as it lists them, in order o.
func (o aheadOrder) sorted(listed []string) []string {
	names := slices.Clone(listed)
	switch o {
	case byName:
		slices.Sort(names)
	case byNumber:
		slices.SortFunc(names, natural.Compare)
	}
	return names
}

// aheadStep is how far apart in the order two names may be that are opened one
// after the other: some files of a directory are passed over.
const aheadStep = 3

// aheadSequence is the names of a directory in the order of its opens.
type aheadSequence struct {
	order aheadOrder
	names []string
	at    map[string]int // where each is
}

func newSequence(o aheadOrder, listed []string) aheadSequence {
	s := aheadSequence{o, o.sorted(listed), make(map[string]int, len(listed))}
	for i, name := range s.names {
		s.at[name] = i
	}
	return s
}

// sequenceOf returns the names in an order that the names opened so far follow, or
// in likely, if there is none.
func sequenceOf(listed, opened []string, likely aheadOrder) aheadSequence {
	first := newSequence(likely, listed)
	if len(opened) < 2 || first.follows(opened) {
		return first
	}
	if s, ok := otherSequence(listed, opened, likely); ok {
		return s
	}
	return first
}

// otherSequence returns the names in an order, not but, that the names opened follow.
func otherSequence(listed, opened []string, but aheadOrder) (s aheadSequence, ok bool) {
	for o := range aheadOrders {
		if o == but {
			continue
		}
		if s = newSequence(o, listed); s.follows(opened) {
			return s, true
		}
	}
	return s, false
}

func (s *aheadSequence) follows(opened []string) bool {
	last, ok := s.at[opened[0]]
	for _, name := range opened[1:] {
		i, known := s.at[name]
		if !ok || !known || i <= last || i > last+aheadStep {
			return false
		}
		last = i
	}
	return ok
}
