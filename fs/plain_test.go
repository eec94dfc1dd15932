package fs_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// TestPlainDirectory: a directory's record may say that no file in it has
// attributes. Whatever way one gets there, its attributes are found by all of
// its names after the next mount.
func TestPlainDirectory(t *testing.T) {
	fstest.RequireRoot(t) // for default ACLs and linkat of a descriptor
	const attr = "user.a"
	value := []byte("value")
	set := func(path string) error { return unix.Setxattr(path, attr, value, 0) }
	create := func(path string) error { return os.WriteFile(path, nil, 0o644) }
	cases := []struct {
		name  string
		names []string // where the file is in the end
		do    func(dir string, remount func()) error
	}{
		{"set", []string{"x/f"}, func(dir string, _ func()) error {
			return errors.Join(create(dir+"/x/f"), set(dir+"/x/f"))
		}},
		{"set on an open file", []string{"x/f"}, func(dir string, _ func()) error {
			f, err := os.Create(dir + "/x/f")
			if err != nil {
				return err
			}
			return errors.Join(unix.Fsetxattr(int(f.Fd()), attr, value, 0), f.Close())
		}},
		{"rename into", []string{"y/f"}, func(dir string, _ func()) error {
			return errors.Join(create(dir+"/x/f"), set(dir+"/x/f"), os.Rename(dir+"/x/f", dir+"/y/f"))
		}},
		{"rename over another", []string{"y/f"}, func(dir string, _ func()) error {
			return errors.Join(create(dir+"/x/f"), set(dir+"/x/f"), create(dir+"/y/f"), os.Rename(dir+"/x/f", dir+"/y/f"))
		}},
		{"exchange", []string{"y/f"}, func(dir string, _ func()) error {
			return errors.Join(create(dir+"/x/f"), set(dir+"/x/f"), create(dir+"/y/f"),
				unix.Renameat2(unix.AT_FDCWD, dir+"/y/f", unix.AT_FDCWD, dir+"/x/f", unix.RENAME_EXCHANGE))
		}},
		{"link", []string{"x/f", "y/g"}, func(dir string, _ func()) error {
			return errors.Join(create(dir+"/x/f"), os.Link(dir+"/x/f", dir+"/y/g"), set(dir+"/x/f"))
		}},
		{"link, and then set by the name that is known", []string{"x/f", "y/g"}, func(dir string, remount func()) error {
			err := errors.Join(create(dir+"/x/f"), os.Link(dir+"/x/f", dir+"/y/g"))
			remount()
			return errors.Join(err, set(dir+"/x/f"))
		}},
		{"link, moved on, and then set by the other name", []string{"x/f", "z/g"}, func(dir string, remount func()) error {
			err := errors.Join(create(dir+"/x/f"), os.Link(dir+"/x/f", dir+"/y/g"), os.Rename(dir+"/y/g", dir+"/z/g"))
			remount()
			return errors.Join(err, set(dir+"/x/f"))
		}},
		{"only the second name is left", []string{"y/g"}, func(dir string, remount func()) error {
			err := errors.Join(create(dir+"/x/f"), os.Link(dir+"/x/f", dir+"/y/g"))
			remount()
			return errors.Join(err, set(dir+"/x/f"), os.Remove(dir+"/x/f"))
		}},
		{"without a name at first", []string{"x/f"}, func(dir string, _ func()) error {
			fd, err := unix.Open(dir+"/y", unix.O_TMPFILE|unix.O_RDWR, 0o644)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return errors.Join(unix.Fsetxattr(fd, attr, value, 0),
				unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, dir+"/x/f", unix.AT_SYMLINK_FOLLOW))
		}},
		{"named, and then set", []string{"x/f"}, func(dir string, _ func()) error {
			fd, err := unix.Open(dir+"/y", unix.O_TMPFILE|unix.O_RDWR, 0o644)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return errors.Join(
				unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), unix.AT_FDCWD, dir+"/x/f", unix.AT_SYMLINK_FOLLOW),
				unix.Fsetxattr(fd, attr, value, 0))
		}},
		{"the directory moves meanwhile", []string{"y/x/f"}, func(dir string, _ func()) error {
			return errors.Join(create(dir+"/x/f"), os.Rename(dir+"/x", dir+"/y/x"), set(dir+"/y/x/f"))
		}},
		{"the directory has attributes itself", []string{"x/f"}, func(dir string, _ func()) error {
			return errors.Join(unix.Setxattr(dir+"/x", "user.other", value, 0), create(dir+"/x/f"), set(dir+"/x/f"))
		}},
	}
	for _, args := range [][]string{nil, {"--keys", "volume"}} {
		v := fstest.New(t, fstest.InitArgs(args...))
		for i, c := range cases {
			dir := filepath.Join(v.Mnt, strconv.Itoa(i))
			for _, sub := range []string{"x", "y", "z"} {
				if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.do(dir, v.Remount); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		v.Remount()
		for i, c := range cases {
			for _, name := range c.names {
				got := make([]byte, 100)
				path := filepath.Join(v.Mnt, strconv.Itoa(i), name)
				n, err := unix.Getxattr(path, attr, got)
				if err != nil || string(got[:n]) != string(value) {
					t.Errorf("%s: %s has %q, %v", c.name, name, got[:max(n, 0)], err)
				}
				if _, err := os.ReadFile(path); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		}
		v.Unmount()
		v.Fsck()
	}
}

// TestPlainDirectoryInheritsACL: a default ACL makes files with attributes.
func TestPlainDirectoryInheritsACL(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t)
	setfacl := fstest.RequireProgram(t, "setfacl", "acl")
	dir := filepath.Join(v.Mnt, "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(setfacl, "-m", "d:u:1234:rwx", dir).CombinedOutput(); err != nil {
		t.Fatalf("setfacl: %v: %s", err, out)
	}
	if err := errors.Join(
		os.WriteFile(dir+"/f", nil, 0o644),
		os.Mkdir(dir+"/sub", 0o755),
		os.WriteFile(dir+"/sub/f", nil, 0o644),
	); err != nil {
		t.Fatal(err)
	}
	v.Remount()
	for _, name := range []string{"/f", "/sub/f"} {
		if _, err := unix.Getxattr(dir+name, "system.posix_acl_access", nil); err != nil {
			t.Errorf("ACL of %s: %v", name, err)
		}
	}
}

// TestPlainDirectoryRolledBack puts the record of a time before a file's first
// attribute in the place of the directory's: the file says that it has some.
func TestPlainDirectoryRolledBack(t *testing.T) {
	v := fstest.New(t)
	dir := filepath.Join(v.Mnt, "d")
	file := filepath.Join(dir, "f")
	err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file, []byte("content"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(v.BackingPath(t, "d"), "kmsfs.dir")
	old, err := os.Readlink(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(file, "user.a", []byte("value"), 0); err != nil {
		t.Fatal(err)
	}
	v.Unmount()
	if err := errors.Join(os.Remove(record), os.Symlink(old, record)); err != nil {
		t.Fatal(err)
	}
	v.Mount()
	if got, err := os.ReadFile(file); err == nil {
		t.Errorf("read %q", got)
	}
	v.Unmount()
	if _, stderr, exit := v.Run("fsck", v.Cipher); exit == 0 {
		t.Errorf("fsck found nothing: %s", stderr)
	}
}

// TestPlainDirectoryFullDisk: a default ACL that does not get into the
// directory's record for want of space makes no file that the record forbids.
func TestPlainDirectoryFullDisk(t *testing.T) {
	backing := fstest.Tmpfs(t, "nr_inodes=500")
	v := fstest.New(t, fstest.Backing(backing))
	dir := filepath.Join(v.Mnt, "d")
	// A small attribute fits where an inode, of a symlink, does not.
	err := errors.Join(os.Mkdir(dir, 0o755), unix.Setxattr(v.Mnt, "user.a", []byte("value"), 0))
	if err != nil {
		t.Fatal(err)
	}
	filler := func(i int) string { return filepath.Join(backing, fmt.Sprint("filler", i)) }
	fillers := 0
	for err == nil {
		err = os.WriteFile(filler(fillers), nil, 0o600)
		fillers++
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	acl := []byte("\x02\x00\x00\x00" + // version; entries: tag, permissions, id
		"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\xd2\x04\x00\x00" +
		"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x05\x00\xff\xff\xff\xff")
	if err := unix.Setxattr(dir, "system.posix_acl_default", acl, 0); err != unix.ENOSPC {
		t.Fatalf("setting an ACL on a full disk: %v", err)
	}
	for i := range fillers {
		_ = os.Remove(filler(i))
	}
	file := filepath.Join(dir, "f")
	if err := errors.Join(os.WriteFile(file, []byte("content"), 0o644), unix.Setxattr(dir, "user.b", []byte("value"), 0)); err != nil {
		t.Fatal(err)
	}
	v.Remount()
	if got, err := os.ReadFile(file); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := unix.Getxattr(dir, "user.b", nil); err != nil {
		t.Errorf("an attribute set later: %v", err)
	}
	v.Unmount()
	v.Fsck()
}
