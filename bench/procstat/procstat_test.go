package procstat_test

import (
	"os"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/bench/procstat"
)

func TestParse(t *testing.T) {
	const line = "42 (a b) (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 25 9 9 20 0 5 0 1 1 3 1\n"
	p, err := procstat.Parse([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if want := (procstat.Process{42, 7, false, 1750 * time.Millisecond, 3 * int64(os.Getpagesize())}); p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
	for _, bad := range []string{"", "42", "42 (x", "42 (x) S 7", "x (x) S 7 1 1 1 1 1 1 1 1 1 1 1"} {
		if _, err := procstat.Parse([]byte(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
