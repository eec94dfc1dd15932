package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// An attack is one way to change the ciphertext behind the filesystem's back.
// Its table entry prepares plaintext in a directory of its own, changes the
// ciphertext, and says what every name must then be.
type attack struct {
	id, name string
	prepare  func(s *scene)
	attack   func(s *scene)
	check    func(s *scene)
}

// scene is one attack on one volume.
type scene struct {
	t     *testing.T
	v     *fstest.Volume
	dir   string            // plaintext directory, relative to the mountpoint
	paths map[string]string // ciphertext of each name below dir, as prepared
	saved map[string][]byte
}

func (s *scene) plain(name string) string { return filepath.Join(s.v.Mnt, s.dir, name) }

// cipher is where a name's ciphertext was before the attack.
func (s *scene) cipher(name string) string {
	p, ok := s.paths[name]
	if !ok {
		s.t.Fatalf("no ciphertext known for %s", name)
	}
	return p
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// content is what a file of a scene holds: its name over and over, so that
// one file's bytes in another are seen.
func content(name string, size int) []byte {
	line := []byte(name + "\n")
	return bytes.Repeat(line, size/len(line)+1)[:size]
}

const attackSize = 3*4064 + 100 // four pages

func (s *scene) write(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.must(os.MkdirAll(filepath.Dir(s.plain(name)), 0o755))
		s.must(os.WriteFile(s.plain(name), content(name, attackSize), 0o644))
	}
}

// learn notes where the ciphertext of everything in the scene is.
func (s *scene) learn() {
	s.t.Helper()
	inodes := map[uint64]string{}
	s.must(filepath.WalkDir(s.v.Cipher, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		inodes[st.Ino] = p
		return nil
	}))
	s.paths = map[string]string{}
	root := s.plain("")
	s.must(filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if inodes[st.Ino] == "" {
			return fmt.Errorf("no ciphertext has the inode number of %s", rel)
		}
		s.paths[rel] = inodes[st.Ino]
		return nil
	}))
}

// asErrno is errors.As for an errno.
func asErrno(err error, errno *unix.Errno) bool { return errors.As(err, errno) }

// refused is an error that tells of tampering.
func refused(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.EPERM) }

// unreadable: opening or reading must be refused.
func (s *scene) unreadable(names ...string) {
	s.t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(s.plain(name))
		if err == nil {
			s.t.Errorf("%.20s: read %d bytes (%q...), want EIO", name, len(b), b[:min(20, len(b))])
		} else if !refused(err) {
			s.t.Errorf("%s: %v, want EIO", name, err)
		}
	}
}

// gone: refused, or not there.
func (s *scene) gone(names ...string) {
	s.t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(s.plain(name))
		if err == nil {
			s.t.Errorf("%.20s: read %d bytes (%q...), want an error", name, len(b), b[:min(20, len(b))])
		} else if !refused(err) && !errors.Is(err, unix.ENOENT) {
			s.t.Errorf("%s: %v, want EIO or ENOENT", name, err)
		}
	}
}

// intact: a file no attack was on reads as it was written.
func (s *scene) intact(names ...string) {
	s.t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(s.plain(name))
		if err != nil {
			s.t.Errorf("%s, which was not attacked: %v", name, err)
		} else if !bytes.Equal(b, content(name, attackSize)) {
			s.t.Errorf("%s, which was not attacked, changed", name)
		}
	}
}

// intactOrRefused: the right bytes, or an error.
func (s *scene) intactOrRefused(names ...string) {
	s.t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(s.plain(name))
		if err == nil && !bytes.Equal(b, content(name, attackSize)) || err != nil && !refused(err) {
			s.t.Errorf("%.20s: %d bytes that nobody wrote, %v", name, len(b), err)
		}
	}
}

// onlyLists: a directory must not show names that nobody made.
func (s *scene) onlyLists(dir string, names ...string) {
	s.t.Helper()
	entries, err := os.ReadDir(s.plain(dir))
	if err != nil {
		if !refused(err) {
			s.t.Errorf("list %s: %v", dir, err)
		}
		return
	}
	for _, e := range entries {
		known := false
		for _, n := range names {
			known = known || n == e.Name()
		}
		if !known {
			s.t.Errorf("%s lists %q", dir, e.Name())
		}
	}
}

func (s *scene) swap(a, b string) {
	s.t.Helper()
	s.must(unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
}

// patch changes bytes of a ciphertext file.
func (s *scene) patch(path string, off int64, b []byte) {
	s.t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	s.must(err)
	defer f.Close()
	_, err = f.WriteAt(b, off)
	s.must(err)
}

func (s *scene) bytesAt(path string, off, n int64) []byte {
	s.t.Helper()
	f, err := os.Open(path)
	s.must(err)
	defer f.Close()
	b := make([]byte, n)
	_, err = f.ReadAt(b, off)
	s.must(err)
	return b
}

func (s *scene) copyFile(from, to string) {
	s.t.Helper()
	b, err := os.ReadFile(from)
	s.must(err)
	s.must(os.WriteFile(to, b, 0o644))
}

// relink replaces a symlink's target.
func (s *scene) relink(path, target string) {
	s.t.Helper()
	s.must(os.RemoveAll(path))
	s.must(os.Symlink(target, path))
}

func (s *scene) readlink(path string) string {
	s.t.Helper()
	target, err := os.Readlink(path)
	s.must(err)
	return target
}

// TestAttacks runs every attack of the table on an unmounted volume and on a
// mounted one whose caches were dropped, in both key modes.
func TestAttacks(t *testing.T) {
	fstest.RequireRoot(t)
	for _, keys := range []string{"path", "volume"} {
		for _, mounted := range []bool{false, true} {
			t.Run(fmt.Sprintf("keys=%s/mounted=%t", keys, mounted), func(t *testing.T) {
				runAttacks(t, fstest.New(t, fstest.InitArgs("--keys", keys)), mounted)
			})
		}
	}
}

func runAttacks(t *testing.T, v *fstest.Volume, mounted bool) {
	attacks := allAttacks()
	scenes := make([]*scene, len(attacks))
	for i, a := range attacks {
		s := &scene{t: t, v: v, dir: fmt.Sprintf("%s-%d", a.id, i), saved: map[string][]byte{}}
		s.must(os.Mkdir(filepath.Join(v.Mnt, s.dir), 0o755))
		scenes[i] = s
		t.Run("prepare "+a.id+" "+a.name, func(t *testing.T) { s.t = t; a.prepare(s) })
	}
	// What is prepared is settled, as yesterday's files are.
	v.Remount()
	for _, s := range scenes {
		s.t = t
		s.learn()
	}
	if !mounted {
		v.Unmount()
	}
	for i, a := range attacks {
		t.Run("attack "+a.id+" "+a.name, func(t *testing.T) { scenes[i].t = t; a.attack(scenes[i]) })
	}
	if mounted {
		dropCaches(t)
	} else {
		v.Mount()
	}
	for i, a := range attacks {
		t.Run(a.id+" "+a.name, func(t *testing.T) {
			scenes[i].t = t
			a.check(scenes[i])
			v.CheckAlive()
		})
	}
	v.Unmount()
	if _, _, exit := v.Run("fsck", v.Cipher); exit == 0 {
		t.Error("fsck finds nothing wrong with an attacked volume")
	}
}

// dropCaches makes the kernel ask the filesystem again.
func dropCaches(t *testing.T) {
	t.Helper()
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		t.Fatalf("drop caches: %v", err)
	}
}

// ciphertextEntries lists the names of a ciphertext directory with a prefix.
func (s *scene) entries(dir, prefix string) []string {
	s.t.Helper()
	all, err := os.ReadDir(dir)
	s.must(err)
	var names []string
	for _, e := range all {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names
}
