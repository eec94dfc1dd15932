package fs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// refusesMount fails the test when a changed volume mounts.
func refusesMount(t *testing.T, v *fstest.Volume, what string) {
	t.Helper()
	stderr, exit := v.TryMount()
	if exit == 0 {
		t.Errorf("%s: mounted", what)
		v.Unmount()
	} else if len(strings.TrimSpace(stderr)) == 0 || strings.Contains(stderr, "goroutine ") {
		t.Errorf("%s: refused with %q", what, stderr)
	}
}

// TestAttackConfiguration changes each field of the volume configuration (T9),
// empties and removes the volume's own files (T19), and puts in those of
// another volume.
func TestAttackConfiguration(t *testing.T) {
	for _, keys := range []string{"path", "volume"} {
		t.Run("keys="+keys, func(t *testing.T) {
			v := fstest.New(t, fstest.InitArgs("--keys", keys))
			file := filepath.Join(v.Mnt, "f")
			if err := os.WriteFile(file, []byte("content"), 0o644); err != nil {
				t.Fatal(err)
			}
			v.Unmount()
			other := fstest.New(t, fstest.StateOf(v), fstest.Unmounted(), fstest.InitArgs("--keys", keys))
			name := filepath.Join(v.Cipher, "kmsfs.conf")
			original, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			foreign, err := os.ReadFile(filepath.Join(other.Cipher, "kmsfs.conf"))
			if err != nil {
				t.Fatal(err)
			}
			changes := map[string][]byte{
				"empty": nil, "garbage": []byte("{"), "another volume's": foreign,
				"twice": append(slices.Clone(original), original...), "a newline more": append(slices.Clone(original), '\n'),
				"long": bytes.Repeat([]byte(" "), 1<<20),
			}
			var fields, foreignFields map[string]any
			if err := json.Unmarshal(original, &fields); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(foreign, &foreignFields); err != nil {
				t.Fatal(err)
			}
			for field, value := range fields {
				for _, with := range otherValues(field, value, foreignFields[field]) {
					changed, err := replaceField(original, value, with)
					if err != nil {
						t.Fatalf("%s: %v", field, err)
					}
					changes[fmt.Sprintf("%s %v", field, with)] = changed
				}
			}
			for what, b := range changes {
				if err := os.WriteFile(name, b, 0o644); err != nil {
					t.Fatal(err)
				}
				refusesMount(t, v, what)
			}
			if err := os.WriteFile(name, original, 0o644); err != nil {
				t.Fatal(err)
			}
			for _, record := range []string{"kmsfs.conf", "kmsfs.dir", "kmsfs.settled"} {
				p := filepath.Join(v.Cipher, record)
				away := filepath.Join(filepath.Dir(v.Cipher), "away")
				rename(t, p, away)
				refusesMount(t, v, "without "+record)
				for what, f := range map[string]func() error{
					"empty file": func() error { return os.WriteFile(p, nil, 0o644) },
					"directory":  func() error { return os.Mkdir(p, 0o755) },
					"FIFO":       func() error { return unix.Mkfifo(p, 0o644) },
					"symlink":    func() error { return os.Symlink("/etc/passwd", p) },
					"foreign": func() error {
						return exec.Command("cp", "-a", filepath.Join(other.Cipher, record), p).Run()
					},
				} {
					if err := f(); err != nil {
						t.Fatal(err)
					}
					refusesMount(t, v, what+" for "+record)
					if err := os.RemoveAll(p); err != nil {
						t.Fatal(err)
					}
				}
				rename(t, away, p)
			}
			v.Mount()
			if b, err := os.ReadFile(file); err != nil || string(b) != "content" {
				t.Errorf("after everything was put back: %q, %v", b, err)
			}
		})
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// otherValues are what an attacker would like a field to say.
func otherValues(field string, value, foreign any) []any {
	var list []any
	switch field {
	case "keys":
		list = []any{"path", "volume", ""}
	case "context":
		list = []any{"path", "opaque", "volume", ""}
	case "algorithm":
		list = []any{"AES-256-GCM", "XChaCha20-Poly1305", "none", ""}
	case "geometry":
		list = []any{"file", "block", ""}
	case "schema":
		list = []any{0, 2, 1 << 40}
	case "created":
		list = []any{"2001-01-01T00:00:00Z"}
	default:
		list = []any{"", foreign}
	}
	return slices.DeleteFunc(list, func(v any) bool { return fmt.Sprint(v) == fmt.Sprint(value) })
}

// replaceField replaces a value and leaves every other byte.
func replaceField(doc []byte, from, to any) ([]byte, error) {
	a, err := json.Marshal(from)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(to)
	if err != nil {
		return nil, err
	}
	if bytes.Count(doc, a) == 0 {
		return nil, fmt.Errorf("%s is not in the document", a)
	}
	return bytes.Replace(doc, a, b, 1), nil
}

// TestAttackOtherKey gives a file a wrapped key that the attacker can use: the
// file of a volume of their own, under a key of their own, at the same path
// (T7), and the whole directory tree of that volume.
func TestAttackOtherKey(t *testing.T) {
	v := fstest.New(t)
	theirs := fstest.New(t, fstest.StateOf(v))
	for _, vol := range []*fstest.Volume{v, theirs} {
		if err := os.WriteFile(filepath.Join(vol.Mnt, "f"), content("f", attackSize), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(vol.Mnt, "g"), content("g", attackSize), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, g, theirF := v.BackingPath(t, "f"), v.BackingPath(t, "g"), theirs.BackingPath(t, "f")
	theirs.Unmount()
	v.Unmount()
	evil, err := os.ReadFile(theirF)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(g)
	if err != nil {
		t.Fatal(err)
	}
	// The whole file; and only the wrapped key, in a header that is ours.
	copy(good[headerKeyLen:480], evil[headerKeyLen:480])
	for path, b := range map[string][]byte{f: evil, g: good} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v.Mount()
	for _, name := range []string{"f", "g"} {
		if b, err := os.ReadFile(filepath.Join(v.Mnt, name)); !refused(err) {
			t.Errorf("%s: %d bytes, %v, want EIO", name, len(b), err)
		}
	}
	v.CheckAlive()
}

// TestAttackKeyService puts something else in the key service's place (T35).
func TestAttackKeyService(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t)
	if err := os.WriteFile(filepath.Join(v.Mnt, "f"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	v.Unmount()
	socket := findSocket(t, v.State)
	v.StopKeyService()
	fake := func(t *testing.T, uid int, handler http.Handler) {
		_ = os.Remove(socket)
		old := unix.Umask(0)
		ln, err := net.Listen("unix", socket)
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if uid != 0 {
			// Peer credentials are those of listen(2): a process of the other
			// user has to call it.
			ln.Close()
			_ = os.Remove(socket)
			// The test's own binary may lie where the other user can not look.
			self := filepath.Join(fstest.Dir(t), "impostor")
			if out, err := exec.Command("cp", os.Args[0], self).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			cmd := exec.Command(self)
			cmd.Env = []string{envImpostor + "=" + socket}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
			st, err := os.Stat(filepath.Dir(socket))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Dir(socket), 0o777); err != nil {
				t.Fatal(err)
			}
			for d := filepath.Dir(filepath.Dir(socket)); strings.HasPrefix(d, v.State); d = filepath.Dir(d) {
				_ = os.Chmod(d, 0o755)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				_ = os.Remove(socket)
				_ = os.Chmod(filepath.Dir(socket), st.Mode().Perm())
			})
			if n, err := out.Read(make([]byte, 5)); n == 0 {
				t.Fatalf("impostor: %v", err)
			}
			return
		}
		server := &http.Server{Handler: handler}
		go server.Serve(ln)
		t.Cleanup(func() { server.Close(); _ = os.Remove(socket) })
	}
	answer := func(body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			fmt.Fprint(w, body)
		})
	}
	t.Run("another user's", func(t *testing.T) {
		fake(t, 61001, nil)
		refusesMount(t, v, "a key service of another user")
	})
	for name, h := range map[string]http.Handler{
		"empty":     answer(""),
		"no object": answer("[]"),
		"wrong key": answer(`{"Plaintext":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","KeyId":"arn:aws:kms:us-east-1:000000000000:key/x"}`),
		"garbage upgrade": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+kmsapi.BatchUpgrade+"\r\n\r\n")
			_ = c.SetDeadline(time.Now().Add(2 * time.Second))
			_, _ = c.Write(bytes.Repeat([]byte{0xff, 0, 0, 1, 0x7f}, 4096))
			_, _ = c.Read(make([]byte, 4096))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			fake(t, 0, h)
			refusesMount(t, v, name)
		})
	}
	t.Run("other keys", func(t *testing.T) {
		other := fstest.New(t, fstest.Unmounted())
		cipher := other.Cipher
		other.Cipher = v.Cipher
		refusesMount(t, other, "a key service that never saw the key")
		other.Cipher = cipher
	})
	v.Mount()
	if b, err := os.ReadFile(filepath.Join(v.Mnt, "f")); err != nil || string(b) != "content" {
		t.Errorf("with the real key service again: %q, %v", b, err)
	}
}

func findSocket(t *testing.T, dir string) string {
	t.Helper()
	var socket string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type() == os.ModeSocket {
			socket = p
		}
		return err
	})
	if err != nil || socket == "" {
		t.Fatalf("no socket below %s (%v)", dir, err)
	}
	return socket
}

// TestAttackAnything changes random bytes, sizes and types of random parts of
// a volume (T39, and all the others at random): each file reads as it was
// written or not at all, no name appears that nobody made, and nothing
// crashes.
func TestAttackAnything(t *testing.T) {
	fstest.RequireRoot(t)
	rounds := 40
	if fstest.Long() {
		rounds = 1000
	}
	seed := uint64(time.Now().UnixNano())
	if *flagSeed >= 0 {
		seed = uint64(*flagSeed)
	}
	t.Logf("-kmsfs.seed=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	v := fstest.New(t, fstest.Backing(fstest.Tmpfs(t, "size=512m")))
	want := plantTree(t, v)
	v.Unmount()
	master := v.Cipher
	for round := range rounds {
		v.Cipher = fmt.Sprintf("%s%d", master, round)
		if out, err := exec.Command("cp", "-a", master, v.Cipher).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var done []string
		for range 1 + rng.IntN(6) {
			done = append(done, damage(t, rng, v.Cipher))
		}
		if stderr, exit := v.TryMount(); exit == 0 {
			if problems := compareTree(v.Mnt, want); len(problems) > 0 {
				t.Errorf("round %d: after\n  %s\nfound\n  %s", round, strings.Join(done, "\n  "), strings.Join(problems, "\n  "))
			}
			v.CheckAlive()
			v.Unmount()
		} else if strings.Contains(stderr, "goroutine ") {
			t.Errorf("round %d: after\n  %s\nmount said\n%s", round, strings.Join(done, "\n  "), stderr)
		}
		if _, stderr, exit := v.Run("fsck", v.Cipher); exit < 0 || strings.Contains(stderr, "goroutine ") {
			t.Errorf("round %d: after\n  %s\nfsck: exit %d\n%s", round, strings.Join(done, "\n  "), exit, stderr)
		}
		if err := os.RemoveAll(v.Cipher); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			break
		}
	}
	v.Cipher = master
}

// plantTree writes a small tree and returns what each name is: a file's
// content, "-> target" for symlinks, "/" for directories.
func plantTree(t *testing.T, v *fstest.Volume) map[string]string {
	t.Helper()
	want := map[string]string{}
	for _, dir := range []string{"", "d", "d/e", strings.Repeat("D", 240)} {
		if dir != "" {
			want[dir] = "/"
			if err := os.Mkdir(filepath.Join(v.Mnt, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for i, size := range []int{0, 1, 3552, 3553, 20000} {
			name := filepath.Join(dir, fmt.Sprintf("f%d", i))
			want[name] = string(content(name, size))
			if err := os.WriteFile(filepath.Join(v.Mnt, name), []byte(want[name]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		long, link := filepath.Join(dir, strings.Repeat("l", 200)), filepath.Join(dir, "link")
		want[long], want[link] = "long name", "-> target of "+dir
		if err := os.WriteFile(filepath.Join(v.Mnt, long), []byte(want[long]), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(want[link][3:], filepath.Join(v.Mnt, link)); err != nil {
			t.Fatal(err)
		}
		hard := filepath.Join(dir, "hard")
		want[hard] = want[long]
		if err := os.Link(filepath.Join(v.Mnt, long), filepath.Join(v.Mnt, hard)); err != nil {
			t.Fatal(err)
		}
	}
	return want
}

// compareTree says what a damaged tree shows that nobody wrote.
func compareTree(root string, want map[string]string) []string {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for name, w := range want {
		p := filepath.Join(root, name)
		switch {
		case w == "/":
			entries, err := os.ReadDir(p)
			if err != nil && !harmless(err) {
				bad("list %.20s: %v", name, err)
			}
			for _, e := range entries {
				if _, known := want[filepath.Join(name, e.Name())]; !known {
					bad("%.20s lists %q", name, e.Name())
				}
			}
		case strings.HasPrefix(w, "-> "):
			got, err := os.Readlink(p)
			if err == nil && got != w[3:] || err != nil && !harmless(err) {
				bad("%.20s -> %q, %v", name, got, err)
			}
		default:
			b, err := os.ReadFile(p)
			if err == nil && string(b) != w {
				bad("%.20s reads %d bytes %.30q, want %d", name, len(b), b, len(w))
			} else if err != nil && !harmless(err) {
				bad("%.20s: %v", name, err)
			}
		}
	}
	return problems
}

// harmless is an error that shows nothing wrong: tampering was seen, or the
// name is gone, or another kind of object stands there and lstat says so.
func harmless(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.EINVAL, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENXIO, unix.EACCES} {
		if errors.Is(err, e) {
			return true
		}
	}
	return refused(err)
}

// damage does one random thing to one random object and says what. It leaves
// kmsfs.settled alone: rolling it back is told of as a limit.
func damage(t *testing.T, rng *rand.Rand, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && p != dir && d.Name() != "kmsfs.settled" {
			all = append(all, p)
		}
		return err
	})
	if err != nil || len(all) < 2 {
		t.Fatalf("%d objects, %v", len(all), err)
	}
	p, other := all[rng.IntN(len(all))], all[rng.IntN(len(all))]
	st, err := os.Lstat(p)
	if err != nil {
		t.Fatal(err)
	}
	short := func(p string) string { return strings.TrimPrefix(p, dir+"/") }
	switch k := rng.IntN(10); {
	case k < 2 && !strings.HasPrefix(other, p+"/") && !strings.HasPrefix(p, other+"/"):
		_ = unix.Renameat2(unix.AT_FDCWD, p, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE)
		return "exchange " + short(p) + " and " + short(other)
	case k < 3:
		_ = os.RemoveAll(p)
		return "remove " + short(p)
	case st.Mode()&os.ModeSymlink != 0:
		target, _ := os.Readlink(p)
		b := []byte(target)
		switch rng.IntN(3) {
		case 0:
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(7)
			b = bytes.ReplaceAll(b, []byte{0}, []byte("A"))
		case 1:
			b = b[:1+rng.IntN(len(b))]
		default:
			b = bytes.Repeat([]byte("A"), 1+rng.IntN(4000))
		}
		_ = os.Remove(p)
		_ = os.Symlink(string(b), p)
		return "retarget " + short(p)
	case st.Mode().IsRegular():
		size := max(st.Size(), 1)
		switch rng.IntN(4) {
		case 0:
			to := rng.Int64N(size + 9000)
			_ = os.Truncate(p, to)
			return fmt.Sprintf("truncate %s from %d to %d", short(p), size, to)
		default:
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			n := []int64{1, 4, 100, 4096}[rng.IntN(4)]
			off := rng.Int64N(min(size, []int64{512, size}[rng.IntN(2)]))
			b := make([]byte, min(n, size-off))
			what := "zero"
			if rng.IntN(3) > 0 {
				what = "scramble"
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
			}
			_, _ = f.WriteAt(b, off)
			return fmt.Sprintf("%s %d bytes at %d of %s", what, len(b), off, short(p))
		}
	default:
		_ = os.WriteFile(filepath.Join(p, "kmsfs.ln."+fmt.Sprint(rng.IntN(100))), []byte("x"), 0o644)
		_ = os.Mkdir(filepath.Join(p, fmt.Sprint(rng.IntN(100))), 0o755)
		return "plant files in " + short(p)
	}
}
