package seal

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/internal/durable"
	"kmsfs.dev/kmsfs/internal/secret"
)

// A key file is one line: this prefix and 32 bytes in base64.
const keyFilePrefix = "kmsfs-root-key-1:"

const keyFileLen = len(keyFilePrefix) + (KeyLen+2)/3*4 + 1

// readKeyFile reads a key file that nobody but this process's user, or root,
// can read or replace through the file itself.
func readKeyFile(path string) (*secret.Buffer, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("root key file %s is missing: restore it from a backup, without it no key of this service can be used", path)
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("root key file %s is a symbolic link: give the file itself with --root-key-file", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the root key file: %w", err)
	}
	defer f.Close()
	if err := checkPrivate(f); err != nil {
		return nil, err
	}
	raw := make([]byte, keyFileLen+1)
	defer secret.Wipe(raw)
	n, err := io.ReadFull(f, raw)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read the root key file %s: %w", path, err)
	}
	line := raw[:n]
	if n != keyFileLen || string(line[:len(keyFilePrefix)]) != keyFilePrefix || line[n-1] != '\n' {
		return nil, fmt.Errorf("%s is not a root key file of this version of kmsfs", path)
	}
	key := make([]byte, KeyLen+2)
	m, err := base64.StdEncoding.Strict().Decode(key, line[len(keyFilePrefix):n-1])
	if err != nil || m != KeyLen {
		secret.Wipe(key)
		return nil, fmt.Errorf("%s is not a root key file of this version of kmsfs", path)
	}
	return secret.From(key[:KeyLen])
}

// checkPrivate refuses a file that another user could have read or written.
func checkPrivate(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("root key file: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("root key file %s is not a regular file", f.Name())
	}
	sys := st.Sys().(*syscall.Stat_t)
	if uid := uint32(os.Geteuid()); sys.Uid != uid && sys.Uid != 0 {
		return fmt.Errorf("root key file %s belongs to uid %d, not to uid %d: chown it, or start the service as its owner", f.Name(), sys.Uid, uid)
	}
	if perm := st.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("root key file %s has mode %04o, others may read it: run chmod 600 %s", f.Name(), perm, f.Name())
	}
	return nil
}

// makeKeyFile writes a new key file, or reads the one that is there already: a
// start that was cut short may have left it.
func makeKeyFile(path string) (*secret.Buffer, error) {
	if _, err := os.Lstat(path); err == nil {
		return readKeyFile(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for the root key file: %w", err)
	}
	key, err := secret.New(KeyLen)
	if err != nil {
		return nil, err
	}
	rand.Read(key.Bytes())
	line := make([]byte, keyFileLen)
	defer secret.Wipe(line)
	copy(line, keyFilePrefix)
	base64.StdEncoding.Encode(line[len(keyFilePrefix):], key.Bytes())
	line[keyFileLen-1] = '\n'
	if err := writeNew(path, line); err != nil {
		key.Free()
		return nil, fmt.Errorf("save the root key file: %w", err)
	}
	return key, nil
}

// writeNew makes a file of mode 0600 that is either whole and durable or not
// there, and never replaces another one.
func writeNew(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".kmsfs-new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	// link fails if the name is taken, where rename would replace it.
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}
