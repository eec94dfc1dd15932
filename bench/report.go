package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/bench/systems"
)

// table is a header and rows of equally many cells.
type table struct {
	title string
	rows  [][]string
}

// tables are the results: times, ratios, and CPU time. base is the system
// that ratios refer to.
func (b *bench) tables(bases []string) []table {
	all := []table{b.table("Medians", func(w workload, sys string) string {
		d, ok := b.median(w.name, sys, wall)
		if !ok {
			return "-"
		}
		return w.show(b.scale, d)
	})}
	for _, base := range bases {
		all = append(all, b.table("Speed relative to "+base+" (more than 1: faster)", func(w workload, sys string) string {
			r, ok := b.ratio(w.name, sys, base)
			if !ok {
				return "-"
			}
			return fmt.Sprintf("%.2f", r)
		}))
	}
	return append(all, b.table("CPU time of the filesystem's processes (medians)", func(w workload, sys string) string {
		d, ok := b.median(w.name, sys, cpu)
		if !ok || sys == "native" {
			return "-"
		}
		return showTime(d)
	}), b.table("Memory of the filesystem's processes after the workload (maximum)", func(w workload, sys string) string {
		most := b.memory(w.name, sys)
		if most == 0 {
			return "-"
		}
		return fmt.Sprintf("%d MiB", most>>20)
	}))
}

func (b *bench) table(title string, cell func(workload, string) string) table {
	head := []string{"workload"}
	for _, s := range b.sites {
		head = append(head, s.System.Name)
	}
	t := table{title, [][]string{head}}
	for _, w := range b.workloads {
		row := []string{w.name}
		for _, s := range b.sites {
			row = append(row, cell(w, s.System.Name))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// text prints the table in columns, the numbers to the right.
func (t table) text(w io.Writer) {
	width := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	fmt.Fprintf(w, "\n%s\n", t.title)
	for _, row := range t.rows {
		var line strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 0 {
				line.WriteString("  " + c + pad)
			} else {
				line.WriteString("  " + pad + c)
			}
		}
		fmt.Fprintln(w, line.String())
	}
}

func (t table) markdown(w io.Writer) {
	fmt.Fprintf(w, "\n### %s\n\n", t.title)
	for i, row := range t.rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---:|", len(row)-1))
		}
	}
}

// verdicts says where kmsfs falls short of its goals.
func (b *bench) verdicts(w io.Writer) {
	for _, s := range b.sites {
		name := s.System.Name
		if !strings.HasPrefix(name, "kmsfs") {
			continue
		}
		var short []string
		judged := 0
		for _, wl := range b.workloads {
			missed, ok := wl.goal.missed(func(base string) (float64, bool) {
				if base == "kmsfs-dev" && name != "kmsfs-uring" && !(name == "kmsfs" && b.uring) {
					return 0, false // the same thing over the same transport
				}
				return b.ratio(wl.name, name, base)
			})
			if !ok {
				continue
			}
			judged++
			if missed != "" {
				short = append(short, wl.name+": "+missed)
			}
		}
		switch {
		case len(short) > 0:
			fmt.Fprintf(w, "\n%s falls short of %d of its %d goals:\n  %s\n", name, len(short), judged, strings.Join(short, "\n  "))
		case judged > 0:
			fmt.Fprintf(w, "\n%s reaches its %d goals\n", name, judged)
		}
	}
}

// legend says what each workload does, with the numbers of this scale.
func (b *bench) legend(w io.Writer) {
	fmt.Fprintf(w, "\nscale %s: sequential file %d MiB; random %d operations in %d MiB; %d appends; source tree %d files, %d MiB; renamed directory %d files; %d fsynced files\n",
		b.scale.Name, b.scale.SeqMiB, b.scale.RandOps, b.scale.RandMiB, b.scale.Appends,
		b.tree.files, b.tree.bytes>>20, b.scale.RenameFiles, b.scale.FsyncFiles)
	for _, wl := range b.workloads {
		fmt.Fprintf(w, "  %-13s %s\n", wl.name, wl.what)
	}
}

// measurement is a line of the JSON report.
type measurement struct {
	Workload string             `json:"workload"`
	System   string             `json:"system"`
	Unit     string             `json:"unit"` // of value; "s" when a time
	Value    float64            `json:"value"`
	Seconds  []float64          `json:"seconds"`    // of every turn
	CPU      []float64          `json:"cpuSeconds"` // of every turn
	RSS      int64              `json:"rssBytes"`   // the largest of any turn
	Ratios   map[string]float64 `json:"ratios"`     // speed relative to that system, the median of the turns
}

type jsonReport struct {
	Machine      systems.Machine   `json:"machine"`
	Scale        scale             `json:"scale"`
	Rounds       int               `json:"rounds"`
	Systems      map[string]string `json:"systems"` // name to version
	Measurements []measurement     `json:"measurements"`
	Failures     []string          `json:"failures"`
}

func (b *bench) json(w io.Writer, m systems.Machine, rounds int, bases []string) error {
	r := jsonReport{Machine: m, Scale: b.scale, Rounds: rounds, Systems: make(map[string]string), Failures: b.failures()}
	for _, s := range b.sites {
		r.Systems[s.System.Name] = s.System.About()
	}
	seconds := func(samples []sample, pick func(sample) time.Duration) []float64 {
		var all []float64
		for _, s := range samples {
			all = append(all, pick(s).Seconds())
		}
		return all
	}
	for _, wl := range b.workloads {
		for _, s := range b.sites {
			samples := b.samples[key{wl.name, s.System.Name}]
			d, ok := b.median(wl.name, s.System.Name, wall)
			if !ok {
				continue
			}
			line := measurement{
				Workload: wl.name, System: s.System.Name,
				Unit: "s", Value: d.Seconds(),
				Seconds: seconds(samples, wall), CPU: seconds(samples, cpu), RSS: b.memory(wl.name, s.System.Name),
				Ratios: make(map[string]float64),
			}
			if wl.unit != "" {
				line.Unit, line.Value = wl.unit, wl.rate(b.scale, d)
			}
			for _, base := range bases {
				if ratio, ok := b.ratio(wl.name, s.System.Name, base); ok {
					line.Ratios[base] = ratio
				}
			}
			r.Measurements = append(r.Measurements, line)
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (b *bench) failures() []string {
	all := []string{}
	for _, s := range b.sites {
		if err := b.broken[s]; err != nil {
			all = append(all, err.Error())
		}
	}
	slices.Sort(all)
	return all
}
