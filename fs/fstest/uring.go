package fstest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// EnvTransport names the transport (kmsfs mount --transport) of every mount that does not
// choose its own; dev if it is not set. With uring, Main has the kernel offer it.
const EnvTransport = "KMSFS_TEST_TRANSPORT"

// Transport is the transport of the mounts that do not choose their own.
func Transport() string { return cmp.Or(os.Getenv(EnvTransport), "dev") }

// uringParameter says whether the kernel offers FUSE over io_uring.
const uringParameter = "/sys/module/fuse/parameters/enable_uring"

// uringOriginal remembers, while tests have the parameter switched on, what it was before.
const uringOriginal = "/run/kmsfs-test-enable_uring"

// RequireUring has the kernel offer FUSE over io_uring until the test ends; it skips
// the test on a kernel that cannot.
func RequireUring(t testing.TB) {
	t.Helper()
	restore, err := EnableUring()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this test needs a kernel with FUSE over io_uring (Linux 6.14)")
	}
	if err != nil {
		missing(t, "this test needs FUSE over io_uring: %v", err)
	}
	t.Cleanup(func() {
		if err := restore(); err != nil {
			t.Error(err)
		}
	})
}

// EnableUring has the kernel offer FUSE over io_uring until restore is called, which sets
// the parameter back when the last process that asked for it has called it. It fails with
// [fs.ErrNotExist] on a kernel that does not know of it.
func EnableUring() (restore func() error, err error) {
	// The parameter is the module's, which the first who opens the device has loaded.
	if device, err := os.Open("/dev/fuse"); err == nil {
		device.Close()
	}
	// Whoever needs the parameter has it locked, shared.
	user, err := os.Open(uringParameter)
	if err != nil {
		return nil, err
	}
	err = exclusively(func(original *os.File) error {
		value, err := os.ReadFile(uringParameter)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(value)) != "Y" {
			if _, err := original.WriteAt(value, 0); err != nil {
				return err
			}
			if err := os.WriteFile(uringParameter, []byte("Y"), 0); err != nil {
				return err
			}
		}
		return unix.Flock(int(user.Fd()), unix.LOCK_SH)
	})
	if err != nil {
		return nil, errors.Join(err, user.Close())
	}
	return func() error {
		defer user.Close()
		return exclusively(func(original *os.File) error {
			if err := unix.Flock(int(user.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
				return nil // somebody else's to do
			}
			value, err := os.ReadFile(original.Name())
			if err == nil && len(value) > 0 {
				err = os.WriteFile(uringParameter, value, 0)
			}
			return errors.Join(err, os.Remove(original.Name()))
		})
	}, nil
}

// exclusively calls do with the file uringOriginal while no other process does.
func exclusively(do func(original *os.File) error) error {
	for {
		f, err := os.OpenFile(uringOriginal, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			f.Close()
			return fmt.Errorf("lock %s: %w", uringOriginal, err)
		}
		// It may have been removed while we waited.
		var ours, there unix.Stat_t
		if unix.Fstat(int(f.Fd()), &ours) != nil || unix.Stat(uringOriginal, &there) != nil || ours.Ino != there.Ino {
			f.Close()
			continue
		}
		err = do(f)
		f.Close()
		return err
	}
}
