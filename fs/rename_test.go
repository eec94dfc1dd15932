package fs_test

import (
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// announced tells of everything in a ciphertext directory that says where an
// object may be found: records, sidecars and move records.
func announced(t *testing.T, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if target, err := os.Readlink(p); err == nil && strings.HasPrefix(d.Name(), "kmsfs.") {
			seen[p] = target
		}
		buf := make([]byte, 256)
		if n, err := unix.Lgetxattr(p, "user.kmsfs.mv", buf); err == nil {
			seen[p] = fmt.Sprintf("move record %x", buf[:n])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// TestRenameFails: a rename that fails when some of it has been announced
// takes all of that back. A directory where a name record goes makes it fail.
func TestRenameFails(t *testing.T) {
	v := fstest.New(t)
	long, fresh := strings.Repeat("l", 200), strings.Repeat("f", 200)
	for _, c := range []struct {
		name, from, to string
		flags          uint
		record         string // the name whose record can not be written
	}{
		{"exchange of a file", "file", "link", unix.RENAME_EXCHANGE, "file"},
		{"exchange of a directory", "dir", "link", unix.RENAME_EXCHANGE, "dir"},
		{"exchange of a symlink", "link", long, unix.RENAME_EXCHANGE, "link"},
		{"over a long name", "link", long, 0, long},
		{"to a long name", "link", fresh, 0, fresh},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := func(name string) string { return filepath.Join(v.Mnt, c.name, name) }
			rename := func() error {
				return unix.Renameat2(unix.AT_FDCWD, at(c.from), unix.AT_FDCWD, at(c.to), c.flags)
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(os.MkdirAll(at("dir"), 0o755))
			must(os.WriteFile(at("file"), nil, 0o644))
			for _, name := range []string{"link", long, fresh} {
				must(os.Symlink("target of "+name[:4], at(name)))
			}
			record := recordOf(v.BackingPath(t, filepath.Join(c.name, c.record)))
			must(os.Remove(at(fresh)))
			must(os.Mkdir(record, 0o755))
			before := announced(t, v.Cipher)
			if rename() == nil {
				t.Fatal("it succeeds")
			}
			after := announced(t, v.Cipher)
			for p, was := range before {
				if after[p] != was {
					t.Errorf("%s says %.40q, and said %.40q", filepath.Base(p), after[p], was)
				}
				delete(after, p)
			}
			for p := range after {
				t.Errorf("%s is new", filepath.Base(p))
			}
			must(os.Remove(record))
			must(rename())
		})
	}
	sameAfterRemount(t, v, v.Mnt)
}
