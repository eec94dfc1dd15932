package fstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var scratch struct {
	sync.Mutex
	dir  string
	next int
}

// Scratch returns the one directory that holds everything this test process
// makes. Its path is short, and other users may pass through it.
func Scratch() (string, error) {
	scratch.Lock()
	defer scratch.Unlock()
	if scratch.dir != "" {
		return scratch.dir, nil
	}
	dir, err := os.MkdirTemp("", "k")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	scratch.dir = dir
	return dir, nil
}

// Dir makes a new directory below Scratch, traversable by every user, and
// removes it when the test ends.
func Dir(t testing.TB) string {
	t.Helper()
	root, err := Scratch()
	if err != nil {
		t.Fatal(err)
	}
	scratch.Lock()
	scratch.next++
	dir := filepath.Join(root, strconv.Itoa(scratch.next))
	scratch.Unlock()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeAll(dir); err != nil {
			t.Errorf("removing the test's directory: %v", err)
		}
	})
	return dir
}

// Tmpfs mounts a tmpfs for the length of a test: a backing filesystem without
// ext4's limit on extended attributes, and without a disk. Root only.
func Tmpfs(t testing.TB, options string) string {
	t.Helper()
	RequireRoot(t)
	dir := filepath.Join(Dir(t), "t")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("kmsfs-test", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount tmpfs on %s: %v", dir, err)
	}
	t.Cleanup(func() {
		err := Poll(time.Minute, func() (bool, error) {
			err := unix.Unmount(dir, 0)
			if errors.Is(err, unix.EBUSY) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			t.Errorf("unmount %s: %v", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// removeAll removes a tree whose directories a test may have made unreadable.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(dir))
}

// Poll calls done until it reports true or an error, or the time is over.
func Poll(limit time.Duration, done func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("still not so after %v", limit)
		}
		time.Sleep(wait)
	}
}

// mounts lists the mountpoints at and below dir, the deepest last.
func mounts(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
	return found, nil
}

// Mounted tells whether dir is a mountpoint.
func Mounted(dir string) bool {
	points, err := mounts(dir)
	return err == nil && len(points) > 0 && points[0] == dir
}

// unescapeMount undoes the kernel's octal escapes for blanks in mountinfo.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
