package grant

import "slices"

// grantee is the grants of one principal on one key, placed so that a request looks
// at few of them: a service may have tens of thousands, each for another
// encryption context.
//
// A grant with a constraint is found by one pair of it, which a request that
// satisfies it must have. Of its pairs that is the one that the fewest grants had
// when it was added: {"app": "db", "volume": "7"} is found by its volume.
type grantee struct {
	anyContext bucket // no pair is needed
	byPair     map[pair]*bucket
	placed     map[*Grant]pair // only of those in byPair that had a choice
}

type pair struct{ key, value string } // the key folded

// bucket holds grants by their operations, so that one for another operation is
// not looked at.
type bucket []group

type group struct {
	operations Operations
	grants     []*Grant
}

func (b *bucket) add(operations Operations, g *Grant) {
	i := slices.IndexFunc(*b, func(p group) bool { return p.operations == operations })
	if i < 0 {
		i = len(*b)
		*b = append(*b, group{operations: operations})
	}
	(*b)[i].grants = append((*b)[i].grants, g)
}

func (b *bucket) remove(operations Operations, g *Grant) {
	i := slices.IndexFunc(*b, func(p group) bool { return p.operations == operations })
	grants := &(*b)[i].grants
	at := slices.Index(*grants, g)
	if *grants = slices.Delete(*grants, at, at+1); len(*grants) == 0 {
		*b = slices.Delete(*b, i, i+1)
	}
}

func (b bucket) find(one Operations, covers func(*Grant) bool) *Grant {
	for _, p := range b {
		if p.operations&one == 0 {
			continue
		}
		for _, g := range p.grants {
			if covers(g) {
				return g
			}
		}
	}
	return nil
}

func (b bucket) size() (n int) {
	for _, p := range b {
		n += len(p.grants)
	}
	return n
}

func (t *grantee) add(g *Grant) {
	if len(g.Constraint.Pairs) == 0 {
		t.anyContext.add(g.Operations, g)
		return
	}
	if free := g.Operations & withoutContext; free != 0 {
		t.anyContext.add(free, g)
	}
	p := t.choose(g)
	b := t.byPair[p]
	if b == nil {
		if t.byPair == nil {
			t.byPair, t.placed = map[pair]*bucket{}, map[*Grant]pair{}
		}
		b = new(bucket)
		t.byPair[p] = b
	}
	b.add(g.Operations&^withoutContext, g)
	if len(g.Constraint.Pairs) > 1 {
		t.placed[g] = p
	}
}

// choose is the pair of g that the fewest grants are found by.
func (t *grantee) choose(g *Grant) (best pair) {
	least := -1
	for k, v := range g.Constraint.Pairs {
		p := pair{foldKey(k), v}
		n := 0
		if b := t.byPair[p]; b != nil {
			n = b.size()
		}
		if least < 0 || n < least {
			best, least = p, n
		}
	}
	return best
}

func (t *grantee) remove(g *Grant) {
	if len(g.Constraint.Pairs) == 0 {
		t.anyContext.remove(g.Operations, g)
		return
	}
	if free := g.Operations & withoutContext; free != 0 {
		t.anyContext.remove(free, g)
	}
	p, chosen := t.placed[g]
	if !chosen {
		p = t.choose(g) // it has one pair only
	}
	delete(t.placed, g)
	b := t.byPair[p]
	b.remove(g.Operations&^withoutContext, g)
	if len(*b) == 0 {
		delete(t.byPair, p)
	}
}

func (t *grantee) empty() bool { return len(t.anyContext) == 0 && len(t.byPair) == 0 }

func (t *grantee) find(context map[string]string, one Operations, covers func(*Grant) bool) *Grant {
	if g := t.anyContext.find(one, covers); g != nil {
		return g
	}
	if len(t.byPair) == 0 {
		return nil
	}
	for k, v := range context {
		if b := t.byPair[pair{foldKey(k), v}]; b != nil {
			if g := b.find(one, covers); g != nil {
				return g
			}
		}
	}
	return nil
}
