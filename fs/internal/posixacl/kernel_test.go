package posixacl

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel of the machine is the reference: each test asks a local file
// system for what the package computes.

func kernelDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Setxattr(dir, DefaultName, sample(UserObj, GroupObj, Other).Marshal(), 0); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("the file system of the temporary directory has no ACLs")
	} else if err != nil {
		t.Fatal(err)
	}
	return dir
}

// sample makes an ACL of the tags, each with all permissions.
func sample(tags ...uint16) ACL {
	var a ACL
	for i, tag := range tags {
		e := Entry{Tag: tag, Perm: 7, ID: noID}
		if tag == User || tag == Group {
			e.ID = uint32(1000 + i)
		}
		a = append(a, e)
	}
	return a
}

func getxattr(t testing.TB, path, name string) []byte {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Lgetxattr(path, name, buf)
	if errors.Is(err, unix.ENODATA) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func mode(t testing.TB, path string) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Mode & 0o7777
}

// marshal is Marshal of what an attribute holds, with nil for no ACL.
func marshal(a ACL) []byte {
	if a == nil {
		return nil
	}
	return a.Marshal()
}

// randomACL makes a valid one with random permissions.
func randomACL(rng *rand.Rand) ACL {
	tags := []uint16{UserObj}
	named := false
	for range rng.IntN(3) {
		tags, named = append(tags, User), true
	}
	tags = append(tags, GroupObj)
	for range rng.IntN(3) {
		tags, named = append(tags, Group), true
	}
	if named || rng.IntN(2) == 0 {
		tags = append(tags, Mask)
	}
	a := sample(append(tags, Other)...)
	for i := range a {
		a[i].Perm = uint16(rng.IntN(8))
	}
	return a
}

func TestCreateAsTheKernel(t *testing.T) {
	dir := kernelDir(t)
	// The umask must play no part where there is a default ACL.
	defer unix.Umask(unix.Umask(0o077))
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 2000 {
		def, want := randomACL(rng), uint32(rng.IntN(0o1000))
		if err := unix.Setxattr(dir, DefaultName, def.Marshal(), 0); err != nil {
			t.Fatalf("%+v: %v", def, err)
		}
		path := filepath.Join(dir, fmt.Sprint(i))
		isDir := i%2 == 0
		if isDir {
			if err := unix.Mkdir(path, want); err != nil {
				t.Fatal(err)
			}
			if got := getxattr(t, path, DefaultName); !bytes.Equal(got, def.Marshal()) {
				t.Fatalf("a directory inherits %x of %x", got, def.Marshal())
			}
		} else {
			fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, want)
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(fd)
		}
		acl, m := Create(def, want)
		if got := mode(t, path); got != m {
			t.Fatalf("%+v, mode %o: mode %o, the kernel makes it %o", def, want, m, got)
		}
		if got := getxattr(t, path, AccessName); !bytes.Equal(got, marshal(acl)) {
			t.Fatalf("%+v, mode %o: %+v, the kernel makes it %x", def, want, acl, got)
		}
	}
}

func TestChmodAsTheKernel(t *testing.T) {
	path := filepath.Join(kernelDir(t), "file")
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	rng := rand.New(rand.NewPCG(2, 2))
	for range 2000 {
		acl, want := randomACL(rng), uint32(rng.IntN(0o1000))
		if err := unix.Setxattr(path, AccessName, acl.Marshal(), 0); err != nil {
			t.Fatalf("%+v: %v", acl, err)
		}
		perm, equiv := acl.EquivMode()
		if got := mode(t, path); got != perm {
			t.Fatalf("%+v is mode %o, the kernel says %o", acl, perm, got)
		}
		if got := getxattr(t, path, AccessName); (got == nil) != equiv || !equiv && !bytes.Equal(got, acl.Marshal()) {
			t.Fatalf("%+v: equivalent to a mode: %v, the kernel stores %x", acl, equiv, got)
		}
		if err := unix.Chmod(path, want); err != nil {
			t.Fatal(err)
		}
		if !equiv {
			changed := Chmod(acl, want)
			if got := getxattr(t, path, AccessName); !bytes.Equal(got, changed.Marshal()) {
				t.Fatalf("chmod %o of %+v: %+v, the kernel makes it %x", want, acl, changed, got)
			}
			if perm, _ := changed.EquivMode(); perm != want {
				t.Fatalf("after chmod %o the ACL says %o", want, perm)
			}
		}
	}
}

// What Parse refuses the kernel refuses, with the errno the error stands for.
func TestParseAsTheKernel(t *testing.T) {
	dir := kernelDir(t)
	compare := func(b []byte) {
		t.Helper()
		acl, err := Parse(b)
		kernel := unix.Setxattr(dir, DefaultName, b, 0)
		var want error
		switch {
		case errors.Is(kernel, unix.EINVAL):
			want = ErrInvalid
		case errors.Is(kernel, unix.EOPNOTSUPP):
			want = ErrVersion
		case kernel != nil:
			t.Fatalf("%x: %v", b, kernel)
		}
		if !errors.Is(err, want) {
			t.Fatalf("%x: %v, the kernel says %v", b, err, kernel)
		}
		if kernel == nil {
			if got := getxattr(t, dir, DefaultName); !bytes.Equal(got, marshal(acl)) {
				t.Fatalf("%x is %+v, the kernel stores %x", b, acl, got)
			}
		}
	}
	compare(ACL(nil).Marshal())
	compare([]byte{2, 0, 0})
	compare([]byte{1, 0, 0, 0})
	compare([]byte{3, 0, 0, 0})
	tags := []uint16{UserObj, User, GroupObj, Group, Mask, Other, 0, 0x40, UserObj | User}
	rng := rand.New(rand.NewPCG(3, 3))
	for range 5000 {
		a := randomACL(rng)
		for range rng.IntN(3) { // break it
			i := rng.IntN(len(a))
			switch rng.IntN(6) {
			case 0:
				a[i].Tag = tags[rng.IntN(len(tags))]
			case 1:
				a[i].Perm = uint16(rng.IntN(1 << 16))
			case 2:
				a[i].ID = rng.Uint32() | uint32(rng.IntN(2))*noID
			case 3:
				j := rng.IntN(len(a))
				a[i], a[j] = a[j], a[i]
			case 4:
				a = append(a[:i:i], a[i+1:]...)
			case 5:
				a = append(a, a[i])
			}
			if len(a) == 0 {
				break
			}
		}
		b := a.Marshal()
		if rng.IntN(8) == 0 {
			b = b[:rng.IntN(len(b)+1)]
		}
		if len(b) > 0 { // an empty value removes the ACL before anything is parsed
			compare(b)
		}
	}
}
