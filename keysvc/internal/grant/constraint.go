package grant

import (
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is a kind of constraint, as kms:GrantConstraintType tells it.
type Kind string

const (
	Unconstrained Kind = ""
	// Subset lets requests through whose encryption context has these pairs.
	Subset Kind = "EncryptionContextSubset"
	// Equals lets requests through whose encryption context is these pairs.
	Equals Kind = "EncryptionContextEquals"
)

// A Constraint is a condition on the encryption context. Its keys ignore letter
// case, its values do not. The zero Constraint is none.
type Constraint struct {
	Kind  Kind              `json:",omitempty"`
	Pairs map[string]string `json:",omitempty"`
}

// NewConstraint makes a constraint of the two members that the API has, of which
// one at most is given. One that is nil was not given, one that is empty was: Equals of
// no pairs is for requests without a context, Subset of none says nothing.
func NewConstraint(subset, equals map[string]string) Constraint {
	switch {
	case len(subset) > 0:
		return Constraint{Subset, maps.Clone(subset)}
	case equals != nil:
		return Constraint{Equals, maps.Clone(equals)}
	}
	return Constraint{}
}

// Matches tells whether the constraint lets a request with this encryption context
// through. A context may spell one key in two ways ({"a": "1", "A": "2"}), and a reader
// of it may look at either: the constraint must hold for both.
func (c Constraint) Matches(context map[string]string) bool {
	if c.Kind == Unconstrained {
		return true
	}
	for k, v := range c.Pairs {
		if _, found := look(context, k, v); !found {
			return false
		}
	}
	for k, v := range context {
		constrained, found := look(c.Pairs, k, v)
		if constrained && !found || c.Kind == Equals && !constrained {
			return false
		}
	}
	return true
}

// look tells whether pairs have the key in any spelling, and with the value in one.
func look(pairs map[string]string, key, value string) (hasKey, hasPair bool) {
	if v, ok := pairs[key]; ok && v == value {
		return true, true
	}
	for k, v := range pairs {
		if sameKey(k, key) {
			hasKey = true
			if v == value {
				return true, true
			}
		}
	}
	return hasKey, false
}

// Permits tells whether a child grant with the constraint child may be made by
// right of a grant with c: child must be as strict or stricter.
func (c Constraint) Permits(child Constraint) bool {
	if c.Kind == Equals && child.Kind != Equals {
		return false
	}
	return c.Matches(child.Pairs)
}

// sameKey compares two keys of encryption contexts. What is not UTF-8 equals only itself.
func sameKey(a, b string) bool {
	return a == b || utf8.ValidString(a) && utf8.ValidString(b) && strings.EqualFold(a, b)
}

// foldKey is the same for keys that sameKey calls the same, and for some others: it says
// where to look, not what is found.
func foldKey(key string) string {
	lower := true
	for i := range len(key) {
		lower = lower && key[i] < utf8.RuneSelf && (key[i] < 'A' || 'Z' < key[i])
	}
	if lower {
		return key
	}
	return strings.Map(func(r rune) rune {
		least := r
		for v := unicode.SimpleFold(r); v != r; v = unicode.SimpleFold(v) {
			least = min(least, v)
		}
		return unicode.ToLower(least)
	}, key)
}
