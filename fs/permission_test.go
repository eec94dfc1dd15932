package fs_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// as runs a shell command as another user with groups.
func as(uid, gid uint32, groups []uint32, script string) (string, error) {
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestManyUsers: on a mount for all, each user has what the modes, groups and
// ACLs give, files belong to who made them, and nobody but root has more.
func TestManyUsers(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t, fstest.MountArgs("--allow-other"))
	if err := unix.Chmod(v.Mnt, 0o1777); err != nil {
		t.Fatal(err)
	}
	const alice, bob, staff = 61001, 61002, 62001
	for _, c := range []struct {
		name   string
		uid    uint32
		groups []uint32
		script string
		fails  bool
	}{
		{"alice makes a private file", alice, nil, "umask 077; echo secret > $M/private", false},
		{"bob can not read it", bob, nil, "cat $M/private", true},
		{"nor remove it from a sticky directory", bob, nil, "rm -f $M/private", true},
		{"nor rename it", bob, nil, "mv $M/private $M/mine", true},
		{"nor change its owner", bob, nil, "chown 61002 $M/private", true},
		{"nor its times", bob, nil, "touch $M/private", true},
		{"alice shares with a group", alice, []uint32{staff}, "umask 027; mkdir $M/team && chgrp 62001 $M/team && chmod 2770 $M/team && echo a > $M/team/a", false},
		{"a member reads and writes there", bob, []uint32{staff}, "cat $M/team/a && echo b > $M/team/b", false},
		{"others do not", bob, nil, "ls $M/team", true},
		{"the group is inherited", bob, []uint32{staff}, "test $(stat -c %g $M/team/b) = 62001 && test $(stat -c %u $M/team/b) = 61002", false},
		{"alice gives bob an ACL", alice, nil, "setfacl -m u:61002:r $M/private", false},
		{"bob reads now", bob, nil, "test \"$(cat $M/private)\" = secret", false},
		{"but does not write", bob, nil, "echo x > $M/private", true},
		{"alice takes it back", alice, nil, "setfacl -b $M/private", false},
		{"bob can not read again", bob, nil, "cat $M/private", true},
		{"a default ACL is inherited", alice, nil, "mkdir $M/acl && setfacl -d -m u:61002:rwx $M/acl && chmod 711 $M/acl && umask 077 && echo x > $M/acl/f && mkdir $M/acl/d", false},
		{"and counts", bob, nil, "cat $M/acl/f && touch $M/acl/d/new", false},
		{"nobody reads trusted attributes", bob, nil, "getfattr -n trusted.x $M/team", true},
		{"writing takes setuid away", alice, nil, "cp /bin/true $M/prog && chmod 4755 $M/prog && echo >> $M/prog && test $(stat -c %a $M/prog) = 755", false},
		{"a device can not be made", alice, nil, "mknod $M/dev c 1 3", true},
		{"a FIFO can", alice, nil, "mkfifo $M/fifo && (echo through > $M/fifo &) && test \"$(cat $M/fifo)\" = through", false},
	} {
		out, err := as(c.uid, 60000+c.uid, c.groups, strings.ReplaceAll(c.script, "$M", v.Mnt))
		if (err != nil) != c.fails {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
	sameAfterRemount(t, v, v.Mnt)
}

// TestMountIsNosuidNodev: neither setuid bits nor device nodes of the volume
// have power, unless asked for.
func TestMountIsNosuidNodev(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t, fstest.MountArgs("--allow-other"))
	sh(t, v.Mnt, "cp /usr/bin/id id && chmod 4755 id && mknod null c 1 3 && chmod 666 null")
	out, err := as(61001, 61001, nil, filepath.Join(v.Mnt, "id")+" -u")
	if err != nil || strings.TrimSpace(out) != "61001" {
		t.Errorf("a setuid program ran as %q, %v", out, err)
	}
	if f, err := os.Open(filepath.Join(v.Mnt, "null")); !errors.Is(err, unix.EACCES) {
		t.Errorf("a device node opened: %v", err)
		if err == nil {
			f.Close()
		}
	}
}

// TestPrivateByDefault: without --allow-other other users do not even see the
// mount.
func TestPrivateByDefault(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t)
	if out, err := as(61001, 61001, nil, "ls "+v.Mnt); err == nil {
		t.Errorf("another user lists a private mount: %s", out)
	}
}

// TestReadOnly: a read-only mount changes nothing, on disk either.
func TestReadOnly(t *testing.T) {
	v := fstest.New(t)
	if err := os.WriteFile(filepath.Join(v.Mnt, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	v.Unmount()
	before := sums(t, v.Cipher)
	v.Mount("--read-only")
	if b, err := os.ReadFile(filepath.Join(v.Mnt, "f")); err != nil || string(b) != "x" {
		t.Errorf("read: %q, %v", b, err)
	}
	for what, err := range map[string]error{
		"write":  os.WriteFile(filepath.Join(v.Mnt, "f"), []byte("y"), 0o644),
		"create": os.WriteFile(filepath.Join(v.Mnt, "g"), []byte("y"), 0o644),
		"remove": os.Remove(filepath.Join(v.Mnt, "f")),
		"rename": os.Rename(filepath.Join(v.Mnt, "f"), filepath.Join(v.Mnt, "g")),
		"mkdir":  os.Mkdir(filepath.Join(v.Mnt, "d"), 0o755),
		"chmod":  os.Chmod(filepath.Join(v.Mnt, "f"), 0o600),
		"xattr":  unix.Setxattr(filepath.Join(v.Mnt, "f"), "user.x", nil, 0),
	} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
	v.Unmount()
	if sums(t, v.Cipher) != before {
		t.Error("the ciphertext directory changed")
	}
}
