package grant_test

import (
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
)

type pairs = map[string]string

func subset(p pairs) grant.Constraint { return grant.NewConstraint(p, nil) }
func equals(p pairs) grant.Constraint { return grant.NewConstraint(nil, p) }

func TestNewConstraint(t *testing.T) {
	for _, c := range []struct {
		subset, equals pairs
		want           grant.Kind
	}{
		{nil, nil, grant.Unconstrained},
		{pairs{}, nil, grant.Unconstrained},
		{nil, pairs{}, grant.Equals},
		{pairs{"a": "1"}, nil, grant.Subset},
		{nil, pairs{"a": "1"}, grant.Equals},
	} {
		if got := grant.NewConstraint(c.subset, c.equals); got.Kind != c.want {
			t.Errorf("subset %v, equals %v: kind %q, not %q", c.subset, c.equals, got.Kind, c.want)
		}
	}
	given := pairs{"a": "1"}
	c := subset(given)
	given["a"] = "2"
	if !c.Matches(pairs{"a": "1"}) {
		t.Error("a constraint changes with the map it was made of")
	}
}

func TestConstraintMatches(t *testing.T) {
	const yes, no = true, false
	for _, c := range []struct {
		name       string
		constraint grant.Constraint
		context    pairs
		want       bool
	}{
		{"none, any", grant.Constraint{}, pairs{"a": "1"}, yes},
		{"none, nothing", grant.Constraint{}, nil, yes},
		{"subset, the same", subset(pairs{"a": "1"}), pairs{"a": "1"}, yes},
		{"subset, more", subset(pairs{"a": "1"}), pairs{"a": "1", "b": "2"}, yes},
		{"subset, less", subset(pairs{"a": "1", "b": "2"}), pairs{"a": "1"}, no},
		{"subset, nothing", subset(pairs{"a": "1"}), nil, no},
		{"subset, another value", subset(pairs{"a": "1"}), pairs{"a": "2"}, no},
		{"subset, another key", subset(pairs{"a": "1"}), pairs{"b": "1"}, no},
		{"subset, key in other case", subset(pairs{"Dept": "IT"}), pairs{"dEPT": "IT"}, yes},
		{"subset, value in other case", subset(pairs{"Dept": "IT"}), pairs{"Dept": "it"}, no},
		{"subset, key and value swapped", subset(pairs{"a": "b"}), pairs{"b": "a"}, no},
		{"subset, joined", subset(pairs{"ab": "c"}), pairs{"a": "bc"}, no},
		{"subset, empty value", subset(pairs{"a": ""}), pairs{"a": ""}, yes},
		{"subset, empty value for another", subset(pairs{"a": ""}), pairs{"b": ""}, no},
		{"subset, key twice with both values", subset(pairs{"a": "1"}), pairs{"a": "1", "A": "2"}, no},
		{"subset, key twice, exact one differs", subset(pairs{"a": "1"}), pairs{"a": "2", "A": "1"}, no},
		{"subset, key twice with one value", subset(pairs{"a": "1"}), pairs{"a": "1", "A": "1"}, yes},
		{"subset that has the key twice", subset(pairs{"a": "1", "A": "2"}), pairs{"a": "1", "A": "2"}, yes},
		{"subset that has the key twice, once", subset(pairs{"a": "1", "A": "2"}), pairs{"a": "1"}, no},
		{"subset, other letters", subset(pairs{"straße": "1"}), pairs{"STRASSE": "1"}, no},
		{"subset, other alphabets fold", subset(pairs{"ключ": "1"}), pairs{"КЛЮЧ": "1"}, yes},
		{"subset, the Kelvin sign is a k", subset(pairs{"\u212a": "1"}), pairs{"k": "1"}, yes},
		{"subset, bytes that are no UTF-8", subset(pairs{"\xff": "1"}), pairs{"\xfe": "1"}, no},
		{"subset, bytes that are no UTF-8, and the sign for such", subset(pairs{"\xff": "1"}), pairs{"\ufffd": "1"}, no},
		{"subset, that sign, and such bytes", subset(pairs{"\ufffd": "1"}), pairs{"\xff": "1"}, no},
		{"subset, the same bytes", subset(pairs{"\xff": "1"}), pairs{"\xff": "1"}, yes},
		{"equals, the same", equals(pairs{"a": "1", "b": "2"}), pairs{"b": "2", "a": "1"}, yes},
		{"equals, more", equals(pairs{"a": "1"}), pairs{"a": "1", "b": "2"}, no},
		{"equals, less", equals(pairs{"a": "1", "b": "2"}), pairs{"a": "1"}, no},
		{"equals, nothing", equals(pairs{"a": "1"}), nil, no},
		{"equals, another value", equals(pairs{"a": "1"}), pairs{"a": "2"}, no},
		{"equals, key in other case", equals(pairs{"A": "1"}), pairs{"a": "1"}, yes},
		{"equals, as many but others", equals(pairs{"a": "1", "A": "1"}), pairs{"a": "1", "b": "2"}, no},
		{"equals nothing, nothing", equals(pairs{}), nil, yes},
		{"equals nothing, empty", equals(pairs{}), pairs{}, yes},
		{"equals nothing, something", equals(pairs{}), pairs{"a": "1"}, no},
	} {
		if got := c.constraint.Matches(c.context); got != c.want {
			t.Errorf("%s: %v for %v is %v", c.name, c.constraint, c.context, got)
		}
	}
}

func TestConstraintOfChild(t *testing.T) {
	const yes, no = true, false
	none := grant.Constraint{}
	for _, c := range []struct {
		name          string
		parent, child grant.Constraint
		want          bool
	}{
		{"none of none", none, none, yes},
		{"subset of none", none, subset(pairs{"a": "1"}), yes},
		{"equals of none", none, equals(pairs{}), yes},
		{"none of subset", subset(pairs{"a": "1"}), none, no},
		{"the same subset", subset(pairs{"a": "1"}), subset(pairs{"a": "1"}), yes},
		{"the same in other case", subset(pairs{"a": "1"}), subset(pairs{"A": "1"}), yes},
		{"a larger subset", subset(pairs{"a": "1"}), subset(pairs{"a": "1", "b": "2"}), yes},
		{"a smaller subset", subset(pairs{"a": "1", "b": "2"}), subset(pairs{"a": "1"}), no},
		{"another subset", subset(pairs{"a": "1"}), subset(pairs{"b": "1"}), no},
		{"equals of subset", subset(pairs{"a": "1"}), equals(pairs{"a": "1"}), yes},
		{"a larger equals of subset", subset(pairs{"a": "1"}), equals(pairs{"a": "1", "b": "2"}), yes},
		{"equals nothing of subset", subset(pairs{"a": "1"}), equals(pairs{}), no},
		{"none of equals", equals(pairs{"a": "1"}), none, no},
		{"none of equals nothing", equals(pairs{}), none, no},
		{"subset of equals", equals(pairs{"a": "1"}), subset(pairs{"a": "1"}), no},
		{"the same equals", equals(pairs{"a": "1"}), equals(pairs{"a": "1"}), yes},
		{"a larger equals of equals", equals(pairs{"a": "1"}), equals(pairs{"a": "1", "b": "2"}), no},
		{"a smaller equals of equals", equals(pairs{"a": "1", "b": "2"}), equals(pairs{"a": "1"}), no},
		{"a key twice, the second way wider", subset(pairs{"a": "1"}), subset(pairs{"a": "1", "A": "2"}), no},
	} {
		if got := c.parent.Permits(c.child); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestChildIsNeverWider: what a permitted child lets through, its parent does.
func TestChildIsNeverWider(t *testing.T) {
	var contexts []pairs
	for _, a := range []string{"", "1", "2"} {
		for _, upper := range []string{"", "1", "2"} {
			for _, b := range []string{"", "1"} {
				p := pairs{}
				for k, v := range (pairs{"a": a, "A": upper, "b": b}) {
					if v != "" {
						p[k] = v
					}
				}
				contexts = append(contexts, p)
			}
		}
	}
	constraints := []grant.Constraint{{}}
	for _, p := range contexts {
		constraints = append(constraints, subset(p), equals(p))
	}
	permitted := 0
	for _, parent := range constraints {
		for _, child := range constraints {
			if !parent.Permits(child) {
				continue
			}
			permitted++
			for _, c := range contexts {
				if child.Matches(c) && !parent.Matches(c) {
					t.Errorf("%v permits %v, which lets %v through", parent, child, c)
				}
			}
		}
	}
	if permitted < 100 {
		t.Errorf("only %d pairs were compared", permitted)
	}
}
