package fs_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// dirty is how much of a file's content waits in memory for somebody to have it written,
// in bytes.
func dirty(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stat unix.Cachestat_t
	err = unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &stat, 0)
	if err == unix.ENOSYS {
		t.Skip("needs cachestat(2), Linux 6.5")
	}
	if err != nil {
		t.Fatal(err)
	}
	return int64(stat.Dirty) * int64(unix.Getpagesize())
}

// TestGrowingFileIsWrittenOut lets a file grow without an fsync. Most of it must go to
// the disk by itself, long before the kernel would send it there.
func TestGrowingFileIsWrittenOut(t *testing.T) {
	const size, gathered, limit = 48 << 20, 16 << 20, 10 * time.Second // the kernel waits for 30 s
	v := fstest.New(t)
	f, err := os.Create(filepath.Join(v.Mnt, "grows"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for range size / len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	stored := v.BackingPath(t, "grows")
	left := dirty(t, stored)
	err = fstest.Poll(limit, func() (bool, error) {
		if left <= gathered {
			return true, nil
		}
		_, err := f.Write(chunk[:4096]) // each growth is an occasion
		left = dirty(t, stored)
		return false, err
	})
	if err != nil {
		t.Errorf("%d MiB of %d wait in memory: %v", left>>20, size>>20, err)
	}
	// A file that was cut off grows again.
	for _, length := range []int64{0, 1 << 20} {
		if err := f.Truncate(length); err != nil {
			t.Fatal(err)
		}
		for off := length; off < 2*gathered; off += int64(len(chunk)) {
			if _, err := f.WriteAt(chunk, off); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left := dirty(t, stored); left == 2*gathered {
		t.Error("after a truncation nothing is written out")
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if left := dirty(t, stored); left != 0 {
		t.Errorf("%d bytes are dirty after an fsync", left)
	}
}
