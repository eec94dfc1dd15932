package main

import (
	"maps"
	"os"
	"slices"
	"testing"
)

// TestSample makes all changes of a package of which one function is tested and another
// is not.
func TestSample(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p, err := instrument("testdata/sample", nil)
	if err != nil {
		t.Fatal(err)
	}
	run, err := buildTests(t.Context(), p, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := run.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	run.limits.cpu = 1 // they need some milliseconds
	got := map[string]map[string]result{}
	err = run.runAll(t.Context(), p.mutants, 2, func(m mutant, r result) {
		if got[m.function] == nil {
			got[m.function] = map[string]result{}
		}
		got[m.function][m.change] = r
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]result{
		"Tested": {
			"n < 0 => true": killed, "n < 0 => false": killed, "n < 0 => n <= 0": killed, "n < 0 => n >= 0": killed,
			"0 + 1": killed, "0 - 1": killed, // n < 1 and n < -1
			"0 + 1 (2)": killed, "0 - 1 (2)": killed, // return
			"nothing for errNegative": killed,
			"0 + 1 (3)":               killed, "0 - 1 (3)": killed, // level(0)
			"0 + 1 (4)": killed, "0 - 1 (4)": killed, // i := 0
			"i < n => i <= n": killed, "i < n => i >= n": ended,
			"without sum += 2": killed, "2 + 1": killed, "2 - 1": killed,
			"nothing for sum": killed,
		},
		"Untested": {
			"a && b => true": survived, "a && b => false": survived, "a && b => (a) || (b)": survived, "a && b => a": survived, "a && b => b": survived,
			`text "both"`: survived, `text ""`: survived,
		},
	}
	for function, changes := range want {
		if !maps.Equal(got[function], changes) {
			t.Errorf("%s: %v\nnot %v", function, got[function], changes)
		}
	}
	if got["Forms"][`text "nothing"`] != survived || len(got["Forms"]) < 15 {
		t.Errorf("Forms: %v", got["Forms"])
	}
	if err := run.remove(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestNamedFilesOnly(t *testing.T) {
	if _, err := instrument("testdata/sample", []string{"other.go"}); err == nil {
		t.Error("a file that is not there is changed")
	}
	p, err := instrument("testdata/sample", []string{})
	if err != nil || len(p.mutants) != 0 {
		t.Errorf("no file named: %d changes, %v", len(p.mutants), err)
	}
}

// TestKeys: equivalent.txt must not name two changes at once.
func TestKeys(t *testing.T) {
	p, err := instrument("testdata/sample", nil)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, m := range p.mutants {
		keys = append(keys, m.key())
	}
	slices.Sort(keys)
	if n := len(slices.Compact(keys)); n != len(p.mutants) {
		t.Errorf("%d changes have %d keys", len(p.mutants), n)
	}
}

// TestEquivalents: equivalent.txt names changes that there are.
func TestEquivalents(t *testing.T) {
	t.Chdir("../..") // the module's root
	for _, dir := range []string{"keysvc/internal/grant", "keysvc/internal/policy", "keysvc"} {
		p, err := instrument(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if known, err := equivalents(p); err != nil || len(known) == 0 {
			t.Errorf("%s: %d known, %v", dir, len(known), err)
		}
	}
}
