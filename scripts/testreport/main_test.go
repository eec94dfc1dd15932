package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runTests reports on a package of this source, tested by the real go command.
func runTests(t *testing.T, source, maySkip string) (out string, ok bool) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module example.com/x\n\ngo 1.26\n",
		"x_test.go": source,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-json", "./...")
	cmd.Dir = dir
	events, _ := cmd.Output() // its exit status is what is under test
	var b strings.Builder
	ok, err := report(strings.NewReader(string(events)), &b, regexp.MustCompile("^(?:"+maySkip+")$"))
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), ok
}

const head = "package x\n\nimport \"testing\"\n\n"

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name, source, maySkip string
		ok                    bool
		want, notWant         []string
	}{{
		name: "passes", ok: true,
		source:  head + `func TestA(t *testing.T) { t.Log("quiet"); t.Run("b", func(t *testing.T) {}); t.Run("c", func(t *testing.T) {}) }`,
		want:    []string{"ok  \texample.com/x", "\n2 passed, 0 failed, 0 skipped\n"},
		notWant: []string{"quiet"},
	}, {
		name:    "fails",
		source:  head + `func TestA(t *testing.T) { t.Error("the reason") }; func TestB(t *testing.T) { t.Log("quiet") }`,
		want:    []string{"the reason", "FAIL\texample.com/x", "\n1 passed, 1 failed, 0 skipped\n"},
		notWant: []string{"quiet"},
	}, {
		name:   "skips",
		source: head + `func TestA(t *testing.T) { t.Skip() }; func TestB(t *testing.T) {}`,
		want:   []string{"skipped (NOT ALLOWED): example.com/x.TestA", "\n1 passed, 0 failed, 1 skipped\n"},
	}, {
		name: "skips what it may", ok: true, maySkip: `example.com/x\.TestA`,
		source: head + `func TestA(t *testing.T) { t.Skip() }; func TestB(t *testing.T) {}`,
		want:   []string{"skipped (allowed): example.com/x.TestA"},
	}, {
		name:   "does not build",
		source: head + `func TestA(t *testing.T) { undefinedName() }`,
		want:   []string{"undefinedName", "0 passed, 0 failed, 0 skipped\n"},
	}, {
		name:   "crashes",
		source: head + `func TestA(t *testing.T) { t.Log("before the end"); go func() { panic("boom") }(); select {} }`,
		want:   []string{"boom", "FAIL\texample.com/x"},
	}, {
		name:   "runs nothing",
		source: head + `func helper(t *testing.T) {}`,
		want:   []string{"0 passed, 0 failed, 0 skipped\n"},
	}} {
		t.Run(c.name, func(t *testing.T) {
			out, ok := runTests(t, c.source, c.maySkip)
			if ok != c.ok {
				t.Errorf("ok is %v, want %v", ok, c.ok)
			}
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("%q is missing", w)
				}
			}
			for _, w := range c.notWant {
				if strings.Contains(out, w) {
					t.Errorf("%q is there", w)
				}
			}
			if t.Failed() {
				t.Logf("output:\n%s", out)
			}
		})
	}
}
