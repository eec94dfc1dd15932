package fs

import (
	"slices"

	"kmsfs.dev/kmsfs/fs/internal/format"
)

// A header lists up to eight extents of pages that may be absent. Outside them
// an all-zero page is damage. Inside them a page may be there or not, so that
// filling a hole needs no header write; what has been filled is taken out of
// the list once it cannot be lost any more. More holes than fit are merged
// with their neighbours: still right, but what lies between is then guarded
// less strictly against being zeroed.

// holeAt returns the extent that page p is in, or nil.
func (f *file) holeAt(p int64) *format.Extent {
	for i := range f.hdr.Holes {
		if e := &f.hdr.Holes[i]; p >= e.First && p < e.First+e.Count {
			return e
		}
	}
	return nil
}

func (f *file) inHole(p int64) bool { return f.holeAt(p) != nil }

// addHole allows the pages of e to be absent. Holds: f.mu.
func (f *file) addHole(e format.Extent) {
	holes := append(slices.Clone(f.hdr.Holes), e)
	slices.SortFunc(holes, func(a, b format.Extent) int { return int(min(max(a.First-b.First, -1), 1)) })
	merged := holes[:1]
	for _, next := range holes[1:] {
		last := &merged[len(merged)-1]
		if next.First <= last.First+last.Count {
			last.Count = max(last.Count, next.First+next.Count-last.First)
		} else {
			merged = append(merged, next)
		}
	}
	f.hdr.Holes = merged
	f.hdrDirty = true
	f.filled = subtract(f.filled, e)
	f.n.holeChanges.Add(1)
	f.capHoles()
}

// capHoles merges the nearest extents until all fit the header.
func (f *file) capHoles() {
	for len(f.hdr.Holes) > f.hdr.HoleCapacity() {
		holes, best := f.hdr.Holes, 1
		gap := func(i int) int64 { return holes[i].First - holes[i-1].First - holes[i-1].Count }
		for i := 2; i < len(holes); i++ {
			if gap(i) < gap(best) {
				best = i
			}
		}
		holes[best-1].Count = holes[best].First + holes[best].Count - holes[best-1].First
		f.hdr.Holes = slices.Delete(holes, best, best+1)
		f.hdrDirty = true
	}
}

// cutHoles forgets holes from page p on.
func (f *file) cutHoles(p int64) {
	rest := format.Extent{First: p, Count: 1<<47 - p}
	f.hdr.Holes = subtract(f.hdr.Holes, rest)
	f.filled = subtract(f.filled, rest)
	f.hdrDirty = true
	f.n.holeChanges.Add(1)
}

// noteFilled remembers pages that were just written into holes. They stay in
// the header's extents until an fsync or a barrier has made them durable: a
// header without them could reach the disk before they do. Holds: f.mu.
func (f *file) noteFilled(first, last int64) {
	e := format.Extent{First: first, Count: last - first + 1}
	touches := slices.ContainsFunc(f.hdr.Holes, func(h format.Extent) bool {
		return h.First < e.First+e.Count && e.First < h.First+h.Count
	})
	if !touches {
		return
	}
	if n := len(f.filled); n > 0 && f.filled[n-1].First+f.filled[n-1].Count == e.First {
		f.filled[n-1].Count += e.Count
	} else if n < maxFilled {
		f.filled = append(f.filled, e)
	}
}

// maxFilled bounds the list of filled holes; more would cost more than it guards.
const maxFilled = 256

// closeHoles takes filled pages out of the holes as far as the header has room
// for the pieces. The header is written at the next flush. Holds: f.mu.
func (f *file) closeHoles(filled []format.Extent) {
	for _, e := range filled {
		if rest := subtract(f.hdr.Holes, e); len(rest) <= f.hdr.HoleCapacity() {
			f.hdr.Holes = rest
			f.hdrDirty = true
		}
	}
}

// subtract returns holes without the pages of e.
func subtract(holes []format.Extent, e format.Extent) []format.Extent {
	var rest []format.Extent
	for _, h := range holes {
		if left := min(h.Count, e.First-h.First); left > 0 {
			rest = append(rest, format.Extent{First: h.First, Count: left})
		}
		after := max(h.First, e.First+e.Count)
		if right := h.First + h.Count - after; right > 0 {
			rest = append(rest, format.Extent{First: after, Count: right})
		}
	}
	return rest
}
