package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/fs/fstest"
)

// opener opens files of a volume, one in each directory so that no walk is seen, and
// tells whether the key service was asked for them.
type opener struct {
	t       *testing.T
	v       *fstest.Volume
	service *valve
}

func newOpener(t *testing.T, files int, mountArgs ...string) opener {
	t.Helper()
	v := fstest.New(t, fstest.MountArgs(mountArgs...), fstest.Unmounted())
	o := opener{t, v, newValve(t, v)}
	v.Mount()
	for i := range files {
		name := o.path(i)
		if err := os.Mkdir(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content(fmt.Sprint(i), 100_000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o.forget()
	return o
}

func (o opener) path(i int) string {
	return filepath.Join(o.v.Mnt, fmt.Sprintf("d%d", i), "f")
}

// forget makes the worker forget its keys.
func (o opener) forget() {
	o.t.Helper()
	o.v.Remount()
}

// asks opens a file, reads it and waits until it is closed.
func (o opener) asks(name string) bool {
	o.t.Helper()
	asked, err := o.service.askedBy(func() error {
		_, err := os.ReadFile(name)
		return err
	})
	if err != nil {
		o.t.Errorf("read %s: %v", name, err)
	}
	if err := fstest.Poll(commandWait, func() (bool, error) { return backingFiles(o.v) == 0, nil }); err != nil {
		o.t.Fatalf("%s stays open: %v", name, err)
	}
	return asked
}

func (o opener) want(name string, asks bool, when string) {
	o.t.Helper()
	if got := o.asks(name); got != asks {
		o.t.Errorf("%s: opening %s asks the key service: %v, want %v", when, filepath.Base(filepath.Dir(name)), got, asks)
	}
}

// TestKeyCache: a file that was opened lately is opened again without the key service,
// by the name that it was asked for, as long as the options say.
func TestKeyCache(t *testing.T) {
	t.Run("as a rule", func(t *testing.T) {
		o := newOpener(t, 2, "--key-cache-ttl", "1h")
		o.want(o.path(0), true, "at first")
		o.want(o.path(0), false, "again")
		o.want(o.path(1), true, "another file")
		o.want(o.path(0), false, "the first again")

		moved := filepath.Join(filepath.Dir(o.path(0)), "moved")
		rename(t, o.path(0), moved)
		o.want(moved, true, "renamed")
		o.want(moved, false, "renamed, again")

		dir := filepath.Dir(moved)
		made := filepath.Join(dir, "new")
		if err := os.WriteFile(made, content("new", 100), 0o644); err != nil {
			t.Fatal(err)
		}
		o.want(made, true, "a new file") // making a key is another permission than using it
		o.want(made, false, "the new file again")
		o.forget()
		o.want(made, true, "mounted anew")
		rename(t, dir, dir+"-moved")
		o.want(filepath.Join(dir+"-moved", "new"), true, "below a renamed directory")
	})
	t.Run("never", func(t *testing.T) {
		for _, args := range [][]string{{"--key-cache-ttl", "0s"}, {"--key-cache-ttl", "1h", "--key-cache-size", "0"}} {
			o := newOpener(t, 1, args...)
			for range 3 {
				o.want(o.path(0), true, fmt.Sprint(args))
			}
		}
	})
	t.Run("not for more files than may be", func(t *testing.T) {
		o := newOpener(t, 3, "--key-cache-ttl", "1h", "--key-cache-size", "2")
		for i := range 3 {
			o.want(o.path(i), true, "at first")
		}
		o.want(o.path(1), false, "one of the last two")
		o.want(o.path(2), false, "one of the last two")
		o.want(o.path(0), true, "the one before")
		o.want(o.path(1), true, "pushed out by it")
	})
}

// TestKeyCacheExpires: what the key service says later holds after the time that its
// answers count, however often the file is opened within it.
func TestKeyCacheExpires(t *testing.T) {
	const ttl = 2 * time.Second
	v := fstest.New(t, fstest.MountArgs("--key-cache-ttl", ttl.String()))
	name := filepath.Join(v.Mnt, "f")
	if err := os.WriteFile(name, content("f", 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	conf, err := fs.ReadConfig(v.Cipher)
	if err != nil {
		t.Fatal(err)
	}
	v.Must("key", "disable", conf.KMSKey)
	disabled := time.Now()
	err = fstest.Poll(commandWait, func() (bool, error) {
		f, err := os.Open(name)
		if err == nil {
			return false, f.Close()
		}
		if !errors.Is(err, unix.ENOKEY) {
			return false, err
		}
		return true, nil
	})
	if err != nil {
		t.Errorf("open under a disabled key, %v later: %v", time.Since(disabled), err)
	}
	v.Must("key", "enable", conf.KMSKey)
	if _, err := os.ReadFile(name); err != nil {
		t.Errorf("under a key that is enabled again: %v", err)
	}
}
