package policy

import (
	"reflect"
	"slices"
)

// Same tells whether two documents mean the same: everything is equal but the text,
// positions in it, and the order of conditions and of principals.
func Same(a, b *Document) bool {
	if a.kind != b.kind || a.version != b.version || a.id != b.id || len(a.statements) != len(b.statements) {
		return false
	}
	for i := range a.statements {
		s, t := a.statements[i], b.statements[i]
		if !sameSet(s.conditions, t.conditions) || !sameSet(unplaced(s.principals), unplaced(t.principals)) {
			return false
		}
		s.conditions, t.conditions, s.principals, t.principals = nil, nil, nil, nil
		s.Line, s.Column, t.Line, t.Column = 0, 0, 0, 0
		if !reflect.DeepEqual(s, t) {
			return false
		}
	}
	return true
}

// MaxRemembered is how many callers and actions a document remembers at most, and
// Remembers how many it does.
const MaxRemembered = maxCoverage

func (d *Document) Remembers() int { return len(d.coverage.found) }

func unplaced(list []principal) []principal {
	list = slices.Clone(list)
	for i := range list {
		list[i].off, list[i].Line, list[i].Column = 0, 0, 0
	}
	return list
}

func sameSet[T any](a, b []T) bool {
	b = slices.Clone(b)
	for _, x := range a {
		i := slices.IndexFunc(b, func(y T) bool { return reflect.DeepEqual(x, y) })
		if i < 0 {
			return false
		}
		b = slices.Delete(b, i, i+1)
	}
	return len(b) == 0
}
