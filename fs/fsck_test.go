package fs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// fsckReport is what kmsfs fsck --json prints.
type fsckReport struct {
	Summary  fs.Summary
	Findings []fs.Finding
	exit     int
}

// fsck checks the unmounted volume. Nothing may be on standard error, where
// progress would be on a terminal.
func fsck(t *testing.T, v *fstest.Volume, args ...string) *fsckReport {
	t.Helper()
	stdout, stderr, exit := v.Run(append(append([]string{"fsck", "--json"}, args...), v.Cipher)...)
	r := &fsckReport{exit: exit}
	if err := json.Unmarshal([]byte(stdout), r); err != nil || stderr != "" {
		t.Fatalf("fsck: exit %d, %v\n%s%s", exit, err, stdout, stderr)
	}
	return r
}

// below returns the findings at and below a path.
func (r *fsckReport) below(path string) []fs.Finding {
	var list []fs.Finding
	for _, f := range r.Findings {
		if f.Path == path || strings.HasPrefix(f.Path, strings.TrimSuffix(path, "/")+"/") {
			list = append(list, f)
		}
	}
	return list
}

func (r *fsckReport) String() string {
	b, _ := json.MarshalIndent(r.Findings, "", " ")
	return fmt.Sprintf("exit %d, %+v\n%s", r.exit, r.Summary, b)
}

// unchanged runs do and fails the test when anything in the ciphertext
// directory is different afterwards: content, attributes or times. The times of
// access that no program can leave alone, those of symlinks, do not count.
func unchanged(t *testing.T, dir string, do func()) {
	t.Helper()
	before := snapshot(t, dir)
	do()
	after := snapshot(t, dir)
	for p, was := range before {
		if is := after[p]; is != was {
			t.Errorf("%s changed\nfrom %s\nto   %s", p, was, is)
		}
		delete(after, p)
	}
	for p := range maps.Keys(after) {
		t.Errorf("%s was made", p)
	}
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		s := fmt.Sprintf("ino %d mode %o owner %d:%d links %d size %d mtime %v ctime %v", st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim, st.Ctim)
		switch d.Type() {
		case os.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			s += " -> " + target
		case 0:
			fd, err := unix.Open(p, unix.O_RDONLY|unix.O_NOATIME, 0)
			if err != nil {
				return err
			}
			h := sha256.New()
			err = dataOf(fd, h)
			unix.Close(fd)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" %x", h.Sum(nil))
			if d.Name() != "kmsfs.conf" {
				s += fmt.Sprintf(" atime %v", st.Atim)
			}
		}
		seen[p] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// dataOf writes all that is stored of an open file to w, but no holes.
func dataOf(fd int, w io.Writer) error {
	buf := make([]byte, 1<<20)
	for pos := int64(0); ; {
		data, err := unix.Seek(fd, pos, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		n, err := unix.Pread(fd, buf[:min(int64(len(buf)), hole-data)], data)
		if err != nil {
			return err
		}
		fmt.Fprintln(w, data)
		w.Write(buf[:n])
		pos = data + int64(n)
	}
}

// everyKind makes one of each kind of object, in the ways that their ciphertext
// differs, and tells how many of which there are.
func everyKind(t *testing.T, v *fstest.Volume) (want fs.Summary) {
	t.Helper()
	p := func(name string) string { return filepath.Join(v.Mnt, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want.Directories = 1
	file := func(name string, size int) {
		t.Helper()
		must(os.WriteFile(p(name), content(filepath.Base(name), size), 0o640))
		want.Files++
		want.Bytes += int64(size)
	}
	dir := func(name string) {
		t.Helper()
		must(os.Mkdir(p(name), 0o755))
		want.Directories++
	}
	long := strings.Repeat("long", 60)
	dir("d")
	dir("d/" + long)
	dir("d/moved")
	must(os.Rename(p("d/moved"), p("d/"+long+"/here")))
	for _, size := range []int{0, 1, 3551, 3552, 3553, 3552 + 4064, 3552 + 4064 + 1, 3 << 20} {
		file(fmt.Sprintf("d/f%d", size), size)
	}
	file("d/"+long+"/"+long[1:], 10)
	file("d/moves", 5000)
	must(os.Rename(p("d/moves"), p("d/"+long+"/here/moved")))
	file("linked", 5000)
	must(os.Link(p("linked"), p("d/further name")))
	must(os.Link(p("linked"), p("d/"+long+"/further name")))
	must(os.Rename(p("d/further name"), p("d/another name")))
	file("read-only", 1)
	must(os.Chmod(p("read-only"), 0o400))
	must(unix.Setxattr(p("linked"), "user.x", []byte("y"), 0))
	must(unix.Setxattr(p("d"), "user.x", []byte("y"), 0))

	sparse, err := os.Create(p("sparse"))
	must(err)
	_, err = sparse.WriteAt([]byte("end"), 1<<30)
	must(err)
	_, err = sparse.WriteAt([]byte("middle"), 1<<29)
	must(err)
	must(sparse.Close())
	want.Files++
	want.Bytes += 1<<30 + 3

	must(os.Symlink("target", p("d/link")))
	must(os.Rename(p("d/link"), p("link")))
	must(os.Symlink(strings.Repeat("t", 3000), p("d/"+long+"/link")))
	want.Symlinks = 2
	must(unix.Mkfifo(p("d/fifo"), 0o600))
	want.Specials = 1
	if os.Getuid() == 0 {
		must(unix.Mknod(p("d/null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		must(os.Link(p("d/null"), p("null")))
		want.Specials += 2
	}
	return want
}

func TestFsckClean(t *testing.T) {
	for _, args := range [][]string{
		nil, {"--keys", "volume"}, {"--context", "opaque"}, {"--context", "volume"}, {"--algorithm", "xchacha20-poly1305"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			v := fstest.New(t, fstest.InitArgs(args...))
			want := everyKind(t, v)
			v.Unmount()
			unchanged(t, v.Cipher, func() {
				r := fsck(t, v)
				want.Volume = r.Summary.Volume
				if r.exit != 0 || r.Summary != want || len(r.Findings) != 0 {
					t.Errorf("a clean volume, want %+v, but: %v", want, r)
				}
			})
			if r := fsck(t, v, "--repair"); r.exit != 0 || len(r.Findings) != 0 {
				t.Errorf("--repair of a clean volume: %v", r)
			}
			out, stderr, exit := v.Run("fsck", v.Cipher)
			if lines := strings.Count(out, "\n"); exit != 0 || lines != 1 || stderr != "" || !strings.Contains(out, "no damage") {
				t.Errorf("exit %d, %q, %q", exit, out, stderr)
			}
			if out, stderr, exit := v.Run("fsck", "--quiet", v.Cipher); exit != 0 || out+stderr != "" {
				t.Errorf("--quiet: exit %d, %q, %q", exit, out, stderr)
			}
			v.Mount()
			v.Unmount()
		})
	}
}

func TestFsckFindings(t *testing.T) {
	for _, keys := range []string{"path", "volume"} {
		t.Run("keys="+keys, func(t *testing.T) { fsckFindings(t, fstest.New(t, fstest.InitArgs("--keys", keys)), keys == "path") })
	}
}

func fsckFindings(t *testing.T, v *fstest.Volume, paths bool) {
	cases := fsckCases()
	scenes := make([]*scene, len(cases))
	for i, c := range cases {
		s := &scene{t: t, v: v, dir: fmt.Sprintf("%02d", i), saved: map[string][]byte{}}
		s.must(os.Mkdir(filepath.Join(v.Mnt, s.dir), 0o755))
		c.prepare(s)
		scenes[i] = s
	}
	v.Remount()
	for _, s := range scenes {
		s.learn()
	}
	v.Unmount()
	for i, c := range cases {
		c.change(scenes[i])
	}
	check := func(r *fsckReport, after bool) {
		for i, c := range cases {
			var got []string
			for _, f := range r.below("/" + scenes[i].dir) {
				name := strings.TrimPrefix(strings.TrimPrefix(f.Path, "/"+scenes[i].dir), "/")
				got = append(got, string(f.Category)+" "+name)
				if f.Reason == "" || f.Advice == "" || f.StoredPath == "" {
					t.Errorf("%s: %+v", c.name, f)
				}
			}
			slices.Sort(got)
			want := slices.Sorted(slices.Values(c.findings))
			if after && c.repairs {
				want = nil
			}
			for i, w := range want {
				switch {
				case w == "damage ?": // either of two names
					if len(got) == 1 {
						want[i] = got[0]
					}
				case strings.Contains(w, " ?") && !paths:
					want[i], _, _ = strings.Cut(w, "?")
				case strings.Contains(w, " ?") && after:
					want = nil
				default:
					want[i] = strings.Replace(w, "?", "", 1)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, after --repair %t: found %q, want %q", c.name, after, got, want)
			}
		}
		if r.exit != 4 || r.Summary.Damage == 0 {
			t.Errorf("exit %d, want 4", r.exit)
		}
	}
	unchanged(t, v.Cipher, func() {
		r := fsck(t, v)
		check(r, false)
		if r.Summary.Repaired+r.Summary.Failed != 0 {
			t.Errorf("repaired without being told: %v", r)
		}
	})
	r := fsck(t, v, "--repair")
	if r.Summary.Repaired == 0 || r.Summary.Failed != 0 || r.exit != 4 {
		t.Errorf("--repair: %v", r)
	}
	unchanged(t, v.Cipher, func() { check(fsck(t, v), true) })
	out, _, _ := v.Run("fsck", v.Cipher)
	if strings.ContainsRune(out, '\x1b') {
		t.Errorf("a stored name reached the terminal: %q", out)
	}
	v.Mount()
	for i, c := range cases {
		if c.after != nil {
			t.Run("after "+c.name, func(t *testing.T) { scenes[i].t = t; c.after(scenes[i]) })
		}
	}
	v.CheckAlive()
}

func TestFsckMounted(t *testing.T) {
	v := fstest.New(t)
	for _, args := range [][]string{nil, {"--repair"}} {
		out, stderr, exit := v.Run(append(append([]string{"fsck"}, args...), v.Cipher)...)
		if exit != 1 || !strings.Contains(stderr, "unmount it first") {
			t.Errorf("exit %d, %q, %q", exit, out, stderr)
		}
	}
	if _, stderr, exit := v.Run("fsck", v.Mnt); exit != 1 || !strings.Contains(stderr, "not a kmsfs ciphertext directory") {
		t.Errorf("fsck of the mountpoint: exit %d, %q", exit, stderr)
	}
	if _, _, exit := v.Run("fsck"); exit != 2 {
		t.Errorf("fsck without an argument: exit %d", exit)
	}
}

// TestFsckAfterCrash leaves changes unfinished as a crash does.
func TestFsckAfterCrash(t *testing.T) {
	v := fstest.New(t)
	s := &scene{t: t, v: v, saved: map[string][]byte{}}
	s.write("settled", "renamed", "d/f")
	v.Remount()
	s.learn()
	s.write("cut", "lost", "whole")
	s.must(os.Mkdir(s.plain("empty"), 0o755))
	header := s.bytesAt(s.cipher("renamed"), 0, headerSize)
	s.must(os.Rename(s.plain("renamed"), s.plain("moved")))
	s.must(os.Rename(s.plain("d"), s.plain("e")))
	s.learn()
	v.Kill()
	// The header with the new binding and the file's end did not reach the disk.
	s.patch(s.cipher("moved"), 0, header)
	s.must(os.Truncate(s.cipher("cut"), 3*cipherPage))
	s.must(os.Truncate(s.cipher("lost"), 0))

	want := []string{"never-written /lost", "unsettled /", "unsettled /cut", "unsettled /e", "unsettled /moved"}
	list := func(r *fsckReport) (list []string) {
		for _, f := range r.Findings {
			list = append(list, string(f.Category)+" "+f.Path)
		}
		slices.Sort(list)
		return list
	}
	unchanged(t, v.Cipher, func() {
		if r := fsck(t, v); r.exit != 0 || !slices.Equal(list(r), want) {
			t.Errorf("want %q: %v", want, r)
		}
	})
	r := fsck(t, v, "--repair")
	if r.exit != 3 || !slices.Equal(list(r), want) || int(r.Summary.Repaired) != len(want) {
		t.Errorf("--repair: want %q: %v", want, r)
	}
	unchanged(t, v.Cipher, func() {
		if r := fsck(t, v); r.exit != 0 || len(r.Findings) != 0 {
			t.Errorf("after --repair: %v", r)
		}
	})
	v.Mount()
	s.intact("settled", "whole")
	for name, was := range map[string]string{"moved": "renamed", "e/f": "d/f"} {
		if b, err := os.ReadFile(s.plain(name)); err != nil || !bytes.Equal(b, content(was, attackSize)) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if b, err := os.ReadFile(s.plain("cut")); err != nil || !bytes.Equal(b, content("cut", attackSize)[:3552+2*4064]) {
		t.Errorf("cut: %d bytes, %v", len(b), err)
	}
}

// TestFsckDamageAfterCrash: what fsync promised is not given up, and what is
// not a page is damage, crash or not.
func TestFsckDamageAfterCrash(t *testing.T) {
	v := fstest.New(t)
	s := &scene{t: t, v: v}
	s.write("synced", "flipped")
	v.Remount()
	for _, name := range []string{"synced", "flipped"} {
		f, err := os.OpenFile(s.plain(name), os.O_APPEND|os.O_WRONLY, 0)
		s.must(err)
		_, err = f.Write(make([]byte, 20000))
		s.must(err)
		f.Close()
	}
	s.learn()
	v.Kill()
	s.must(os.Truncate(s.cipher("synced"), 2*cipherPage))
	s.flip("flipped", 5*cipherPage+100)
	for _, args := range [][]string{nil, {"--repair"}, nil} {
		r := fsck(t, v, args...)
		if r.exit != 4 || r.Summary.Damage != 2 {
			t.Errorf("%q: %v", args, r)
		}
	}
}

func TestFsckSettledRecord(t *testing.T) {
	v := fstest.New(t)
	s := &scene{t: t, v: v}
	s.write("a")
	v.Unmount()
	settled := filepath.Join(v.Cipher, "kmsfs.settled")
	old := s.readlink(settled)
	v.Mount()
	s.write("b")
	v.Unmount()

	for what, spoil := range map[string]func(){
		"missing":    func() { s.must(os.Remove(settled)) },
		"damaged":    func() { s.relink(settled, "AAAA") },
		"no link":    func() { s.must(os.Remove(settled)); s.must(os.WriteFile(settled, nil, 0o600)) },
		"an old one": func() { s.relink(settled, old) },
	} {
		t.Run(what, func(t *testing.T) {
			s.t = t
			spoil()
			unchanged(t, v.Cipher, func() {
				if r := fsck(t, v); r.exit != 4 || r.Summary.Damage != 1 || r.Findings[0].StoredPath != "kmsfs.settled" {
					t.Errorf("%v", r)
				}
			})
			if r := fsck(t, v, "--repair"); r.exit != 3 || r.Summary.Repaired != 1 {
				t.Errorf("--repair: %v", r)
			}
			if r := fsck(t, v); r.exit != 0 || len(r.Findings) != 0 {
				t.Errorf("after --repair: %v", r)
			}
			v.Mount()
			s.intact("a", "b")
			s.write("b", what)
			v.Unmount()
			if r := fsck(t, v); r.exit != 0 || len(r.Findings) != 0 {
				t.Errorf("after a mount: %v", r)
			}
		})
	}
}

func TestFsckVolumeFiles(t *testing.T) {
	in := func(s *scene, name string) string { return filepath.Join(s.v.Cipher, name) }
	for name, spoil := range map[string]func(s *scene){
		"no record": func(s *scene) { s.must(os.Remove(in(s, "kmsfs.dir"))) },
		"another's": func(s *scene) { s.relink(in(s, "kmsfs.dir"), s.readlink(filepath.Join(s.cipher("d"), "kmsfs.dir"))) },
		"garbage":   func(s *scene) { s.must(os.WriteFile(in(s, "kmsfs.conf"), []byte("{}"), 0o600)) },
		"other algorithm": func(s *scene) {
			b, err := os.ReadFile(in(s, "kmsfs.conf"))
			s.must(err)
			b = bytes.Replace(b, []byte("AES-256-GCM"), []byte("XChaCha20-Poly1305"), 1)
			s.must(os.WriteFile(in(s, "kmsfs.conf"), b, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := fstest.New(t)
			s := &scene{t: t, v: v}
			s.write("d/f")
			s.learn()
			v.Unmount()
			spoil(s)
			unchanged(t, v.Cipher, func() {
				for _, args := range [][]string{nil, {"--repair"}} {
					r := fsck(t, v, args...)
					if r.exit != 4 || r.Summary.Damage != 1 || len(r.Findings) != 1 || r.Findings[0].Path != "/" {
						t.Errorf("%q: %v", args, r)
					}
				}
			})
		})
	}
}

// TestFsckNoConfiguration: what lies in the configuration's place is neither
// waited for nor followed.
func TestFsckNoConfiguration(t *testing.T) {
	v := fstest.New(t, fstest.Unmounted())
	conf := filepath.Join(v.Cipher, "kmsfs.conf")
	for what, put := range map[string]func() error{
		"nothing":   func() error { return nil },
		"FIFO":      func() error { return unix.Mkfifo(conf, 0o600) },
		"symlink":   func() error { return os.Symlink("/etc/passwd", conf) },
		"directory": func() error { return os.Mkdir(conf, 0o700) },
	} {
		if err := errors.Join(os.RemoveAll(conf), put()); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{nil, {"--repair"}} {
			out, stderr, exit := v.Run(append(append([]string{"fsck"}, args...), v.Cipher)...)
			if exit != 1 && exit != 4 || !strings.Contains(out+stderr, "kmsfs.conf") {
				t.Errorf("%s: exit %d, %q, %q", what, exit, out, stderr)
			}
		}
	}
}

// TestFsckMountInside: nothing outside the volume is looked at.
func TestFsckMountInside(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t)
	s := &scene{t: t, v: v}
	s.write("d/f", "file", "other", "e/f")
	s.learn()
	v.Unmount()
	outside := fstest.Dir(t)
	s.must(os.WriteFile(filepath.Join(outside, "x"), nil, 0o600))
	for target, source := range map[string]string{"d": outside, "file": filepath.Join(outside, "x"), "e": s.cipher("d")} {
		s.must(unix.Mount(source, s.cipher(target), "", unix.MS_BIND, ""))
		defer func() { s.must(unix.Unmount(s.cipher(target), 0)) }()
	}
	for _, args := range [][]string{nil, {"--repair"}} {
		r := fsck(t, v, args...)
		if r.exit != 4 || len(r.Findings) != 3 || r.Summary.Damage != 3 {
			t.Errorf("%q: %v", args, r)
		}
	}
}

// refusing is a key service that refuses the keys of some paths.
type refusing struct {
	fs.KeyService
	paths []string
}

func (k refusing) Batch(ctx context.Context, items []kmsapi.BatchItem) ([]kmsapi.BatchResult, error) {
	res, err := k.KeyService.Batch(ctx, items)
	for i := range res {
		if slices.Contains(k.paths, items[i].EncryptionContext["kmsfs:path"]) {
			clear(res[i].Plaintext)
			res[i] = kmsapi.BatchResult{Err: &kmsapi.Error{Code: kmsapi.CodeAccessDenied}}
		}
	}
	return res, err
}

// TestFsckRefusedKeys: a file whose key is refused is neither sound nor
// damaged, and if it may be unsettled nothing is settled for it.
func TestFsckRefusedKeys(t *testing.T) {
	v := fstest.New(t)
	s := &scene{t: t, v: v}
	s.write("a", "secret")
	s.learn()
	v.Kill()
	client, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: v.State})
	s.must(err)
	defer client.Close()
	check := func(refused ...string) (sum fs.Summary, found []string) {
		sum, err := fs.Check(t.Context(), v.Cipher, fs.CheckOptions{
			Keys: refusing{client, refused}, Repair: true, Logger: slog.New(slog.DiscardHandler),
			Found: func(f *fs.Finding) { found = append(found, fmt.Sprint(f.Category, " ", f.Path, " ", f.Repaired)) },
		})
		s.must(err)
		slices.Sort(found)
		return sum, found
	}
	for range 2 {
		sum, found := check("/secret")
		if want := []string{"unchecked /secret false", "unsettled / false"}; !slices.Equal(found, want) || sum.Unchecked != 1 {
			t.Errorf("%+v, found %q, want %q", sum, found, want)
		}
	}
	if sum, found := check(); len(found) != 1 || sum.Repaired != 1 {
		t.Errorf("%+v, found %q", sum, found)
	}

	// Without any key there is no check.
	conf, err := fs.ReadConfig(v.Cipher)
	s.must(err)
	v.Must("key", "disable", conf.KMSKey)
	for _, args := range [][]string{nil, {"--repair"}} {
		_, stderr, exit := v.Run(append(append([]string{"fsck"}, args...), v.Cipher)...)
		if exit != 1 || !strings.Contains(stderr, "Disabled") {
			t.Errorf("with the key disabled: exit %d, %q", exit, stderr)
		}
	}
}
