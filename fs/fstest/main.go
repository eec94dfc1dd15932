package fstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Main runs a package's tests and then looks for what they left: a mount, a
// process or a file below the scratch directory fails the run.
//
//	func TestMain(m *testing.M) { fstest.Main(m) }
func Main(m *testing.M) {
	restore := func() error { return nil }
	if Transport() == "uring" {
		var err error
		if restore, err = EnableUring(); err != nil {
			fmt.Fprintf(os.Stderr, "%s=uring: %v\n", EnvTransport, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := restore(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if left := leftovers(); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "the tests left behind:\n  %s\n", strings.Join(left, "\n  "))
		code = max(code, 1)
	}
	os.Exit(code)
}

// leftovers names what is left below the scratch directory, and removes it.
func leftovers() []string {
	dir := scratch.dir
	if dir == "" {
		return nil
	}
	var left []string
	points, err := mounts(dir)
	if err != nil {
		left = append(left, err.Error())
	}
	for i := len(points) - 1; i >= 0; i-- {
		left = append(left, "mount "+points[i])
		_ = unix.Unmount(points[i], unix.MNT_DETACH)
	}
	// A helper that was told to stop may still be ending.
	_ = Poll(time.Minute, func() (bool, error) { return len(processes(dir)) == 0, nil })
	for _, p := range processes(dir) {
		left = append(left, fmt.Sprintf("process %d: %s", p.pid, strings.Join(p.args, " ")))
		_ = stop(p.pid)
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != "bin" {
			left = append(left, "file "+filepath.Join(dir, e.Name()))
		}
	}
	if err := removeAll(dir); err != nil {
		left = append(left, err.Error())
	}
	return left
}
