package fstest

import (
	"os"
	"os/exec"
	"testing"
)

// EnvRequire makes a missing privilege or program a failure instead of a
// skipped test. CI=true does the same: a run that skipped proves nothing.
const EnvRequire = "KMSFS_REQUIRE_FUSE"

// Long tells whether the long form of a test was asked for.
func Long() bool { return os.Getenv("KMSFS_LONG") == "1" }

func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" || os.Getenv(EnvRequire) == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// RequireFUSE skips a test that can not mount.
func RequireFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		missing(t, "this test mounts a filesystem and needs /dev/fuse: %v", err)
		return
	}
	f.Close()
	if os.Getuid() != 0 {
		RequireProgram(t, "fusermount3", "fuse3")
	}
}

// RequireRoot skips a test that acts as several users or makes mounts of its
// own.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "this test needs root")
	}
}

// RequireProgram skips a test whose program, of the named Debian package, is
// not installed.
func RequireProgram(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, "this test needs %s (apt-get install %s)", program, pkg)
	}
	return path
}
