package fstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// EnvBinary names a kmsfs to test instead of the one built from the checkout.
// It is also how a test process hands its binary to the processes it starts.
const EnvBinary = "KMSFS_TEST_BIN"

var builds struct {
	sync.Mutex
	done map[string]error
}

// Binary builds cmd/kmsfs once per process tree and returns its path. A test
// binary with the race detector gets a kmsfs with the race detector.
func Binary() (string, error) {
	if bin := os.Getenv(EnvBinary); bin != "" {
		return bin, nil
	}
	bin, err := Build("kmsfs.dev/kmsfs/cmd/kmsfs", Race)
	if err != nil {
		return "", err
	}
	return bin, os.Setenv(EnvBinary, bin)
}

// Build builds a main package of this module, once, below the scratch
// directory.
func Build(pkg string, race bool) (string, error) {
	builds.Lock()
	defer builds.Unlock()
	root, err := Scratch()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin", filepath.Base(pkg))
	if err, ok := builds.done[pkg]; ok {
		return bin, err
	}
	args := []string{"build", "-o", bin}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, pkg)...)
	if !race {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	}
	if builds.done == nil {
		builds.done = map[string]error{}
	}
	builds.done[pkg] = err
	return bin, err
}
