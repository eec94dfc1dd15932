package main

import (
	"fmt"
	"strings"
)

// goal is the speed that kmsfs has to have in a workload, relative to others. 0 is no
// goal.
type goal struct {
	// gocryptfs or native has to be reached: the one is the rival, the other the wall
	// that nobody gets through.
	gocryptfs, native float64
	// loopback, too, has to be reached, which encrypts nothing.
	loopback float64
	// dev is for kmsfs over io_uring: what it has to be ahead of itself over /dev/fuse.
	dev float64
}

// missed says what is missing, or "". It is not ok without anything to compare with.
func (g goal) missed(ratio func(base string) (float64, bool)) (text string, ok bool) {
	var parts []string
	compare := func(base string, least float64) (reached bool) {
		r, measured := ratio(base)
		if least == 0 || !measured {
			return false
		}
		ok = true
		if r < least {
			parts = append(parts, fmt.Sprintf("%.2f of %s (%.2g)", r, base, least))
		}
		return r >= least
	}
	rival, wall := compare("gocryptfs", g.gocryptfs), compare("native", g.native)
	if rival || wall {
		parts = nil
	}
	compare("loopback", g.loopback)
	compare("kmsfs-dev", g.dev)
	// Of the other filesystems that encrypt it is ahead wherever it is to be ahead of
	// gocryptfs.
	for _, peer := range []string{"securefs", "encfs", "cryfs"} {
		if g.gocryptfs >= 1 {
			compare(peer, 1)
		}
	}
	return strings.Join(parts, ", "), ok
}
