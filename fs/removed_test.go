package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// TestRemovedDirectory: a directory that is open goes on having attributes
// after it was removed, as it does on the filesystem below.
func TestRemovedDirectory(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t)
	native := fstest.Dir(t)
	for _, c := range []struct {
		name   string
		flags  int
		attrs  bool // it has some before
		remove func(dir string) error
	}{
		{"open", unix.O_RDONLY, false, unix.Rmdir},
		{"open, with attributes", unix.O_RDONLY, true, unix.Rmdir},
		{"only known", unix.O_PATH, false, unix.Rmdir},
		{"replaced", unix.O_RDONLY, true, func(dir string) error {
			if err := os.Mkdir(dir+"2", 0o755); err != nil {
				return err
			}
			return unix.Rename(dir+"2", dir)
		}},
		// More directories than the worker has handles for at a time.
		{"long ago", unix.O_PATH, true, func(dir string) error {
			if err := unix.Rmdir(dir); err != nil {
				return err
			}
			for i := range 2100 {
				if err := os.MkdirAll(filepath.Join(dir, "..", "others", fmt.Sprint(i), "x"), 0o755); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := useRemoved(t, filepath.Join(v.Mnt, c.name), c.flags, c.attrs, c.remove)
			want := useRemoved(t, filepath.Join(native, c.name), c.flags, c.attrs, c.remove)
			if got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// useRemoved makes a directory, removes it while it is open and tells what can
// be done with it then.
func useRemoved(t *testing.T, dir string, flags int, attrs bool, remove func(string) error) string {
	t.Helper()
	err := os.Mkdir(dir, 0o750)
	if err == nil && attrs {
		err = unix.Setxattr(dir, "user.before", []byte("1"), 0)
	}
	if err == nil {
		err = unix.UtimesNano(dir, []unix.Timespec{{Sec: 1, Nsec: 2}, {Sec: 3, Nsec: 4}})
	}
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, flags|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := remove(dir); err != nil {
		t.Fatal(err)
	}
	self := fmt.Sprintf("/proc/self/fd/%d", fd)
	var b strings.Builder
	say := func(what string, err error) {
		var st unix.Statx_t
		// What the worker says, not what the kernel remembers.
		if e := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st); e != nil {
			err = fmt.Errorf("%w, then statx: %w", err, e)
		}
		fmt.Fprintf(&b, "%s: %v; %o %d:%d links %d mtime %d.%d\n", what, err, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtime.Sec, st.Mtime.Nsec)
	}
	get := func(attr string) error {
		buf := make([]byte, 100)
		n, err := unix.Getxattr(self, attr, buf)
		if err == nil {
			err = fmt.Errorf("got %q", buf[:n])
		}
		return err
	}
	say("removed", nil)
	say("chmod", unix.Chmod(self, 0o2705))
	say("chown", unix.Chown(self, 61001, 62001))
	say("utimens", unix.UtimesNano(self, []unix.Timespec{{Sec: 5, Nsec: 6}, {Sec: 7, Nsec: 8}}))
	say("getxattr", get("user.before"))
	say("setxattr", unix.Setxattr(self, "user.after", []byte("2"), unix.XATTR_CREATE))
	say("getxattr", get("user.after"))
	say("removexattr", unix.Removexattr(self, "user.before"))
	say("getxattr", get("user.before"))
	say("create", os.WriteFile(self+"/x", nil, 0o644))
	say("chmod", unix.Chmod(self, 0))
	return strings.ReplaceAll(b.String(), self, "")
}

// TestRemovedSymlink: whoever has walked to a symlink reads its target, though
// it was removed or replaced meanwhile.
func TestRemovedSymlink(t *testing.T) {
	v := fstest.New(t)
	for name, remove := range map[string]func(link string) error{
		"removed": os.Remove,
		"replaced": func(link string) error {
			if err := os.WriteFile(link+"2", nil, 0o644); err != nil {
				return err
			}
			return os.Rename(link+"2", link)
		},
	} {
		t.Run(name, func(t *testing.T) {
			link := filepath.Join(v.Mnt, name)
			if err := os.Symlink("where it leads", link); err != nil {
				t.Fatal(err)
			}
			fd, err := unix.Open(link, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := remove(link); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			n, err := unix.Readlinkat(fd, "", buf)
			if got := string(buf[:max(n, 0)]); err != nil || got != "where it leads" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}
