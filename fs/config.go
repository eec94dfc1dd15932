package fs

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
)

// Config tells what a volume's configuration file says; see ReadConfig.
type Config = format.Config

// ReadConfig reads and parses a volume's configuration. Its MAC is verified
// only by Open, which has the volume key.
func ReadConfig(dir string) (*Config, error) {
	f, conf, err := openConfig(dir)
	if err != nil {
		return nil, err
	}
	f.Close()
	return conf, nil
}

// maxConfig is more than any configuration has, in bytes.
const maxConfig = 64 << 10

// openConfig opens and reads a volume's configuration: a regular file and
// nothing else that somebody may have put in its place.
func openConfig(dir string) (*os.File, *Config, error) {
	path := filepath.Join(dir, configName)
	dirfd, err := backing.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", dir, err)
	}
	defer backing.Close(dirfd)
	fd, err := backing.Open(dirfd, configName, unix.O_RDONLY, 0)
	if err == unix.ENOENT {
		return nil, nil, fmt.Errorf("%s: %w (no %s in it; kmsfs init makes one)", dir, ErrNotVolume, configName)
	}
	if err == unix.ELOOP {
		return nil, nil, fmt.Errorf("%s is a symlink: %w", path, format.ErrCorrupt)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err = backing.Fstat(fd, &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxConfig) {
		err = fmt.Errorf("%s is no volume configuration: %w", path, format.ErrCorrupt)
	}
	data := make([]byte, maxConfig)
	n := 0
	if err == nil {
		n, err = backing.Pread(fd, data, 0)
	}
	if err == nil {
		var conf *Config
		if conf, err = format.ParseConfig(data[:n]); err == nil {
			return f, conf, nil
		}
		err = fmt.Errorf("%s: %w", path, err)
	}
	f.Close()
	return nil, nil, err
}

// lockConfig is openConfig with the volume's lock: shared for readers, exclusive for a
// writer. The lock is on the file, which a new wrapping of the volume key replaces by
// another: only the one that is there when it is locked counts.
func lockConfig(dir string, readOnly bool) (*os.File, *Config, error) {
	how := unix.LOCK_EX
	if readOnly {
		how = unix.LOCK_SH
	}
	for {
		f, conf, err := openConfig(dir)
		if err != nil {
			return nil, nil, err
		}
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			var there bool
			if there, err = isConfig(f, dir); there {
				return f, conf, nil
			}
		}
		f.Close()
		if err == unix.EWOULDBLOCK {
			return nil, nil, fmt.Errorf("%s: %w", dir, ErrInUse)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}

// isConfig reports whether f is the configuration file that is in dir now.
func isConfig(f *os.File, dir string) (bool, error) {
	var locked, there unix.Stat_t
	if err := backing.Fstat(int(f.Fd()), &locked); err != nil {
		return false, err
	}
	dirfd, err := backing.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer backing.Close(dirfd)
	err = backing.Stat(dirfd, configName, &there)
	return err == nil && locked.Ino == there.Ino && locked.Dev == there.Dev, err
}

// replaceConfig puts another configuration in the place of the one that is locked.
func (r *Root) replaceConfig(data []byte) error {
	lock, err := writeConfig(r.rootfd, data)
	if err != nil {
		return err
	}
	r.lock.Close()
	r.lock = lock
	return nil
}

// writeConfig makes the configuration so that a crash leaves all of it, or what was there
// before: temporary file, fsync, rename, fsync of the directory. It is locked for a writer
// before anybody can see it, until the file is closed.
func writeConfig(dirfd int, data []byte) (*os.File, error) {
	tmp := tmpPrefix + rand.Text()
	fd, err := backing.Open(dirfd, tmp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), configName)
	if err = backing.Pwrite(fd, data, 0); err == nil {
		err = backing.Sync(fd)
	}
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = backing.Rename(dirfd, tmp, dirfd, configName, 0)
	}
	if err != nil {
		_ = backing.Unlink(dirfd, tmp)
	} else if err = backing.SyncDir(dirfd); err == nil {
		return f, nil
	}
	f.Close()
	return nil, err
}
