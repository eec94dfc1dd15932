package median_test

import (
	"testing"
	"time"

	"kmsfs.dev/kmsfs/bench/median"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		in   []time.Duration
		want time.Duration
	}{
		{[]time.Duration{7}, 7},
		{[]time.Duration{9, 1, 5}, 5},
		{[]time.Duration{8, 2, 4, 100}, 6},
	} {
		before := append([]time.Duration(nil), c.in...)
		if got := median.Of(c.in); got != c.want {
			t.Errorf("Of(%v) = %d, want %d", before, got, c.want)
		}
		for i := range before {
			if before[i] != c.in[i] {
				t.Fatalf("Of reordered its argument: %v", c.in)
			}
		}
	}
}
