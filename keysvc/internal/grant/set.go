package grant

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A Set is the grants of one key. It may be used from many goroutines.
type Set struct {
	count atomic.Int64 // most keys have no grants, and need no lock to say so

	mu       sync.RWMutex // guards what follows
	sorted   []*Grant     // by ID
	grantees map[string]*grantee
	named    map[[sha256.Size]byte]*Grant // those with a name, by fingerprint
}

// ErrExists is what Add says about an id that is there.
var ErrExists = errors.New("there is a grant with this id")

// Len is how many grants there are.
func (s *Set) Len() int { return int(s.count.Load()) }

// Add adds g. It is fastest in the order of ids.
func (s *Set) Add(g *Grant) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := len(s.sorted), false
	if at > 0 && s.sorted[at-1].ID >= g.ID {
		at, found = s.at(g.ID)
	}
	if found {
		return ErrExists
	}
	if s.grantees == nil {
		s.grantees, s.named = map[string]*grantee{}, map[[sha256.Size]byte]*Grant{}
	}
	s.sorted = slices.Insert(s.sorted, at, g)
	of := s.grantees[g.Grantee.ID]
	if of == nil {
		of = new(grantee)
		s.grantees[g.Grantee.ID] = of
	}
	of.add(g)
	if g.Name != "" {
		s.named[g.fingerprint()] = g
	}
	s.count.Store(int64(len(s.sorted)))
	return nil
}

// Remove removes the grant with the id, if there is one.
func (s *Set) Remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := s.at(id)
	if !found {
		return
	}
	g := s.sorted[at]
	s.sorted = slices.Delete(s.sorted, at, at+1)
	of := s.grantees[g.Grantee.ID]
	of.remove(g)
	if of.empty() {
		delete(s.grantees, g.Grantee.ID)
	}
	if f := g.fingerprint(); s.named[f] == g {
		delete(s.named, f)
	}
	s.count.Store(int64(len(s.sorted)))
}

// All returns the grants in the order of their ids.
func (s *Set) All() []*Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.sorted)
}

// Get finds a grant by its id; nil is none.
func (s *Set) Get(id string) *Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if at, found := s.at(id); found {
		return s.sorted[at]
	}
	return nil
}

// Same finds a grant with a name that says the same as g, its name included; nil is
// none.
func (s *Set) Same(g *Grant) *Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.named[g.fingerprint()]
}

// List returns the grants that keep wants, in the order of their ids.
func (s *Set) List(keep func(*Grant) bool) []*Grant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*Grant
	for _, g := range s.sorted {
		if keep(g) {
			list = append(list, g)
		}
	}
	return list
}

// Find finds a grant that covers the caller doing the operation with this encryption
// context, and of several one with the farthest reach; nil is none.
func (s *Set) Find(c Caller, operation string, context map[string]string) (*Grant, Reach) {
	one := only(operation)
	if one == 0 {
		return nil, None
	}
	return s.find(c, context, one, func(g *Grant) bool { return g.Covers(operation, context) })
}

// FindParent finds a grant by right of which the caller may create child.
func (s *Set) FindParent(c Caller, child *Grant) (*Grant, Reach) {
	return s.find(c, child.Constraint.Pairs, only(CreateGrant), func(g *Grant) bool { return g.CoversChild(child) })
}

func (s *Set) find(c Caller, context map[string]string, one Operations, covers func(*Grant) bool) (*Grant, Reach) {
	if s.count.Load() == 0 {
		return nil, None
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, by := range [...]struct {
		id    string
		reach Reach
	}{{c.Self, Direct}, {c.Role, ByRole}, {c.Account, ByAccount}} {
		if by.id == "" {
			continue
		}
		if of := s.grantees[by.id]; of != nil {
			if g := of.find(context, one, covers); g != nil {
				return g, by.reach
			}
		}
	}
	return nil, None
}

func (s *Set) at(id string) (int, bool) {
	return slices.BinarySearchFunc(s.sorted, id, func(g *Grant, id string) int { return strings.Compare(g.ID, id) })
}
