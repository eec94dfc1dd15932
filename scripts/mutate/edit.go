package main

import (
	"bytes"
	"slices"
)

// edit puts text around a piece of source, or in its place.
type edit struct {
	from, to       int // bytes of the source
	before, behind string
	instead        string
}

// apply returns the source with all edits. Of two around the same piece the one that
// was made first is the outer one.
func apply(src []byte, edits []edit) []byte {
	type insertion struct {
		at, size, order int
		opens           bool
		text            string
	}
	var all []insertion
	replaced := map[int]edit{}
	for i, d := range edits {
		if d.instead != "" {
			replaced[d.from] = d
			continue
		}
		size := d.to - d.from
		all = append(all, insertion{d.from, size, i, true, d.before}, insertion{d.to, size, i, false, d.behind})
	}
	// Outer edits open first and close last, and what ends at a place does so before
	// anything begins there.
	slices.SortStableFunc(all, func(a, b insertion) int {
		switch {
		case a.at != b.at:
			return a.at - b.at
		case a.opens != b.opens:
			if a.opens {
				return 1
			}
			return -1
		case a.opens && a.size != b.size:
			return b.size - a.size
		case a.opens:
			return a.order - b.order
		case a.size != b.size:
			return a.size - b.size
		}
		return b.order - a.order
	})
	var out bytes.Buffer
	for at := 0; ; {
		for len(all) > 0 && all[0].at == at {
			out.WriteString(all[0].text)
			all = all[1:]
		}
		if at == len(src) {
			return out.Bytes()
		}
		if d, ok := replaced[at]; ok {
			out.WriteString(d.instead)
			at = d.to
			continue
		}
		out.WriteByte(src[at])
		at++
	}
}
