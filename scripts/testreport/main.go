// Command testreport reads `go test -json` on its standard input and prints
// what a person wants of it: the line of every package, the output of what
// failed, what was skipped, and the counts. It exits with 1 when a test
// failed, when one was skipped that -may-skip does not match, and when none ran:
// a run that skipped its tests proves nothing.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	maySkip := flag.String("may-skip", "", "tests that may be skipped, a `regexp` over PACKAGE.TEST")
	flag.Parse()
	allowed := regexp.MustCompile("^(?:" + *maySkip + ")$")
	ok, err := report(os.Stdin, os.Stdout, allowed)
	if err != nil {
		fmt.Fprintf(os.Stderr, "testreport: %v\n", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build events
	Test       string
	Elapsed    float64
	Output     string
}

// id names a test, or with an empty test its package.
type id struct{ pkg, test string }

func (i id) String() string { return i.pkg + "." + i.test }

// parents are the tests that others run below: those are counted, not these.
func parents(tests ...map[id]bool) map[id]bool {
	found := make(map[id]bool)
	for _, m := range tests {
		for k := range m {
			for i := strings.LastIndexByte(k.test, '/'); i > 0; i = strings.LastIndexByte(k.test, '/') {
				k.test = k.test[:i]
				found[k] = true
			}
		}
	}
	return found
}

type tally struct {
	out     io.Writer
	output  map[id][]string
	passed  map[id]bool
	failed  map[id]bool
	skipped map[id]bool
	slow    []slowTest
	broken  bool // a package failed without a failing test: it did not build, or crashed
}

type slowTest struct {
	id
	took time.Duration
}

func report(in io.Reader, out io.Writer, maySkip *regexp.Regexp) (ok bool, err error) {
	t := &tally{out: out, output: make(map[id][]string),
		passed: make(map[id]bool), failed: make(map[id]bool), skipped: make(map[id]bool)}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				out.Write(line) // the go command's own words, such as a bad flag
			} else {
				t.add(e)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
	}
	return t.close(maySkip), nil
}

func (t *tally) add(e event) {
	i := id{e.Package, e.Test}
	switch e.Action {
	case "output":
		t.output[i] = append(t.output[i], e.Output)
		return
	case "build-output":
		fmt.Fprint(t.out, e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test == "" {
		t.endPackage(i, e.Action)
		return
	}
	switch e.Action {
	case "pass":
		t.passed[i] = true
	case "skip":
		t.skipped[i] = true
	case "fail":
		t.failed[i] = true
		fmt.Fprint(t.out, strings.Join(t.output[i], ""))
	}
	delete(t.output, i)
	if !strings.Contains(e.Test, "/") {
		t.slow = append(t.slow, slowTest{i, time.Duration(e.Elapsed * float64(time.Second))})
	}
}

// endPackage prints the line that `go test` would have printed.
func (t *tally) endPackage(i id, action string) {
	named := func(k id) bool { return k.pkg == i.pkg }
	if action == "fail" && !slices.ContainsFunc(keys(t.failed), named) {
		t.broken = true
		// What ran when the process ended has had no verdict of its own.
		for k, lines := range t.output {
			if k.pkg == i.pkg && k.test != "" {
				fmt.Fprint(t.out, strings.Join(lines, ""))
				delete(t.output, k)
			}
		}
	}
	for _, line := range t.output[i] {
		if line != "PASS\n" {
			fmt.Fprint(t.out, line)
		}
	}
	delete(t.output, i)
}

func (t *tally) close(maySkip *regexp.Regexp) bool {
	above := parents(t.passed, t.failed, t.skipped)
	count := func(m map[id]bool) (n int) {
		for k := range m {
			if !above[k] {
				n++
			}
		}
		return n
	}
	refused := 0
	for _, k := range keys(t.skipped) {
		verdict := "allowed"
		if !maySkip.MatchString(k.String()) {
			verdict = "NOT ALLOWED"
			refused++
		}
		fmt.Fprintf(t.out, "skipped (%s): %v\n", verdict, k)
	}
	slices.SortFunc(t.slow, func(a, b slowTest) int { return int(b.took - a.took) })
	for _, s := range t.slow[:min(5, len(t.slow))] {
		if s.took >= 10*time.Second {
			fmt.Fprintf(t.out, "slow: %v took %v\n", s.id, s.took.Round(time.Second))
		}
	}
	passed, failed := count(t.passed), count(t.failed)
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", passed, failed, count(t.skipped))
	return passed > 0 && len(t.failed) == 0 && refused == 0 && !t.broken
}

// keys of a map, in order.
func keys(m map[id]bool) []id {
	var all []id
	for k := range m {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b id) int { return strings.Compare(a.String(), b.String()) })
	return all
}
