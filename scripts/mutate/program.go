package main

import (
	_ "embed"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// program is a package of which each change can be switched on.
type program struct {
	path    string // of its directory, from the module's root
	dir     string // the same, absolute
	only    []string
	mutants []mutant
	sources map[string][]byte // by path: the package's files as they are to be built
}

// mutant is a change.
type mutant struct {
	id        int // from 1
	file      string
	function  string // or "" outside of all
	line, col int
	change    string // no other of the function has these words
}

func (m mutant) String() string {
	return fmt.Sprintf("%d\t%s:%d:%d\t%s\t%s", m.id, m.file, m.line, m.col, m.function, m.change)
}

// key is what equivalent.txt calls it: without numbers that other lines change.
func (m mutant) key() string { return m.file + "\t" + m.function + "\t" + m.change }

// instrument parses the package in a directory and writes all changes into its code,
// each behind a comparison with the number of the one that is to be made. If files are
// named, only they are changed.
func instrument(path string, only []string) (*program, error) {
	dir, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	listed, err := build.ImportDir(dir, 0)
	if err != nil {
		return nil, err
	}
	for _, name := range only {
		if !slices.Contains(listed.GoFiles, name) {
			return nil, fmt.Errorf("%s has no file %s", path, name)
		}
	}
	p := &program{path: filepath.ToSlash(filepath.Clean(path)), dir: dir, only: only, sources: map[string][]byte{}}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range listed.GoFiles {
		full := filepath.Join(dir, name)
		src, err := os.ReadFile(full)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(fset, full, src, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.sources[full] = src
		files = append(files, f)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	// With cgo the importer compiles C, and leaves the objects in the temporary directory.
	build.Default.CgoEnabled = false
	conf := types.Config{Importer: importer.ForCompiler(fset, "source", nil)}
	pkg, err := conf.Check(listed.Name, fset, files, info)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		full := fset.Position(f.Pos()).Filename
		if !p.changes(filepath.Base(full)) {
			continue
		}
		e := &editor{p: p, fset: fset, info: info, pkg: pkg, path: full, src: p.sources[full],
			fixed: map[ast.Node]bool{}, words: map[string]int{}}
		for _, d := range f.Decls {
			e.declaration(d)
		}
		p.sources[full] = apply(e.src, e.edits)
	}
	p.sources[filepath.Join(dir, "mutant_switch.go")] = fmt.Appendf(nil, switchSource, listed.Name, mutantEnv)
	return p, nil
}

func (p *program) changes(file string) bool { return p.only == nil || slices.Contains(p.only, file) }

// mutantEnv names the change to make.
const mutantEnv = "MUTANT"

// switchSource is what the changes in a package's code call.
const switchSource = `package %s

import (
	"os"
	"strconv"
)

var mutant__, _ = strconv.Atoi(os.Getenv(%q))

func mutantOne__(id int) int {
	if mutant__ == id {
		return 1
	}
	return 0
}

func mutantText__(id int) string {
	if mutant__ == id {
		return "~"
	}
	return ""
}

func mutantZero__[T any](id int, x T) T {
	if mutant__ == id {
		var zero T
		return zero
	}
	return x
}
`

//go:embed equivalent.txt
var equivalentText string

// equivalents returns the package's changes that alter nothing, by mutant.key, and why.
// One that is not a change any more is an error.
func equivalents(p *program) (map[string]string, error) {
	exists := map[string]bool{}
	for _, m := range p.mutants {
		exists[m.key()] = true
	}
	known := map[string]string{}
	var errs []error
	for i, line := range strings.Split(equivalentText, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		part := strings.Split(line, "\t")
		if len(part) != 5 || part[4] == "" {
			errs = append(errs, fmt.Errorf("equivalent.txt:%d: not directory, file, function, change and reason with tabs between", i+1))
			continue
		}
		if part[0] != p.path || !p.changes(part[1]) {
			continue
		}
		key := strings.Join(part[1:4], "\t")
		if !exists[key] {
			errs = append(errs, fmt.Errorf("equivalent.txt:%d: there is no such change any more", i+1))
		}
		if known[key] != "" {
			errs = append(errs, fmt.Errorf("equivalent.txt:%d: the change is named twice", i+1))
		}
		known[key] = part[4]
	}
	return known, errors.Join(errs...)
}
