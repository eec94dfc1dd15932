package fs_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "kmsfs.dev/kmsfs/"

// TestImportDirection holds the packages to the direction in which a request
// goes: cmd, daemon, fs, keysvc/kmsclient, keysvc/kmsapi, and keysvc from the
// other side. What an internal directory can not say is said here.
func TestImportDirection(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports ","}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		pkg, list, _ := strings.Cut(strings.TrimSpace(line), ":")
		imports[pkg] = strings.Split(list, ",")
	}
	in := func(pkg, tree string) bool { return pkg == module+tree || strings.HasPrefix(pkg, module+tree+"/") }
	external := func(pkg string) bool { return strings.Contains(strings.Split(pkg, "/")[0], ".") }
	checks := 0
	for pkg, list := range imports {
		for _, imp := range list {
			bad := ""
			switch {
			case in(pkg, "keysvc/kmsapi") && external(imp):
				bad = "kmsapi uses the standard library only"
			case in(pkg, "keysvc/kmsclient") && in(imp, "keysvc") && !in(imp, "keysvc/kmsapi") && !in(imp, "keysvc/kmsclient") && imp != module+"keysvc/internal/frame":
				bad = "the client knows the wire types and frames, not the service"
			case in(pkg, "fs") && (imp == module+"keysvc" || in(imp, "keysvc/internal")):
				bad = "fs never imports keysvc itself"
			case in(pkg, "keysvc") && (in(imp, "fs") || in(imp, "daemon") || in(imp, "cmd")):
				bad = "the key service knows no filesystem"
			case in(pkg, "fs") && (in(imp, "daemon") || in(imp, "cmd")):
				bad = "fs knows nothing above it"
			case in(pkg, "daemon") && in(imp, "cmd"):
				bad = "the daemon knows no commands"
			case strings.HasPrefix(imp, "github.com/hanwen/go-fuse") && pkg != module+"fs" && !in(pkg, "fs/fstest") && !in(pkg, "bench") && !in(pkg, "scripts"):
				bad = "only fs imports go-fuse"
			case (in(pkg, "fs/internal/content") || in(pkg, "fs/internal/names") || in(pkg, "fs/internal/format")) &&
				(slices.Contains([]string{"os", "syscall", "net"}, imp) || in(imp, "fs/internal/backing")):
				bad = "the format does no I/O"
			case strings.HasPrefix(imp, "github.com/urfave/cli") && !in(pkg, "cmd"):
				bad = "flags belong to cmd"
			}
			if bad != "" {
				t.Errorf("%s imports %s: %s", pkg, imp, bad)
			}
			checks++
		}
	}
	if checks < 50 {
		t.Errorf("only %d imports were looked at", checks)
	}
}
