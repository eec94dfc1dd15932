package main

import (
	"fmt"
	"io"
	"math"
	"strings"

	"kmsfs.dev/kmsfs/bench/median"
)

// measures are the rows, and the panels, in their order. Those of memory are MiB,
// all others are microseconds for each operation.
var measures = []string{
	"directory: create", "directory: stat", "directory: open", "directory: ls, per entry", "directory: unlink",
	"tree: open and read", "tree: rename its top", "file: read 4 KiB", "file: overwrite 4 KiB",
	"memory: directory listed", "memory: tree walked", "memory: file read",
}

func isMemory(measure string) bool { return strings.HasPrefix(measure, "memory") }

type key struct {
	measure, system string
	size            int
}

// results is what was measured, in every round.
type results struct {
	systems []string
	sizes   []int
	values  map[key][]float64
}

// at is the median of the rounds.
func (r *results) at(measure, system string, size int) (float64, bool) {
	v := r.values[key{measure, system, size}]
	if len(v) == 0 {
		return 0, false
	}
	return median.Of(v), true
}

// growth is the last size's cost as a multiple of the first one's, of those measured.
func (r *results) growth(measure, system string) string {
	var sizes []int
	var costs []float64
	for _, n := range r.sizes {
		if v, ok := r.at(measure, system, n); ok {
			sizes, costs = append(sizes, n), append(costs, v)
		}
	}
	if len(costs) < 2 {
		return "-"
	}
	last := len(costs) - 1
	return fmt.Sprintf("x%.1f from %s to %s", costs[last]/costs[0], power(sizes[0]), power(sizes[last]))
}

// power writes 1000 as 10^3.
func power(n int) string {
	if e := math.Round(math.Log10(float64(n))); math.Pow(10, e) == float64(n) {
		return fmt.Sprintf("10^%.0f", e)
	}
	return fmt.Sprint(n)
}

func (r *results) markdown(w io.Writer) {
	r.table(w, "Cost of an operation, in microseconds", false)
	r.table(w, "Memory of the filesystem's processes, in MiB", true)
}

func (r *results) table(w io.Writer, title string, memory bool) {
	fmt.Fprintf(w, "\n### %s\n\n| | system |", title)
	for _, n := range r.sizes {
		fmt.Fprintf(w, " %s |", power(n))
	}
	fmt.Fprintf(w, " growth |\n|---|---|%s---|\n", strings.Repeat("---:|", len(r.sizes)))
	for _, m := range measures {
		if isMemory(m) != memory {
			continue
		}
		for _, s := range r.systems {
			if memory && s == "native" {
				continue
			}
			fmt.Fprintf(w, "| %s | %s |", m, s)
			for _, n := range r.sizes {
				if v, ok := r.at(m, s, n); ok {
					fmt.Fprintf(w, " %.1f |", v)
				} else {
					fmt.Fprint(w, " - |")
				}
			}
			fmt.Fprintf(w, " %s |\n", r.growth(m, s))
		}
	}
}
