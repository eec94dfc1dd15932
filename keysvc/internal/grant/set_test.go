package grant_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
)

func add(t testing.TB, s *grant.Set, g grant.Grant) *grant.Grant {
	t.Helper()
	made := grant.New(g)
	if err := s.Add(made); err != nil {
		t.Fatal(err)
	}
	return made
}

func to(id string) grant.Principal { return grant.Principal{ID: id} }

func TestSetKeepsGrants(t *testing.T) {
	var s grant.Set
	if s.Len() != 0 || s.Get("x") != nil {
		t.Error("an empty set has something")
	}
	s.Remove("x")
	var ids []string
	for i := range 40 {
		g := add(t, &s, grant.Grant{Grantee: to(fmt.Sprint(i % 3)), Operations: operations(t, "Decrypt")})
		ids = append(ids, g.ID)
		if s.Get(g.ID) != g {
			t.Errorf("%s is not found", g.ID)
		}
	}
	if err := s.Add(s.Get(ids[7])); !errors.Is(err, grant.ErrExists) {
		t.Errorf("a second one of an id: %v", err)
	}
	slices.Sort(ids)
	if err := s.Add(s.Get(ids[39])); !errors.Is(err, grant.ErrExists) {
		t.Errorf("a second one of the last id: %v", err)
	}
	all := s.All()
	if !slices.EqualFunc(all, ids, func(g *grant.Grant, id string) bool { return g.ID == id }) || s.Len() != 40 {
		t.Error("the list is not what was added, in the order of ids")
	}
	of := s.List(func(g *grant.Grant) bool { return g.Grantee.ID == "1" })
	if len(of) != 13 {
		t.Errorf("%d grants of one grantee", len(of))
	}
	s.Remove(ids[3])
	s.Remove(ids[3])
	if s.Get(ids[3]) != nil || s.Len() != 39 {
		t.Error("a removed grant is there")
	}
	for _, g := range all {
		s.Remove(g.ID)
	}
	if s.Len() != 0 || s.Get(ids[4]) != nil || len(s.All()) != 0 {
		t.Error("an emptied set has something")
	}
	add(t, &s, grant.Grant{})
}

func TestSame(t *testing.T) {
	var s grant.Set
	base := grant.Grant{Name: "n", Grantee: to("a"), Retiring: to("r"), Operations: operations(t, "Decrypt"),
		Constraint: subset(pairs{"k": "v"}), Issuer: "000000000000"}
	first := add(t, &s, base)
	again := base
	again.Grantee.ARN = "the same one under another ARN"
	if s.Same(&again) != first {
		t.Error("a grant that says the same is not found")
	}
	for what, change := range map[string]func(*grant.Grant){
		"name":              func(g *grant.Grant) { g.Name = "m" },
		"grantee":           func(g *grant.Grant) { g.Grantee = to("b") },
		"retiring":          func(g *grant.Grant) { g.Retiring = to("") },
		"operations":        func(g *grant.Grant) { g.Operations = operations(t, "Encrypt") },
		"constraint kind":   func(g *grant.Grant) { g.Constraint = equals(pairs{"k": "v"}) },
		"constraint value":  func(g *grant.Grant) { g.Constraint = subset(pairs{"k": "w"}) },
		"constraint, moved": func(g *grant.Grant) { g.Constraint = subset(pairs{"kv": ""}) },
		"constraint key":    func(g *grant.Grant) { g.Constraint = subset(pairs{"j": "v"}) },
		"issuer":            func(g *grant.Grant) { g.Issuer = "111122223333" },
		"name removed":      func(g *grant.Grant) { g.Name = "" },
	} {
		other := base
		change(&other)
		if s.Same(&other) != nil {
			t.Errorf("a grant with another %s is the same", what)
		}
	}
	// The service makes no second one, but a set that is given one keeps the other.
	second := add(t, &s, base)
	s.Remove(first.ID)
	if s.Same(&base) != second {
		t.Error("with one of two that say the same the other went")
	}
	s.Remove(second.ID)
	if s.Same(&base) != nil {
		t.Error("a removed grant is the same")
	}
	unnamed := base
	unnamed.Name = ""
	add(t, &s, unnamed)
	if s.Same(&unnamed) != nil {
		t.Error("grants without a name are the same")
	}
}

// TestFindPrefersTheFarthestReach: what a role may is limited where what the
// session itself may is not.
func TestFindPrefersTheFarthestReach(t *testing.T) {
	var s grant.Set
	caller := grant.Caller{Self: "AROA1:s", Role: "AROA1", Account: "111122223333"}
	for _, step := range []struct {
		id   string
		want grant.Reach
	}{{"someone", grant.None}, {"111122223333", grant.ByAccount}, {"AROA1", grant.ByRole}, {"AROA1:s", grant.Direct}} {
		g := add(t, &s, grant.Grant{Grantee: to(step.id), Operations: operations(t, "Decrypt")})
		found, reach := s.Find(caller, "Decrypt", nil)
		if reach != step.want || (found == g) != (step.want != grant.None) {
			t.Errorf("after a grant to %s: %v", step.id, reach)
		}
	}
	if g, _ := s.Find(grant.Caller{}, "Decrypt", nil); g != nil {
		t.Error("nobody is found")
	}
}

// TestFindAsAScanDoes compares the index with a look at every grant, while grants
// come and go.
func TestFindAsAScanDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	randomPairs := func() pairs {
		p := pairs{}
		for range r.IntN(4) {
			p[pick("a", "A", "b", "Ключ", "ключ")] = pick("1", "2")
		}
		return p
	}
	randomGrant := func() grant.Grant {
		g := grant.Grant{Grantee: to(pick("u", "role", "account", "v"))}
		for range 1 + r.IntN(3) {
			g.Operations |= operations(t, pick("Decrypt", "Encrypt", "CreateGrant", "DescribeKey", "RetireGrant"))
		}
		switch r.IntN(4) {
		case 0:
			g.Constraint = equals(randomPairs())
		case 1, 2:
			g.Constraint = subset(randomPairs())
		}
		return g
	}
	var s grant.Set
	var all []*grant.Grant
	found := 0
	for range 20000 {
		if n := len(all); n > 0 && r.IntN(100) < n {
			i := r.IntN(n)
			s.Remove(all[i].ID)
			all = slices.Delete(all, i, i+1)
		} else {
			all = append(all, add(t, &s, randomGrant()))
		}
		caller := grant.Caller{Self: pick("u", "v", "w"), Role: pick("", "role"), Account: pick("", "account")}
		operation, context := pick("Decrypt", "Encrypt", "DescribeKey", "Sign"), randomPairs()
		child := grant.New(randomGrant())
		for what, c := range map[string]struct {
			find   func() (*grant.Grant, grant.Reach)
			covers func(*grant.Grant) bool
		}{
			"Find": {func() (*grant.Grant, grant.Reach) { return s.Find(caller, operation, context) },
				func(g *grant.Grant) bool { return g.Covers(operation, context) }},
			"FindParent": {func() (*grant.Grant, grant.Reach) { return s.FindParent(caller, child) },
				func(g *grant.Grant) bool { return g.CoversChild(child) }},
		} {
			want := grant.None
			for _, g := range all {
				if c.covers(g) {
					want = max(want, g.Grantee.Reach(caller))
				}
			}
			g, reach := c.find()
			if reach != want || g != nil && (!c.covers(g) || g.Grantee.Reach(caller) != want) {
				t.Fatalf("%s: %v by %v, a scan says %v", what, reach, g, want)
			}
			if g != nil {
				found++
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d grants were found", found)
	}
}

// TestFindFoldsKeys: also letters that have more than two forms.
func TestFindFoldsKeys(t *testing.T) {
	for _, forms := range [][]string{{"a", "A"}, {"z", "Z"}, {"ab", "Ab", "aB"}, {"s", "S", "ſ"}, {"k", "K", "\u212a"}, {"å", "Å", "\u212b"}, {"σ", "ς", "Σ"}} {
		for _, granted := range forms {
			var s grant.Set
			add(t, &s, grant.Grant{Grantee: to("u"), Operations: operations(t, "Decrypt"), Constraint: subset(pairs{granted: "1"})})
			for _, asked := range forms {
				if g, _ := s.Find(grant.Caller{Self: "u"}, "Decrypt", pairs{asked: "1"}); g == nil {
					t.Errorf("a grant for the key %q is not found by %q", granted, asked)
				}
			}
		}
	}
}

func TestSetAtOnce(t *testing.T) {
	var s grant.Set
	var wg sync.WaitGroup
	caller := grant.Caller{Self: "u"}
	for range 4 {
		wg.Go(func() {
			for i := range 300 {
				g := add(t, &s, grant.Grant{Grantee: to("u"), Operations: operations(t, "Decrypt"), Constraint: subset(pairs{"n": fmt.Sprint(i)})})
				if f, _ := s.Find(caller, "Decrypt", pairs{"n": fmt.Sprint(i)}); f == nil {
					t.Error("a grant that was just added is not found")
				}
				s.Remove(g.ID)
			}
		})
	}
	wg.Wait()
	if f, _ := s.Find(caller, "Decrypt", pairs{"n": "1"}); f != nil || s.Len() != 0 {
		t.Error("a removed grant is found")
	}
}

// sets are the ways in which a key gets many grants.
var sets = []struct {
	name string
	make func(i int) grant.Grant
}{
	{"a grantee each", func(i int) grant.Grant { return grant.Grant{Grantee: to(fmt.Sprintf("AIDA%d", i))} }},
	{"one grantee, a volume each", func(i int) grant.Grant {
		return grant.Grant{Grantee: to("AIDA0"), Constraint: subset(pairs{"app": "db", "aws:ebs:id": fmt.Sprintf("vol-%d", i)})}
	}},
	{"one grantee, a context each", func(i int) grant.Grant {
		return grant.Grant{Grantee: to("AIDA0"), Constraint: equals(pairs{"app": "db", "aws:ebs:id": fmt.Sprintf("vol-%d", i)})}
	}},
	{"one grantee, all alike", func(int) grant.Grant { return grant.Grant{Grantee: to("AIDA0")} }},
}

// TestFindLooksAtFew: it is not the number of grants that a lookup takes its time by.
func TestFindLooksAtFew(t *testing.T) {
	caller := grant.Caller{Self: "AIDA0"}
	context := pairs{"app": "db", "aws:ebs:id": "vol-0"}
	for _, set := range sets[:3] {
		var s grant.Set
		stays := add(t, &s, set.make(2000))
		held := s.Held()
		for i := range 2000 {
			g := set.make(i)
			g.Operations = operations(t, "Decrypt")
			add(t, &s, g)
		}
		if n := s.LooksAt(caller, "Decrypt", context); n < 1 || n > 3 {
			t.Errorf("%s: %d grants were looked at", set.name, n)
		}
		if n := s.LooksAt(caller, "Encrypt", context); n != 0 {
			t.Errorf("%s: %d grants for another operation were looked at", set.name, n)
		}
		for _, g := range s.All() {
			if g != stays {
				s.Remove(g.ID)
			}
		}
		if n := s.Held(); n != held {
			t.Errorf("%s: removed grants have %d places left", set.name, n-held)
		}
		s.Remove(stays.ID)
		if n := s.Held(); n != 0 {
			t.Errorf("%s: a set without grants has %d places", set.name, n)
		}
	}
}

// TestGrantsOfNobody: a caller without a role is not one whose role has no id.
func TestGrantsOfNobody(t *testing.T) {
	var s grant.Set
	add(t, &s, grant.Grant{Operations: operations(t, "Decrypt")})
	if g, reach := s.Find(grant.Caller{Self: "u"}, "Decrypt", nil); g != nil || reach != grant.None {
		t.Errorf("a grant to nobody reaches %v", reach)
	}
}

// TestPlaces: in sorted order, of its grantee, and by its pair. Only a grant that had a
// choice of pairs has a fourth.
func TestPlaces(t *testing.T) {
	for n, p := range map[int]pairs{3: {"a": "1"}, 4: {"a": "1", "b": "2"}} {
		var s grant.Set
		add(t, &s, grant.Grant{Grantee: to("u"), Operations: operations(t, "Decrypt"), Constraint: subset(p)})
		if s.Held() != n {
			t.Errorf("a grant for %v has %d places", p, s.Held())
		}
	}
}

// BenchmarkFind: a lookup among 50,000 grants may cost at most 1.5 times one
// among 1.
func BenchmarkFind(b *testing.B) {
	for _, set := range sets {
		for _, n := range []int{1, 1000, 50000} {
			var s grant.Set
			for i := range n {
				g := set.make(i)
				g.Operations = operations(b, "Decrypt", "GenerateDataKey")
				add(b, &s, g)
			}
			caller := grant.Caller{Self: "AIDA0", Account: "000000000000"}
			context := pairs{"app": "db", "aws:ebs:id": "vol-0"}
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(set.name, " ", "_"), n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if g, _ := s.Find(caller, "Decrypt", context); g == nil {
						b.Fatal("not found")
					}
				}
			})
		}
	}
}

// BenchmarkAdd fills a set with 50,000 grants in the order of their ids, as the
// service does when it starts.
func BenchmarkAdd(b *testing.B) {
	for _, set := range sets {
		grants := make([]*grant.Grant, 50000)
		for i := range grants {
			grants[i] = grant.New(set.make(i))
		}
		slices.SortFunc(grants, func(x, y *grant.Grant) int { return strings.Compare(x.ID, y.ID) })
		b.Run(strings.ReplaceAll(set.name, " ", "_"), func(b *testing.B) {
			for b.Loop() {
				var s grant.Set
				for _, g := range grants {
					if err := s.Add(g); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
