package layout

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	// `name` (`file.go`), `name` in `file.go`, or (`name`, `file.go`).
	symbol = regexp.MustCompile("`([A-Za-z]+)`(?:,? in | \\(|, )\\s*`([a-z/]+\\.go)`")
)

func documents(t *testing.T) []string {
	t.Helper()
	docs := []string{"../../README.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../fs/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, found...)
	}
	return docs
}

// TestLinksInDocuments: what a document points to is there.
func TestLinksInDocuments(t *testing.T) {
	for _, doc := range documents(t) {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", doc, m[1], err)
			}
		}
	}
}

// TestArchitectureNamesCode: the functions and types that the walk through the
// code names are in the files that it names.
func TestArchitectureNamesCode(t *testing.T) {
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	found := symbol.FindAllStringSubmatch(strings.Join(strings.Fields(string(text)), " "), -1)
	if len(found) < 10 {
		t.Fatalf("only %d symbols recognised: did the way of writing them change?", len(found))
	}
	for _, m := range found {
		name, file := m[1], m[2]
		code, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		declared := regexp.MustCompile(`(?m)^(?:func (?:\([^)]*\) )?|type |const |var )` + name + `\b`)
		if !declared.Match(code) {
			t.Errorf("%s declares no %s", file, name)
		}
	}
}
