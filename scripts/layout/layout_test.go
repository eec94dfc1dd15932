// Package layout holds a test and nothing else: that imports go in the
// direction that docs/architecture.md draws. Nested internal directories let
// the compiler enforce most of it; this is the rest.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "kmsfs.dev/kmsfs"

// pkg is what the go command says of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string // of the package itself, without its tests
	Deps       []string // all that it is built from
}

func list(t *testing.T, patterns ...string) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=ImportPath,Standard,Imports,Deps"}, patterns...)...)
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.String())
	}
	found := make(map[string]pkg)
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found[p.ImportPath] = p
	}
}

func ours(path string) bool { return strings.HasPrefix(path, module+"/") }

// within tells whether path is the package or tree root; both are relative to
// the module, or whole import paths of others.
func within(path string, roots ...string) bool {
	path = strings.TrimPrefix(path, module+"/")
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

// TestDependencies says what a tree must not be built from, however deep.
func TestDependencies(t *testing.T) {
	all := list(t, "./...")
	for _, rule := range []struct {
		why       string
		of        []string
		except    []string
		forbidden []string
		allowed   []string // below forbidden ones
	}{{
		why:       "the filesystem sees the key service through an interface of its own",
		of:        []string{"fs"},
		except:    []string{"fs/fstest"},
		forbidden: []string{"keysvc", "daemon", "cmd"},
		allowed:   []string{"keysvc/kmsapi", "keysvc/kmsclient", "keysvc/internal/frame"},
	}, {
		why:       "the key service knows nothing of filesystems",
		of:        []string{"keysvc"},
		forbidden: []string{"fs", "daemon", "cmd", "github.com/hanwen/go-fuse"},
	}, {
		why:       "clients need not link the key service",
		of:        []string{"keysvc/kmsapi", "keysvc/kmsclient"},
		forbidden: []string{"keysvc", "github.com/dgraph-io"},
		allowed:   []string{"keysvc/kmsapi", "keysvc/kmsclient", "keysvc/internal/frame"},
	}, {
		why:       "format, cryptography and page arithmetic know neither FUSE nor the disk below them",
		of:        []string{"fs/internal/content", "fs/internal/names", "fs/internal/format", "fs/internal/posixacl"},
		forbidden: []string{"fs", "github.com/hanwen/go-fuse"},
		allowed:   []string{"fs/internal/content", "fs/internal/names", "fs/internal/format", "fs/internal/posixacl", "fs/internal/siv"},
	}, {
		why:       "what every package may use depends on none of them",
		of:        []string{"internal"},
		forbidden: []string{"fs", "keysvc", "daemon", "cmd", "github.com/hanwen/go-fuse"},
	}, {
		why:       "test helpers are not shipped",
		of:        []string{"cmd"},
		forbidden: []string{"testing", "bench", "scripts", "fs/fstest", "keysvc/keysvctest"},
	}} {
		for path, p := range all {
			if !ours(path) || !within(path, rule.of...) || within(path, rule.except...) {
				continue
			}
			for _, dep := range p.Deps {
				if within(dep, rule.forbidden...) && !within(dep, rule.allowed...) {
					t.Errorf("%s is built from %s: %s", path, dep, rule.why)
				}
			}
		}
	}
}

// TestImports says who alone may import a package by name.
func TestImports(t *testing.T) {
	all := list(t, "./...")
	for _, rule := range []struct {
		imported string
		by       []string
	}{
		{"github.com/hanwen/go-fuse", []string{"fs", "bench/loopback"}},
		{"github.com/dgraph-io", []string{"keysvc"}},
		{"github.com/urfave/cli", []string{"cmd"}},
	} {
		for path, p := range all {
			if !ours(path) || within(path, rule.by...) {
				continue
			}
			for _, imp := range p.Imports {
				if within(imp, rule.imported) {
					t.Errorf("%s imports %s, which only %v may", path, imp, rule.by)
				}
			}
		}
	}
}

// TestStandardLibraryOnly: wire types must cost their users nothing.
func TestStandardLibraryOnly(t *testing.T) {
	for path, p := range list(t, "./keysvc/kmsapi") {
		if !p.Standard && path != module+"/keysvc/kmsapi" {
			t.Errorf("keysvc/kmsapi is built from %s", path)
		}
	}
}

// TestPureCode: these do no input and output of their own.
func TestPureCode(t *testing.T) {
	pure := []string{"fs/internal/content", "fs/internal/names", "fs/internal/posixacl"}
	for path, p := range list(t, "./fs/internal/...") {
		if !within(path, pure...) {
			continue
		}
		for _, imp := range p.Imports {
			if within(imp, "os", "net", "syscall", "golang.org/x/sys", "io/ioutil") {
				t.Errorf("%s imports %s", path, imp)
			}
		}
	}
}
