package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// freeKiB is how much is free, as df(1) asks for it.
func freeKiB(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bfree) * st.Bsize >> 10
}

// fill makes files of 1 MiB.
func fill(t *testing.T, dir string, files int) (names []string) {
	t.Helper()
	for i := range files {
		name := filepath.Join(dir, fmt.Sprint("f", i))
		if err := os.WriteFile(name, content(name, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// TestRemovedFilesAreFree: what files occupied that were removed, or replaced by a rename,
// is free as soon as somebody asks for it or needs it, on a disk with much room and on a full one.
func TestRemovedFilesAreFree(t *testing.T) {
	fstest.RequireRoot(t)
	const files = 40
	for _, size := range []string{"1g", "48m"} {
		t.Run("size="+size, func(t *testing.T) {
			v := fstest.New(t, fstest.Backing(fstest.Tmpfs(t, "size="+size)))
			small := filepath.Join(v.Mnt, "small")
			if err := os.WriteFile(small, []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
			before := freeKiB(t, v.Mnt)
			freed := func(what string) {
				t.Helper()
				if lost := before - freeKiB(t, v.Mnt); lost > 1<<10 {
					t.Errorf("%s: %d KiB are not free again", what, lost)
				}
			}
			for round := range 3 { // each needs what the one before has given back
				for _, name := range fill(t, v.Mnt, files) {
					if err := os.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
				freed(fmt.Sprint("removed, round ", round))
			}
			for _, name := range fill(t, v.Mnt, files) {
				if err := os.WriteFile(small, []byte("x"), 0o644); err != nil {
					t.Fatal(err)
				}
				rename(t, small, name)
				defer os.Remove(name)
			}
			freed("replaced")
			if n := backingFiles(v); n != 0 {
				t.Errorf("%d files are open", n)
			}
		})
	}
}

// TestRemovedFilesStayOpen: a file that somebody has open is there until it is closed, and
// one with another name stays.
func TestRemovedFilesStayOpen(t *testing.T) {
	v := fstest.New(t)
	name, other := filepath.Join(v.Mnt, "f"), filepath.Join(v.Mnt, "g")
	want := content("f", 100_000)
	if err := os.WriteFile(name, want, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(name, other); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(other); err != nil || string(got) != string(want) {
		t.Errorf("by the name that is left: %d bytes, %v", len(got), err)
	}
	f, err := os.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != string(want) {
		t.Errorf("without a name: %v", err)
	}
}
