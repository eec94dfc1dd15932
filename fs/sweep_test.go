package fs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// TestRewrapOfOpenFile: a file's rename is folded into its header while its key,
// which an open has re-wrapped for a path that does not fit there, waits for
// the sweep to be stored.
func TestRewrapOfOpenFile(t *testing.T) {
	t.Parallel() // it waits for a barrier
	v := fstest.New(t)
	dir := filepath.Join(v.Mnt, "d")
	long := filepath.Join(v.Mnt, strings.Repeat("l", 250))
	for _, err := range []error{
		os.Mkdir(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o644),
		os.Rename(filepath.Join(dir, "f"), filepath.Join(dir, "g")),
		os.Rename(dir, long),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(long, "g")
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(32 * time.Second) // a barrier comes every 30
	f.Close()
	for _, when := range []string{"opened again", "after a remount"} {
		if b, err := os.ReadFile(name); err != nil || string(b) != "content" {
			t.Errorf("%s: %q, %v", when, b, err)
		}
		v.Remount()
	}
	v.Unmount()
	v.Fsck()
}
