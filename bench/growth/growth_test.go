package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestASmallRun(t *testing.T) {
	work, out := t.TempDir(), t.TempDir()
	o := options{from: 10, to: 100, rounds: 1, ops: 20, fs: "native", dir: work, svg: filepath.Join(out, "a.svg"), markdown: filepath.Join(out, "a.md")}
	if _, err := os.Stat("/dev/fuse"); err == nil {
		o.fs, o.kmsfs = "kmsfs,native", filepath.Join(out, "kmsfs")
		if b, err := exec.Command("go", "build", "-o", o.kmsfs, "../../cmd/kmsfs").CombinedOutput(); err != nil {
			t.Fatalf("build kmsfs: %v\n%s", err, b)
		}
	}
	var table, progress bytes.Buffer
	if err := run(t.Context(), o, &table, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.Bytes())
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	md, err := os.ReadFile(o.markdown)
	if err != nil || !bytes.Equal(md, table.Bytes()) {
		t.Errorf("markdown file: %v\n%s", err, md)
	}
	svg, err := os.ReadFile(o.svg)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the SVG is no XML: %v", err)
		}
	}
	for _, s := range strings.Split(o.fs, ",") {
		if !bytes.Contains(svg, []byte(">"+s+"<")) {
			t.Errorf("the SVG does not name %s", s)
		}
		for _, m := range measures {
			if isMemory(m) && s == "native" {
				continue
			}
			if !strings.Contains(table.String(), "| "+m+" | "+s+" |") || !bytes.Contains(svg, []byte(m)) {
				t.Errorf("no %q of %s", m, s)
			}
		}
	}
	if n := strings.Count(table.String(), " from 10^1 to 10^2 |"); n < 9 {
		t.Errorf("%d rows have a growth\n%s", n, table.String())
	}
}

func TestGrowthIsARatio(t *testing.T) {
	r := &results{sizes: []int{100, 1000, 10000}, values: map[key][]float64{
		{"m", "s", 100}: {4, 2, 9}, {"m", "s", 1000}: {50}, {"m", "s", 10000}: {5, 5.4},
		{"m", "cut", 100}: {1}, {"m", "cut", 1000}: {2}, {"m", "once", 100}: {1},
	}}
	for system, want := range map[string]string{
		"s": "x1.3 from 10^2 to 10^4", "cut": "x2.0 from 10^2 to 10^3", "once": "-", "absent": "-",
	} {
		if got := r.growth("m", system); got != want {
			t.Errorf("%s: %q, want %q", system, got, want)
		}
	}
}
