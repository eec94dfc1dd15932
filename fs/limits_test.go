package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// TestThousandLinks gives one file a thousand names, in several directories,
// and takes them away again.
func TestThousandLinks(t *testing.T) {
	v := fstest.New(t)
	first := filepath.Join(v.Mnt, "first")
	if err := os.WriteFile(first, []byte("linked"), 0o644); err != nil {
		t.Fatal(err)
	}
	const links = 1000
	link := func(i int) string { return filepath.Join(v.Mnt, fmt.Sprintf("d%d", i%7), fmt.Sprintf("link%d", i)) }
	for i := range 7 {
		if err := os.Mkdir(filepath.Join(v.Mnt, fmt.Sprintf("d%d", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i < links; i++ {
		if err := os.Link(first, link(i)); err != nil {
			t.Fatalf("link %d: %v", i, err)
		}
	}
	nlink := func(p string) uint64 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			t.Fatal(err)
		}
		return uint64(st.Nlink)
	}
	if n := nlink(first); n != links {
		t.Errorf("%d links", n)
	}
	v.Remount()
	if err := os.WriteFile(link(500), []byte("through one"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < links; i++ {
		if b, err := os.ReadFile(link(i)); err != nil || string(b) != "through one" {
			t.Fatalf("link %d: %q, %v", i, b, err)
		}
	}
	v.Unmount()
	v.Fsck()
	v.Mount()
	for i := 1; i < links-1; i++ {
		if err := os.Remove(link(i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := nlink(link(links - 1)); n != 1 {
		t.Errorf("%d links at the end", n)
	}
	if b, err := os.ReadFile(link(links - 1)); err != nil || string(b) != "through one" {
		t.Errorf("%q, %v", b, err)
	}
	v.Unmount()
	v.Fsck()
}

// TestLargeDirectory fills one directory with names of all lengths, lists it,
// renames it without looking at what is in it, and empties it while it is listed.
func TestLargeDirectory(t *testing.T) {
	entries := 10_000
	if fstest.Long() {
		entries = 100_000
	}
	v := fstest.New(t)
	dir := filepath.Join(v.Mnt, "large")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := func(i int) string {
		n := fmt.Sprintf("%d", i)
		if i%20 == 0 {
			n += strings.Repeat("x", i%(255-len(n)))
		}
		return n
	}
	for i := range entries {
		if err := os.WriteFile(filepath.Join(dir, name(i)), []byte(name(i)), 0o644); err != nil {
			t.Fatalf("file %d: %v", i, err)
		}
	}
	v.Unmount()
	service := newValve(t, v)
	v.Mount()
	seen := map[string]bool{}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if seen[e.Name()] {
			t.Fatalf("%q listed twice", e.Name())
		}
		seen[e.Name()] = true
	}
	if len(seen) != entries {
		t.Errorf("%d entries listed, want %d", len(seen), entries)
	}
	// A directory's rename does not look at what is in it, and everything
	// below opens at once.
	moved := filepath.Join(v.Mnt, "moved")
	service.hold()
	before := readCalls(t, v.Worker())
	renamed := make(chan error, 1)
	go func() { renamed <- os.Rename(dir, moved) }()
	select {
	case err := <-renamed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(commandWait):
		t.Error("renaming a directory waits for the key service")
	}
	if n := readCalls(t, v.Worker()) - before; n > entries/20 {
		t.Errorf("%d reads while a directory of %d entries is renamed", n, entries)
	}
	service.held.Unlock()
	if t.Failed() {
		t.FailNow()
	}
	for i := 0; i < entries; i += 97 {
		if b, err := os.ReadFile(filepath.Join(moved, name(i))); err != nil || string(b) != name(i) {
			t.Fatalf("%q: %.20q, %v", name(i), b, err)
		}
	}
	v.Kill()
	v.Mount()
	for i := 1; i < entries; i += 89 {
		if b, err := os.ReadFile(filepath.Join(moved, name(i))); err != nil || string(b) != name(i) {
			t.Fatalf("after a crash: %q: %.20q, %v", name(i), b, err)
		}
	}
	if err := os.RemoveAll(moved); err != nil {
		t.Fatal(err)
	}
	v.Unmount()
	v.Fsck()
}

// readCalls is how often a process has called read(2) and its like.
func readCalls(t *testing.T, pid int) (n int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if errors.Is(err, os.ErrPermission) {
		return 0 // only root may look
	}
	if err == nil {
		_, after, _ := strings.Cut(string(b), "syscr:")
		_, err = fmt.Sscan(after, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLongPaths makes a directory deeper than any path can name, and paths of
// exactly the longest length, with names of 255 bytes.
func TestLongPaths(t *testing.T) {
	v := fstest.New(t)
	deepest := v.Mnt
	for i := 0; ; i++ {
		name := strings.Repeat(string(rune('a'+i%26)), 255)
		next := filepath.Join(deepest, name)
		if len(next) > 4000 {
			break
		}
		if err := os.Mkdir(next, 0o755); err != nil {
			t.Fatal(err)
		}
		deepest = next
	}
	// PATH_MAX counts the NUL.
	file := deepest + "/" + strings.Repeat("f", 4095-len(deepest)-1)
	want := []byte("at the end of the longest path")
	if err := os.WriteFile(file, want, 0o644); err != nil {
		t.Fatalf("path of %d bytes: %v", len(file), err)
	}
	if err := os.WriteFile(file+"f", want, 0o644); err == nil {
		t.Error("a path of 4096 bytes and a NUL was taken")
	}
	v.Remount()
	if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, want) {
		t.Fatalf("%q, %v", b, err)
	}
	// Deeper than paths go, by descriptors.
	fd, err := unix.Open(deepest, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		name := strings.Repeat("z", 255)
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatalf("level %d below: %v", i, err)
		}
		next, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	deep, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_RDWR, 0o644)
	if err != nil {
		t.Fatalf("a file 28 names of 255 bytes deep: %v", err)
	}
	if _, err := unix.Write(deep, want); err != nil {
		t.Fatal(err)
	}
	unix.Close(deep)
	if err := unix.Renameat(fd, "file", fd, "renamed"); err != nil {
		t.Fatal(err)
	}
	deep, err = unix.Openat(fd, "renamed", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := unix.Read(deep, b); err != nil || !bytes.Equal(b[:n], want) {
		t.Errorf("%q, %v", b[:n], err)
	}
	unix.Close(deep)
	unix.Close(fd)
	v.Unmount()
	v.Fsck()
}

// TestAnyName makes a file of every byte that a name can have, alone, first
// and last, and of every length.
func TestAnyName(t *testing.T) {
	v := fstest.New(t)
	names := map[string]bool{}
	for c := 1; c < 256; c++ {
		if c == '/' {
			continue
		}
		for _, n := range []string{string([]byte{byte(c)}), string([]byte{'x', byte(c)}), string([]byte{byte(c), 'x'})} {
			names[n] = true
		}
	}
	for n := 1; n <= 255; n++ {
		names[strings.Repeat("n", n)] = true
	}
	for _, n := range []string{"kmsfs.conf", "kmsfs.dir", "kmsfs.settled", "kmsfs.ln.x", "kmsfs.new.1", "kmsfs.", "...", "..x"} {
		names[n] = true
	}
	delete(names, ".")
	delete(names, "..")
	for n := range names {
		if err := os.WriteFile(v.Mnt+"/"+n, []byte(n), 0o644); err != nil {
			t.Fatalf("%q: %v", n, err)
		}
	}
	if err := os.WriteFile(v.Mnt+"/"+strings.Repeat("n", 256), nil, 0o644); err == nil {
		t.Error("a name of 256 bytes was taken")
	}
	v.Remount()
	list, err := os.ReadDir(v.Mnt)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if !names[e.Name()] {
			t.Errorf("%q is listed", e.Name())
		}
		if b, err := os.ReadFile(v.Mnt + "/" + e.Name()); err != nil || string(b) != e.Name() {
			t.Errorf("%q: %q, %v", e.Name(), b, err)
		}
	}
	if len(list) != len(names) {
		t.Errorf("%d names listed, want %d", len(list), len(names))
	}
	v.Unmount()
	v.Fsck()
}

// TestManyOpen: what programs have open at a time is limited by what the system
// allows, not by what one process, the worker, is allowed by default.
func TestManyOpen(t *testing.T) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	want := lim.Max
	more := unix.Rlimit{Cur: lim.Cur, Max: lim.Max + 1}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil { // we have CAP_SYS_RESOURCE, and so has the worker
		text, err := os.ReadFile("/proc/sys/fs/nr_open")
		if err == nil {
			want, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	v := fstest.New(t)
	var got unix.Rlimit
	if err := unix.Prlimit(v.Worker(), unix.RLIMIT_NOFILE, nil, &got); err != nil {
		t.Fatal(err)
	}
	if got.Cur != want {
		t.Errorf("the worker may have %d files open, not %d", got.Cur, want)
	}
}
