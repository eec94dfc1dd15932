package oracle_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/fs/fstest/oracle"
)

var seeds = flag.Int("kmsfs.seeds", 4, "how many seeds")

func TestMain(m *testing.M) { fstest.Main(m) }

var users = []oracle.User{
	{}, {UID: 61001, GID: 62001, Groups: []int{62002}}, {UID: 61002, GID: 62002},
}

// The tester itself: two native filesystems have to agree.
func TestNativeAgree(t *testing.T) {
	subject, reference := fstest.Tmpfs(t, "size=512m"), fstest.Dir(t)
	for _, dir := range []string{subject, reference} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range *seeds {
		cfg := oracle.Config{
			Seed: int64(seed), Ops: 2500, Subject: reference, Reference: subject,
			Users: users, CompareEvery: 200, ShrinkFor: 20 * time.Second, Logf: t.Logf,
		}
		if err := oracle.Run(cfg); err != nil {
			t.Fatal(err)
		}
	}
}

// A tester that finds nothing proves nothing: each kind of harm has to be
// found. The remount is where the harm is done.
func TestFindsHarm(t *testing.T) {
	harms := map[string]func(path string, st *unix.Stat_t) error{
		"content": func(p string, st *unix.Stat_t) error {
			if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
				return errors.ErrUnsupported
			}
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, st.Size-1); err != nil {
				return err
			}
			b[0]++
			if _, err := f.WriteAt(b, st.Size-1); err != nil {
				return err
			}
			return os.Chtimes(p, time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix()))
		},
		"mode":  func(p string, st *unix.Stat_t) error { return unix.Chmod(p, (st.Mode&0o7777)^0o001) },
		"owner": func(p string, st *unix.Stat_t) error { return unix.Lchown(p, int(st.Uid)+1, -1) },
		"name":  func(p string, st *unix.Stat_t) error { return os.Rename(p, filepath.Join(filepath.Dir(p), "harm")) },
		"xattr": func(p string, st *unix.Stat_t) error { return unix.Lsetxattr(p, "trusted.harm", []byte("x"), 0) },
		"mtime": func(p string, st *unix.Stat_t) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Sec: 1}, {Sec: 77, Nsec: 1}}, unix.AT_SYMLINK_NOFOLLOW)
		},
		"link": func(p string, st *unix.Stat_t) error { return unix.Link(p, p+"2") },
	}
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			fstest.RequireRoot(t)
			subject, reference := fstest.Dir(t), fstest.Dir(t)
			done := false
			cfg := oracle.Config{
				Seed: 7, Ops: 600, Subject: subject, Reference: reference, Users: users[:1], RemountEvery: 200,
				Remount: func() error {
					return filepath.WalkDir(subject, func(p string, d os.DirEntry, err error) error {
						var st unix.Stat_t
						if err != nil || done || unix.Lstat(p, &st) != nil || filepath.Dir(filepath.Dir(p)) != subject {
							return err
						}
						done = harm(p, &st) == nil
						return nil
					})
				},
			}
			var m *oracle.Mismatch
			if err := oracle.Run(cfg); !errors.As(err, &m) {
				t.Fatalf("harm done: %t, and the run ended with %v", done, err)
			}
		})
	}
}
