package fs_test

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// rewrapAnswer is what kmsfs rewrap --json prints.
type rewrapAnswer struct {
	KeyMaterial                     string
	Total, Files, Rewrapped, Failed int64
	VolumeKey                       bool
	Failures                        []struct{ Path, Reason string }
}

// rewrap runs kmsfs rewrap.
func rewrap(t *testing.T, v *fstest.Volume, what string) (a rewrapAnswer, exit int) {
	t.Helper()
	stdout, stderr, exit := v.Run("rewrap", "--json", what)
	if err := json.Unmarshal([]byte(stdout), &a); err != nil {
		t.Fatalf("rewrap %s: exit %d, %v\n%s%s", what, exit, err, stdout, stderr)
	}
	return a, exit
}

// mustRewrap is rewrap without a failure.
func mustRewrap(t *testing.T, v *fstest.Volume, what string) rewrapAnswer {
	t.Helper()
	a, exit := rewrap(t, v, what)
	if exit != 0 || a.Failed != 0 {
		t.Fatalf("rewrap %s: exit %d, %+v", what, exit, a)
	}
	return a
}

// kmsKey is the key of a volume.
func kmsKey(t *testing.T, v *fstest.Volume) string {
	t.Helper()
	conf, err := fs.ReadConfig(v.Cipher)
	if err != nil {
		t.Fatal(err)
	}
	return conf.KMSKey
}

// headerMaterials counts, by the bytes in the ciphertext directory, the headers of
// files whose key is under each key material.
func headerMaterials(t *testing.T, v *fstest.Volume) map[string]int {
	t.Helper()
	found := map[string]int{}
	err := filepath.WalkDir(v.Cipher, func(path string, d iofs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "kmsfs.conf" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := make([]byte, format.HeaderSize)
		if _, err := f.ReadAt(h, 0); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		wrapped := h[136:][:binary.LittleEndian.Uint16(h[96:])]
		if len(wrapped) == 0 {
			return nil // the name's record has it
		}
		under, ok := kmsapi.ParseBlob(wrapped)
		if !ok {
			return fmt.Errorf("%s: not a wrapped key", path)
		}
		found[hex.EncodeToString(under.MaterialID[:])]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// material is what kmsfs info says of a file.
func material(t *testing.T, v *fstest.Volume, path string) string {
	t.Helper()
	var info struct{ KeyMaterial string }
	if err := json.Unmarshal([]byte(v.Must("info", "--json", path)), &info); err != nil {
		t.Fatal(err)
	}
	return info.KeyMaterial
}

// TestRewrap: after a rotation every key, wherever it is stored, comes under the new
// material, and is left alone when it is.
func TestRewrap(t *testing.T) {
	for _, init := range [][]string{nil, {"--context", "opaque"}, {"--context", "volume"}} {
		t.Run(strings.Join(append([]string{"init"}, init...), " "), func(t *testing.T) {
			v := fstest.New(t, fstest.InitArgs(init...))
			at := func(name string) string { return filepath.Join(v.Mnt, name) }
			deep := strings.Repeat(strings.Repeat("d", 200)+"/", 4) // a path that does not fit a header
			files := []string{"a", "sub/b", "sub/c", "moved/was/d", deep + "e"}
			for _, name := range files {
				if err := errors.Join(os.MkdirAll(filepath.Dir(at(name)), 0o755), os.WriteFile(at(name), []byte(name), 0o640)); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(
				os.Link(at("sub/c"), at("0-link")), os.Link(at("sub/c"), at(deep+"link")), os.Symlink("a", at("symlink")),
				syscall.Mkfifo(at("fifo"), 0o600), os.Rename(at("moved"), at("here")), os.Chmod(at("a"), 0o400),
			); err != nil {
				t.Fatal(err)
			}
			names := map[string]string{"a": "a", "sub/b": "sub/b", "sub/c": "sub/c", "0-link": "sub/c", deep + "link": "sub/c", "here/was/d": "moved/was/d", deep + "e": deep + "e"}
			old := material(t, v, at("a"))
			before, err := os.Stat(at("sub/b"))
			if err != nil {
				t.Fatal(err)
			}
			v.Must("key", "rotate", kmsKey(t, v))

			a := mustRewrap(t, v, v.Mnt)
			if a.KeyMaterial == old || !a.VolumeKey || a.Total != int64(len(names)) || a.Files != a.Total || a.Rewrapped != a.Files {
				t.Errorf("the first time: %+v (before: %s)", a, old)
			}
			if again := mustRewrap(t, v, v.Mnt); again.KeyMaterial != a.KeyMaterial || again.VolumeKey || again.Rewrapped != 0 {
				t.Errorf("again: %+v", again)
			}
			check := func() {
				t.Helper()
				if got := headerMaterials(t, v); len(got) != 1 || got[a.KeyMaterial] == 0 {
					t.Errorf("headers are under %v, not under %s", got, a.KeyMaterial)
				}
				for name, want := range names {
					v.Remount() // so that each name is the first that the file is known by
					if got := material(t, v, at(name)); got != a.KeyMaterial {
						t.Errorf("%s is under %s", name, got)
					}
					if got, err := os.ReadFile(at(name)); err != nil || string(got) != want {
						t.Errorf("%s has %q, %v", name, got, err)
					}
				}
				v.Unmount()
				v.Fsck()
			}
			check()

			v.Must("key", "rotate", kmsKey(t, v))
			if a = mustRewrap(t, v, v.Cipher); a.Rewrapped != int64(len(names)) || !a.VolumeKey {
				t.Errorf("while it is not mounted: %+v", a)
			}
			v.Mount()
			check()
			v.Mount()
			if after, err := os.Stat(at("sub/b")); err != nil || !after.ModTime().Equal(before.ModTime()) || after.Mode() != before.Mode() {
				t.Errorf("sub/b was of %v and %v, and is of %v and %v", before.ModTime(), before.Mode(), after.ModTime(), after.Mode())
			}
		})
	}
}

// TestRewrapKeysVolume: a volume with one key has one key re-wrapped.
func TestRewrapKeysVolume(t *testing.T) {
	v := fstest.New(t, fstest.InitArgs("--keys", "volume"))
	name := filepath.Join(v.Mnt, "f")
	if err := os.WriteFile(name, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if a := mustRewrap(t, v, v.Mnt); a.VolumeKey {
		t.Errorf("before any rotation: %+v", a)
	}
	v.Must("key", "rotate", kmsKey(t, v))
	if a := mustRewrap(t, v, v.Mnt); !a.VolumeKey || a.Files != 0 || a.Rewrapped != 0 {
		t.Errorf("after one: %+v", a)
	}
	if _, stderr, exit := v.Run("mount", v.Cipher, fstest.Dir(t)); exit == 0 || !strings.Contains(stderr, "mounted already") {
		t.Errorf("the volume is mounted a second time: the lock was lost with the old configuration? exit %d, %s", exit, stderr)
	}
	v.Remount()
	if got, err := os.ReadFile(name); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestRewrapInUse: files are made, renamed, linked and removed, and directories moved
// from where the walk has not been to where it has, and none is missed.
func TestRewrapInUse(t *testing.T) {
	for _, init := range [][]string{nil, {"--context", "volume"}} {
		t.Run(strings.Join(append([]string{"init"}, init...), " "), func(t *testing.T) {
			v := fstest.New(t, fstest.InitArgs(init...))
			at := func(name string, args ...any) string { return filepath.Join(v.Mnt, fmt.Sprintf(name, args...)) }
			const dirs, files = 20, 40
			for d := range dirs {
				if err := os.Mkdir(at("d%d", d), 0o755); err != nil {
					t.Fatal(err)
				}
				for f := range files {
					if err := os.WriteFile(at("d%d/f%d", d, f), []byte("content"), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			v.Must("key", "rotate", kmsKey(t, v))
			var stop atomic.Bool
			var users sync.WaitGroup
			use := func(do func(i int) error) {
				users.Go(func() {
					for i := 0; !stop.Load(); i++ {
						if err := do(i); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			use(func(i int) error { // a directory, to and fro
				if i >= 20 {
					time.Sleep(time.Millisecond)
					return nil // or else the walk never ends
				}
				return os.Rename(at("d%d", i%dirs), at("e%d", i%dirs))
			})
			use(func(i int) error {
				return errors.Join(os.WriteFile(at("new"), []byte("new"), 0o644), os.Rename(at("new"), at("new%d", i%5)), os.Link(at("new%d", i%5), at("link")), os.Remove(at("link")))
			})
			use(func(i int) error {
				f, err := os.OpenFile(at("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
				if err != nil {
					return err
				}
				_, err = f.WriteString("a line\n")
				return errors.Join(err, f.Close())
			})
			stdout, stderr, exit := v.Run("rewrap", "--json", v.Mnt)
			stop.Store(true)
			users.Wait()
			var a rewrapAnswer
			if err := json.Unmarshal([]byte(stdout), &a); err != nil || exit != 0 || a.Failed != 0 {
				t.Fatalf("exit %d, %v: %s%s", exit, err, stdout, stderr)
			}
			v.Unmount()
			if got := headerMaterials(t, v); len(got) != 1 || got[a.KeyMaterial] < dirs*files {
				t.Errorf("headers are under %v, not under %s", got, a.KeyMaterial)
			}
			v.Fsck()
		})
	}
}

// TestRewrapKilled: the worker dies in the middle, at any moment, and the same command
// goes on.
func TestRewrapKilled(t *testing.T) {
	kills := 6
	if fstest.Long() {
		kills = 60
	}
	v := fstest.New(t)
	const files = 1500
	for f := range files {
		if err := os.WriteFile(filepath.Join(v.Mnt, fmt.Sprint(f)), []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v.Remount() // settled
	interrupted := 0
	for i := range kills {
		if i%3 == 0 && i < 3*20 {
			v.Must("key", "rotate", kmsKey(t, v)) // 25 times at most
		}
		done := make(chan int)
		go func() {
			_, _, exit := v.Run("rewrap", v.Mnt)
			done <- exit
		}()
		time.Sleep(time.Duration(5+i*7%60) * time.Millisecond)
		v.Kill()
		if <-done != 0 {
			interrupted++
		}
		v.Mount()
		if got, err := os.ReadFile(filepath.Join(v.Mnt, fmt.Sprint(i))); err != nil || string(got) != "content" {
			t.Fatalf("after kill %d: %q, %v", i, got, err)
		}
	}
	if interrupted == 0 {
		t.Error("no kill met a run")
	}
	a := mustRewrap(t, v, v.Mnt)
	v.Unmount()
	if got := headerMaterials(t, v); len(got) != 1 || got[a.KeyMaterial] != files {
		t.Errorf("headers are under %v, not under %s", got, a.KeyMaterial)
	}
	v.Fsck()
}

// TestRewrapRefused: keys that the key policy does not let be re-wrapped stay as they
// are, are named, and do not keep the others.
func TestRewrapRefused(t *testing.T) {
	v := fstest.New(t)
	for _, name := range []string{"public/a", "public/b", "secret/c"} {
		path := filepath.Join(v.Mnt, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	key := kmsKey(t, v)
	v.Must("key", "rotate", key)
	setPolicy(t, v, publicOnly)
	a, exit := rewrap(t, v, v.Mnt)
	if exit != 1 || a.Files != 3 || a.Rewrapped != 2 || a.Failed != 1 || len(a.Failures) != 1 {
		t.Fatalf("exit %d, %+v", exit, a)
	}
	if f := a.Failures[0]; f.Path != "/secret/c" || !strings.Contains(f.Reason, "AccessDenied") {
		t.Errorf("it says %+v", f)
	}
	if _, stderr, _ := v.Run("rewrap", v.Mnt); !strings.Contains(stderr, `"/secret/c"`) || strings.Contains(stderr, "public") {
		t.Errorf("it says %s", stderr)
	}
	v.Must("key", "disable", key)
	if _, stderr, exit := v.Run("rewrap", v.Mnt); exit != 1 || !strings.Contains(stderr, "disabled") {
		t.Errorf("with the key disabled: exit %d, %s", exit, stderr)
	}
}

// TestRewrapWhere: what cannot be re-wrapped says why.
func TestRewrapWhere(t *testing.T) {
	v := fstest.New(t)
	below := filepath.Join(v.Mnt, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		exit int
		want string
	}{
		{[]string{v.Cipher}, 1, "mounted already"},
		{[]string{below}, 1, "not its mountpoint"},
		{[]string{t.TempDir()}, 1, "neither"},
		{[]string{filepath.Join(v.Mnt, "none")}, 1, "no such file"},
		{nil, 2, "missing"},
		{[]string{v.Mnt, v.Mnt}, 2, "unexpected"},
	} {
		if _, stderr, exit := v.Run(append([]string{"rewrap"}, c.args...)...); exit != c.exit || !strings.Contains(stderr, c.want) {
			t.Errorf("rewrap %q: exit %d, %s", c.args, exit, stderr)
		}
	}
	v.Unmount()
	v.Mount("--read-only")
	if _, stderr, exit := v.Run("rewrap", v.Mnt); exit != 1 || !strings.Contains(stderr, "read-only") {
		t.Errorf("of a read-only mount: exit %d, %s", exit, stderr)
	}
}

// TestControlSocket: the worker takes orders from its own user and from root only, also
// if the socket's permissions were opened up.
func TestControlSocket(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t)
	sockets, err := filepath.Glob(filepath.Join(v.State, "mounts", "*.sock"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("sockets: %q, %v", sockets, err)
	}
	socket := sockets[0]
	st, err := os.Stat(socket)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v", st.Mode(), err)
	}
	// A user who gets through to the socket all the same is turned away: the
	// connection is closed without an answer.
	script := `import socket,sys
s=socket.socket(socket.AF_UNIX); s.settimeout(20)
import os; os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)
s.connect(sys.argv[2])
try:
    s.sendall(b"POST /v1/rewrap HTTP/1.1\r\nHost: worker\r\nContent-Length: 0\r\n\r\n")
    print(len(s.recv(100)))
except ConnectionError: print(0) # it may hang up before it is asked`
	python := fstest.RequireProgram(t, "python3", "python3")
	if err := errors.Join(os.Chmod(socket, 0o666), os.Chmod(filepath.Dir(socket), 0o755)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "-c", script, filepath.Dir(socket), filepath.Base(socket)).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "0" {
		t.Errorf("another user got an answer of %s bytes, %v", out, err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	v.Unmount()
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is there after the unmount: %v", err)
	}
}

// TestUnmountUnread: who has keys re-wrapped and does not read what comes of it does not
// keep the volume from being unmounted.
func TestUnmountUnread(t *testing.T) {
	v := fstest.New(t)
	for f := range 2000 { // each failure is a line: more than a socket's buffer takes
		if err := os.WriteFile(filepath.Join(v.Mnt, fmt.Sprint(f)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v.Must("key", "rotate", kmsKey(t, v))
	setPolicy(t, v, publicOnly)
	var info struct{ Control string }
	if err := json.Unmarshal([]byte(v.Must("info", "--json", v.Mnt)), &info); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", info.Control)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("POST /v1/rewrap HTTP/1.1\r\nHost: worker\r\nContent-Length: 0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	// What the worker has written and nobody has read does not grow any more.
	unread, stays := -1, 0
	err = fstest.Poll(time.Minute, func() (bool, error) {
		n, err := pending(conn)
		if n != unread {
			unread, stays = n, 0
		}
		stays++
		time.Sleep(10 * time.Millisecond)
		return n > 0 && stays > 50, err
	})
	if err != nil {
		t.Fatal(err)
	}
	v.Unmount()
}

// pending is how many bytes a socket has to read.
func pending(conn net.Conn) (n int, err error) {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	ctlErr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n, errors.Join(err, ctlErr)
}
