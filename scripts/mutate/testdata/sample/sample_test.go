package sample

import "testing"

func TestTested(t *testing.T) {
	for n, want := range map[int]level{-1: 0, 0: 0, 1: 2, 3: 6} {
		got, err := Tested(n)
		if got != want || (err != nil) != (n < 0) {
			t.Errorf("Tested(%d): %d, %v", n, got, err)
		}
	}
}

func TestUntested(*testing.T) { Untested(true, true) }

func TestForms(*testing.T) {
	Forms(1, nil)
	Forms("x", nil)
}
