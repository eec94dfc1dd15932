package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/bench/systems"
)

// tiny runs every workload in a few seconds.
var tiny = scale{Name: "tiny", SeqMiB: 4, RandMiB: 2, RandOps: 50, Appends: 100, TreeFiles: 40, RenameFiles: 30, FsyncFiles: 5}

func goroot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func buildLoopback(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "bench-loopback")
	if out, err := exec.Command("go", "build", "-o", bin, "./loopback").CombinedOutput(); err != nil {
		t.Fatalf("build loopback: %v\n%s", err, out)
	}
	return bin
}

// mountsBelow lists what is mounted below dir.
func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], dir+"/") {
			found = append(found, f[4])
		}
	}
	return found
}

func assertNothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left := mountsBelow(t, dir); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

func TestEveryWorkloadOnARealMount(t *testing.T) {
	work := t.TempDir()
	out := t.TempDir()
	o := options{
		rounds: 2, systems: "native,loopback", workloads: "all",
		dir: work, loopback: buildLoopback(t), goroot: goroot(t), bases: []string{"loopback", "gocryptfs"},
		jsonFile: filepath.Join(out, "b.json"), markdown: filepath.Join(out, "b.md"),
	}
	var text bytes.Buffer
	if err := runScale(t.Context(), o, tiny, &text); err != nil {
		t.Fatalf("%v\n%s", err, text.Bytes())
	}
	assertNothingLeft(t, work)

	b, err := os.ReadFile(o.jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var r jsonReport
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if want := 2 * len(workloads()); len(r.Measurements) != want {
		t.Errorf("%d measurements in the JSON report, want %d", len(r.Measurements), want)
	}
	for _, m := range r.Measurements {
		turns := 2
		for _, w := range workloads() {
			if w.name == m.Workload {
				turns *= max(w.turns, 1)
			}
		}
		if len(m.Seconds) != turns || m.Value <= 0 || m.Ratios["loopback"] <= 0 {
			t.Errorf("implausible measurement: %+v", m)
		}
		if _, ok := m.Ratios["gocryptfs"]; ok {
			t.Errorf("a ratio to a filesystem that was not run: %+v", m)
		}
	}
	if md, err := os.ReadFile(o.markdown); err != nil || !bytes.Contains(md, []byte("| seqwrite |")) {
		t.Errorf("markdown report: %v\n%s", err, md)
	}
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	work := t.TempDir()
	o := options{
		rounds: 1000, systems: "native,loopback", workloads: "append,untar",
		dir: work, loopback: buildLoopback(t), goroot: goroot(t),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var text bytes.Buffer
	if err := runScale(ctx, o, tiny, &text); err == nil {
		t.Errorf("an interrupted run ended without an error\n%s", text.Bytes())
	}
	assertNothingLeft(t, work)
}

func TestFailureOfOneSystemIsReported(t *testing.T) {
	work := t.TempDir()
	// A filesystem that mounts nothing: the run must say so and clean up.
	o := options{
		rounds: 1, systems: "native,loopback", workloads: "append",
		dir: work, loopback: "/bin/false", goroot: goroot(t),
	}
	var text bytes.Buffer
	if err := runScale(t.Context(), o, tiny, &text); err == nil || !strings.Contains(err.Error(), "/bin/false") {
		t.Errorf("error %v does not name the program that failed", err)
	}
	assertNothingLeft(t, work)
}

// TestRatioIsSpeed compares within each turn: the second was disturbed as a whole,
// and the last has no counterpart.
func TestRatioIsSpeed(t *testing.T) {
	b := &bench{samples: map[key][]sample{
		{"w", "slow"}: {{Wall: 4 * time.Second}, {Wall: 60 * time.Second}, {Wall: 9 * time.Second}},
		{"w", "fast"}: {{Wall: 2 * time.Second}, {Wall: 20 * time.Second}, {Wall: 9 * time.Second}, {Wall: time.Hour}},
	}}
	if r, ok := b.ratio("w", "fast", "slow"); !ok || r != 2 {
		t.Errorf("ratio %v %v, want 2", r, ok)
	}
	if r, ok := b.ratio("w", "slow", "fast"); !ok || r != 0.5 {
		t.Errorf("ratio %v %v, want 0.5", r, ok)
	}
	if _, ok := b.ratio("w", "fast", "absent"); ok {
		t.Error("a ratio to nothing")
	}
}

func TestGoal(t *testing.T) {
	for _, c := range []struct {
		what   string
		goal   goal
		ratios map[string]float64
		missed string
	}{
		{"twice the rival is enough", goal{gocryptfs: 2, native: 0.8}, map[string]float64{"gocryptfs": 2, "native": 0.3}, ""},
		{"so is nearly native", goal{gocryptfs: 2, native: 0.8}, map[string]float64{"gocryptfs": 1.1, "native": 0.8}, ""},
		{"neither", goal{gocryptfs: 2, native: 0.8}, map[string]float64{"gocryptfs": 1.99, "native": 0.79}, "1.99 of gocryptfs (2), 0.79 of native (0.8)"},
		{"the rival was not run", goal{gocryptfs: 2, native: 0.8}, map[string]float64{"native": 0.5}, "0.50 of native (0.8)"},
		{"what encrypts nothing is faster", goal{gocryptfs: 2, loopback: 1}, map[string]float64{"gocryptfs": 3, "loopback": 0.9}, "0.90 of loopback (1)"},
		{"another one that encrypts is faster", goal{gocryptfs: 1.3}, map[string]float64{"gocryptfs": 3, "securefs": 0.9, "cryfs": 9}, "0.90 of securefs (1)"},
		{"where the rival may be faster, so may others", goal{gocryptfs: 0.5}, map[string]float64{"gocryptfs": 0.5, "securefs": 0.1}, ""},
	} {
		missed, ok := c.goal.missed(func(base string) (float64, bool) {
			r, ok := c.ratios[base]
			return r, ok
		})
		if missed != c.missed || !ok {
			t.Errorf("%s: missed %q (%v), want %q", c.what, missed, ok, c.missed)
		}
	}
	if _, ok := (goal{gocryptfs: 2}).missed(func(string) (float64, bool) { return 0, false }); ok {
		t.Error("a verdict on nothing")
	}
	for _, w := range workloads() {
		if w.goal == (goal{}) != (w.name == "seqread-warm" || w.name == "openrenamed") {
			t.Errorf("%s: goal %+v", w.name, w.goal)
		}
	}
}

func TestVerdicts(t *testing.T) {
	second := []sample{{Wall: time.Second}}
	b := &bench{
		sites:     []*site{{Site: &systems.Site{System: systems.System{Name: "gocryptfs"}}}, {Site: &systems.Site{System: systems.System{Name: "kmsfs"}}}},
		workloads: []workload{{name: "seqwrite", goal: goal{gocryptfs: 2}}, {name: "untar", goal: goal{gocryptfs: 0.5}}, {name: "other"}},
		samples: map[key][]sample{
			{"seqwrite", "gocryptfs"}: second, {"untar", "gocryptfs"}: second, {"other", "gocryptfs"}: second,
			{"seqwrite", "kmsfs"}: second, {"untar", "kmsfs"}: {{Wall: 1250 * time.Millisecond}}, {"other", "kmsfs"}: second,
		},
	}
	var out strings.Builder
	b.verdicts(&out)
	if want := "\nkmsfs falls short of 1 of its 2 goals:\n  seqwrite: 1.00 of gocryptfs (2)\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	b.samples[key{"seqwrite", "kmsfs"}] = []sample{{Wall: time.Second / 2}}
	out.Reset()
	b.verdicts(&out)
	if want := "\nkmsfs reaches its 2 goals\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestChoose(t *testing.T) {
	name := func(w workload) string { return w.name }
	got, err := systems.Choose("rmtree,untar", workloads(), name)
	if err != nil || len(got) != 2 || got[0].name != "untar" {
		t.Errorf("got %v, %v: want untar and rmtree in the order of the list", got, err)
	}
	if _, err := systems.Choose("nosuch", workloads(), name); err == nil {
		t.Error("no error for an unknown name")
	}
}

func TestTableText(t *testing.T) {
	var b strings.Builder
	table{"T", [][]string{{"workload", "x"}, {"w", "123 ops/s"}}}.text(&b)
	if want := "\nT\n  workload          x\n  w         123 ops/s\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
