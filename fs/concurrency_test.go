package fs_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// commandWait is how long a condition may take on a slow machine.
const commandWait = time.Minute

// TestAppendRace: appends of many writers come out whole, each once, in the
// order of each writer, as O_APPEND promises.
func TestAppendRace(t *testing.T) {
	v := fstest.New(t)
	name := filepath.Join(v.Mnt, "log")
	const writers, lines = 6, 400
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for i := range lines {
				if _, err := fmt.Fprintf(f, "%d %d %s\n", w, i, strings.Repeat("x", (w*97+i*13)%300)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for range 2 {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var next [writers]int
		for s := bufio.NewScanner(f); s.Scan(); {
			var w, i int
			var x string
			if n, _ := fmt.Sscanf(s.Text(), "%d %d %s", &w, &i, &x); n < 2 || w >= writers || i != next[w] || len(x) != (w*97+i*13)%300 {
				t.Fatalf("line %.60q, want line %v", s.Text(), next)
			}
			next[w]++
		}
		f.Close()
		if next != [writers]int{lines, lines, lines, lines, lines, lines} {
			t.Errorf("lines: %v", next)
		}
		v.Remount()
	}
}

// TestReadersAndWriters: each block is written whole by its writer, and a
// reader sees some whole block of it, or an older one; never a mixture beyond
// what ext4 shows inside one page.
func TestReadersAndWriters(t *testing.T) {
	v := fstest.New(t)
	name := filepath.Join(v.Mnt, "f")
	const block, blocks = 512, 64
	if err := os.WriteFile(name, make([]byte, block*blocks), 0o644); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				at := rng.IntN(blocks/3)*3 + w
				if at >= blocks {
					continue
				}
				b := bytes.Repeat([]byte{byte(i%255 + 1)}, block)
				if _, err := f.WriteAt(b, int64(at*block)); err != nil {
					t.Error(err)
					return
				}
				// Who wrote a block reads it back: nobody else writes it.
				got := make([]byte, block)
				if _, err := f.ReadAt(got, int64(at*block)); err != nil || !bytes.Equal(got, b) {
					t.Errorf("block %d: %v, got %x.. want %x..", at, err, got[:4], b[:4])
					return
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			f, err := os.Open(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			b := make([]byte, block*blocks)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if n, err := f.ReadAt(b, 0); n != len(b) || err != nil && err != io.EOF {
					t.Errorf("read %d, %v", n, err)
					return
				}
			}
		})
	}
	time.Sleep(testDuration(2 * time.Second))
	close(stop)
	wg.Wait()
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for at := range blocks {
		b := before[at*block : (at+1)*block]
		if len(bytes.Trim(b, string(b[:1]))) > 0 {
			t.Errorf("block %d is of two writes", at)
		}
	}
	v.Remount()
	if after, err := os.ReadFile(name); err != nil || !bytes.Equal(before, after) {
		t.Errorf("after a remount: %v, same: %t", err, bytes.Equal(before, after))
	}
}

// testDuration is longer in the long form.
func testDuration(d time.Duration) time.Duration {
	if fstest.Long() {
		return 20 * d
	}
	return d
}

// TestDirectoryRace: creates, links, renames and removes of the same few
// names by many at once end in a tree that a remount shows again, with an
// error only of the kinds that a race gives.
func TestDirectoryRace(t *testing.T) {
	v := fstest.New(t)
	for _, d := range []string{"a", "b", "a/sub"} {
		if err := os.Mkdir(filepath.Join(v.Mnt, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	deadline := time.Now().Add(testDuration(2 * time.Second))
	for w := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			any := func() string {
				return filepath.Join(v.Mnt, []string{"a", "b", "a/sub"}[rng.IntN(3)], fmt.Sprint(rng.IntN(6)))
			}
			for time.Now().Before(deadline) {
				var err error
				switch p := any(); rng.IntN(9) {
				case 0, 1:
					err = os.WriteFile(p, []byte(p), 0o644)
				case 2:
					err = unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, any(), uint(rng.IntN(3)))
				case 3:
					err = os.Link(p, any())
				case 4:
					err = os.Remove(p)
				case 5:
					err = os.Symlink("x", p)
				case 6:
					err = os.Mkdir(p, 0o755)
				case 7:
					_, err = os.ReadFile(p)
				default:
					_, err = os.ReadDir(filepath.Dir(p))
				}
				if err == nil {
					continue
				}
				var errno unix.Errno
				switch {
				case !asErrno(err, &errno):
					t.Errorf("%v", err)
				case errno == unix.ENOENT, errno == unix.EEXIST, errno == unix.ENOTEMPTY, errno == unix.EISDIR, errno == unix.ENOTDIR,
					errno == unix.EPERM, errno == unix.EINVAL: // EPERM: link of a directory. EINVAL: into itself
				default:
					t.Errorf("%v", err)
				}
			}
		})
	}
	wg.Wait()
	v.CheckAlive()
	sameAfterRemount(t, v, v.Mnt)
}

// TestLocksBetweenProcesses: flock and fcntl locks exclude another process,
// and are released when it ends.
func TestLocksBetweenProcesses(t *testing.T) {
	fstest.RequireProgram(t, "flock", "util-linux")
	v := fstest.New(t)
	name := filepath.Join(v.Mnt, "lock")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// flock(2)
	cmd := exec.Command("flock", name, "sh", "-c", "echo locked; read line || true")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("flock while another process holds it: %v", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("flock after the other process ended: %v", err)
	}
	// fcntl(2): SQLite's locks, seen by a process of its own.
	fstest.RequireProgram(t, "sqlite3", "sqlite3")
	db := filepath.Join(v.Mnt, "db")
	sh(t, v.Mnt, "sqlite3 "+db+" 'CREATE TABLE t(a)'")
	held, err := os.OpenFile(db, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: 0x40000000, Len: 512} // SQLite's lock bytes
	if err := unix.FcntlFlock(held.Fd(), unix.F_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("sqlite3", db, "INSERT INTO t VALUES(1)").CombinedOutput(); err == nil || !bytes.Contains(b, []byte("locked")) {
		t.Errorf("insert under a lock: %v, %s", err, b)
	}
	lock.Type = unix.F_UNLCK
	if err := unix.FcntlFlock(held.Fd(), unix.F_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	sh(t, v.Mnt, "sqlite3 "+db+" 'INSERT INTO t VALUES(1)'")
}

// TestMapBetweenProcesses: a store through one process's shared mapping is
// seen in another process's, and by read(2) and after a remount.
func TestMapBetweenProcesses(t *testing.T) {
	fstest.RequireProgram(t, "python3", "python3")
	v := fstest.New(t)
	name := filepath.Join(v.Mnt, "shared")
	if err := os.WriteFile(name, make([]byte, 3*4096), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 3*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	const script = `import mmap,sys
f=open(sys.argv[1],'r+b'); m=mmap.mmap(f.fileno(),0)
while m[0]!=1: pass
m[5000:5005]=b'hello'
m[1]=2
`
	cmd := exec.Command("python3", "-c", script, name)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mem[0] = 1
	if err := fstest.Poll(commandWait, func() (bool, error) { return mem[1] == 2, nil }); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if string(mem[5000:5005]) != "hello" {
		t.Errorf("mapping: %q", mem[5000:5005])
	}
	if b, err := os.ReadFile(name); err != nil || string(b[5000:5005]) != "hello" {
		t.Errorf("read: %v", err)
	}
	if err := unix.Munmap(mem); err != nil {
		t.Error(err)
	}
	f.Close()
	v.Remount()
	if b, err := os.ReadFile(name); err != nil || string(b[5000:5005]) != "hello" || b[0] != 1 || b[1] != 2 {
		t.Errorf("after a remount: %v", err)
	}
}

// TestFirstOpenDuringWrite: what the kernel is given of a small file when it is
// opened first is no older than a write or truncation that runs beside.
func TestFirstOpenDuringWrite(t *testing.T) {
	v := fstest.New(t)
	const files = 300
	before, after := bytes.Repeat([]byte("A"), 3000), bytes.Repeat([]byte("B"), 3000)
	for what, change := range map[string]func(fd int) error{
		"write":    func(fd int) error { _, err := unix.Pwrite(fd, after, 0); return err },
		"truncate": func(fd int) error { return unix.Ftruncate(fd, 10) },
		"append":   func(fd int) error { _, err := unix.Pwrite(fd, after, 3000); return err },
	} {
		want := map[string][]byte{"write": after, "truncate": before[:10], "append": append(bytes.Clone(before), after...)}[what]
		t.Run(what, func(t *testing.T) {
			name := func(i int) string { return filepath.Join(v.Mnt, fmt.Sprint(what, i)) }
			for i := range files {
				if err := os.WriteFile(name(i), before, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			v.Remount()
			for i := range files {
				w, err := unix.Open(name(i), unix.O_WRONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				wg.Go(func() {
					if err := change(w); err != nil {
						t.Error(err)
					}
				})
				r, err := os.Open(name(i))
				wg.Wait()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
					t.Errorf("file %d: read %d bytes, want %d: older content (%v)", i, len(got), len(want), err)
				}
				r.Close()
				unix.Close(w)
			}
		})
	}
}
