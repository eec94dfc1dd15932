package main

import (
	"bytes"
	"cmp"
	"slices"
)

// edit puts text around a piece of source, or in its place.
type edit struct {
	from, to       int // bytes of the source
	before, behind string
	instead        string
}

// insertion is text that goes somewhere, over so many bytes of the source. At one place
// they go by phase, size and order.
type insertion struct {
	at, phase, size, order int
	text                   string
	over                   int
}

// What ends at a place does so before anything begins there.
const (
	closes = iota
	opens
	replaces
)

// apply returns the source with all edits. Outer ones open first and close last; of two
// around the same piece the one that was made first is the outer one.
func apply(src []byte, edits []edit) []byte {
	var all []insertion
	for i, d := range edits {
		size := d.to - d.from
		if d.instead != "" {
			all = append(all, insertion{at: d.from, phase: replaces, text: d.instead, over: size})
			continue
		}
		all = append(all,
			insertion{at: d.from, phase: opens, size: -size, order: i, text: d.before},
			insertion{at: d.to, phase: closes, size: size, order: -i, text: d.behind})
	}
	slices.SortFunc(all, func(a, b insertion) int {
		return cmp.Or(a.at-b.at, a.phase-b.phase, a.size-b.size, a.order-b.order)
	})
	var out bytes.Buffer
	at := 0
	for _, x := range all {
		out.Write(src[at:x.at])
		out.WriteString(x.text)
		at = x.at + x.over
	}
	out.Write(src[at:])
	return out.Bytes()
}
