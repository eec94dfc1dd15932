package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// TestListedOnce: the kernel keeps what a directory lists, and lists what is there
// whatever changes the directory, to who opened it before, too.
func TestListedOnce(t *testing.T) {
	v := fstest.New(t, fstest.MountArgs("--debug-fuse"))
	dir, other := filepath.Join(v.Mnt, "dir"), filepath.Join(v.Mnt, "other")
	for _, d := range []string{dir, other} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]bool{}
	for i := range 1000 { // some replies' worth
		name := fmt.Sprint("file-", i)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		want[name] = true
	}
	before, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	check := func(when string) {
		t.Helper()
		var expected []string
		for name := range want {
			expected = append(expected, name)
		}
		slices.Sort(expected)
		for range 2 {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			if !slices.Equal(names, expected) {
				t.Errorf("%s %d names are listed, not the %d that there are", when, len(names), len(expected))
			}
		}
		if _, err := before.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		names, err := before.Readdirnames(-1)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		if !slices.Equal(names, expected) {
			t.Errorf("%s %d names are listed to who had the directory open, not the %d that there are", when, len(names), len(expected))
		}
	}
	check("at first")
	// The kernel may give the memory to others in between, but not every time.
	for left := 10; ; left-- {
		asked := listings(t, v)
		check("again")
		more := listings(t, v) - asked
		if more == 0 {
			break
		}
		if left == 0 {
			t.Fatalf("%d requests to list what has been listed", more)
		}
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		what    string
		do      func() error
		with    string
		without string
	}{
		{"create", func() error { return os.WriteFile(path("new"), nil, 0o644) }, "new", ""},
		{"mkdir", func() error { return os.Mkdir(path("sub"), 0o755) }, "sub", ""},
		{"symlink", func() error { return os.Symlink("x", path("sym")) }, "sym", ""},
		{"mknod", func() error { return unix.Mkfifo(path("fifo"), 0o644) }, "fifo", ""},
		{"link", func() error { return os.Link(path("file-1"), path("linked")) }, "linked", ""},
		{"unlink", func() error { return os.Remove(path("file-2")) }, "", "file-2"},
		{"rmdir", func() error { return os.Remove(path("sub")) }, "", "sub"},
		{"rename", func() error { return os.Rename(path("file-3"), path("renamed")) }, "renamed", "file-3"},
		{"rename over another", func() error { return os.Rename(path("file-4"), path("file-5")) }, "", "file-4"},
		{"rename out", func() error { return os.Rename(path("file-6"), filepath.Join(other, "out")) }, "", "file-6"},
		{"rename in", func() error { return os.Rename(filepath.Join(other, "out"), path("in")) }, "in", ""},
		{"tmpfile", func() error {
			f, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o644)
			if err != nil {
				return err
			}
			link := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f), unix.AT_FDCWD, path("tmp"), unix.AT_SYMLINK_FOLLOW)
			return errors.Join(link, unix.Close(f))
		}, "tmp", ""},
	} {
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if c.with != "" {
			want[c.with] = true
		}
		delete(want, c.without)
		check("after " + c.what)
	}
}

// listings counts the requests to list a directory that a worker with --debug-fuse has
// logged.
func listings(t *testing.T, v *fstest.Volume) int {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(v.State, "log", "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("the worker's log: %v, %v", logs, err)
	}
	text, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), ": READDIR")
}
