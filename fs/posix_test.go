package fs_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// TestPosix runs go-fuse's conformance suite whole, over the filesystem of
// the scratch directory and over tmpfs, in every key mode and algorithm that
// changes the format. A test of the suite that skips itself has met a limit,
// and fails the run. Two exceptions:
//
//   - FcntlFlockLocksFile expects a POSIX lock to conflict with another lock of
//     the same process, against fcntl(2). It fails on ext4 and tmpfs, and the
//     suite's own TestAll leaves it out. Here the mount has to do what the
//     native filesystem does; TestLocksBetweenProcesses has real conflicts.
//   - XAttrLarge needs a backing filesystem without ext4's limit of 4 KiB on
//     extended attributes; it runs on tmpfs.
func TestPosix(t *testing.T) {
	for _, c := range []struct {
		name  string
		tmpfs bool
		init  []string
	}{
		{name: "disk"},
		{name: "tmpfs", tmpfs: true},
		{name: "volume-key", tmpfs: true, init: []string{"--keys", "volume"}},
		{name: "xchacha", tmpfs: true, init: []string{"--algorithm", "xchacha20-poly1305"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			options := []fstest.Option{fstest.InitArgs(c.init...)}
			suite := maps.Clone(posixtest.All)
			suite["FcntlFlockLocksFile"] = locksAsNative
			if c.tmpfs {
				options = append(options, fstest.Backing(fstest.Tmpfs(t, "size=256m")))
			} else {
				delete(suite, "XAttrLarge")
			}
			v := fstest.New(t, options...)
			for _, name := range slices.Sorted(maps.Keys(suite)) {
				dir := filepath.Join(v.Mnt, name)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				var skipped bool
				t.Run(name, func(t *testing.T) {
					defer func() { skipped = t.Skipped() }()
					suite[name](t, dir)
				})
				if skipped {
					t.Errorf("%s skipped itself", name)
				}
			}
			v.CheckAlive()
			v.Unmount()
			v.Fsck()
		})
	}
}

// locksAsNative is what FcntlFlockLocksFile does, with the native filesystem
// for the answer.
func locksAsNative(t *testing.T, dir string) {
	answer := func(dir string) error {
		f1, err := os.Create(filepath.Join(dir, "test"))
		if err != nil {
			t.Fatal(err)
		}
		defer f1.Close()
		if err := unix.FcntlFlock(f1.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
			t.Fatal(err)
		}
		f2, err := os.OpenFile(f1.Name(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f2.Close()
		return unix.FcntlFlock(f2.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK})
	}
	if got, want := answer(dir), answer(t.TempDir()); got != want {
		t.Errorf("a second lock of the process: %v, want %v", got, want)
	}
}
