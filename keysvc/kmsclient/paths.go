package kmsclient

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// maxSocketPath is what fits into a unix address (sun_path is 108 bytes and
// ends with a NUL).
const maxSocketPath = 107

const socketName = "keysvc.sock"

// DefaultStateDir is where state lives unless --state-dir says otherwise:
// /var/lib/kmsfs for root, $XDG_STATE_HOME/kmsfs for everybody else.
func DefaultStateDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/kmsfs", nil
	}
	base, err := xdg("XDG_STATE_HOME", ".local/state")
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "kmsfs"), nil
}

// DefaultConfigDir is /etc/kmsfs for root, $XDG_CONFIG_HOME/kmsfs for everybody
// else.
func DefaultConfigDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/etc/kmsfs", nil
	}
	base, err := xdg("XDG_CONFIG_HOME", ".config")
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "kmsfs"), nil
}

func xdg(variable, underHome string) (string, error) {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) { // a relative one is to be ignored
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no home directory: set HOME or %s, or give --state-dir: %w", variable, err)
	}
	return filepath.Join(home, underHome), nil
}

// StateDir returns dir made absolute, or the default one for "".
func StateDir(dir string) (string, error) {
	if dir == "" {
		return DefaultStateDir()
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	return abs, nil
}

// SocketPath is where the service of a state directory listens: under /run/kmsfs
// or $XDG_RUNTIME_DIR/kmsfs for the default directory, inside any other.
func SocketPath(stateDir string) (string, error) {
	dir, err := StateDir(stateDir)
	if err != nil {
		return "", err
	}
	normal, err := DefaultStateDir()
	switch run := os.Getenv("XDG_RUNTIME_DIR"); {
	case err != nil || dir != normal:
	case os.Geteuid() == 0:
		dir = "/run/kmsfs"
	case filepath.IsAbs(run):
		dir = filepath.Join(run, "kmsfs")
	}
	path := filepath.Join(dir, socketName)
	return path, CheckSocketPath(path)
}

// CheckSocketPath refuses a path that does not fit into a unix address.
func CheckSocketPath(path string) error {
	if len(path) > maxSocketPath {
		return fmt.Errorf("the socket's path %s is %d bytes long, a unix socket's is at most %d: choose a shorter state directory, or a place for the socket with --socket", path, len(path), maxSocketPath)
	}
	return nil
}

// unitExists tells whether systemd is to start the service for the default
// state directory, so that nobody else may.
func unitExists(dirs []string) bool {
	for _, d := range dirs {
		if _, err := os.Lstat(filepath.Join(d, "kmsfs-keysvc.socket")); !errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// unitDirs are the places of systemd's units for this user, or none on a machine
// that systemd does not run.
func unitDirs() []string {
	if _, err := os.Lstat("/run/systemd/system"); err != nil {
		return nil
	}
	kind := "user"
	if os.Geteuid() == 0 {
		kind = "system"
	}
	dirs := []string{"/etc/systemd/" + kind, "/run/systemd/" + kind, "/usr/local/lib/systemd/" + kind, "/usr/lib/systemd/" + kind, "/lib/systemd/" + kind}
	if base, err := xdg("XDG_CONFIG_HOME", ".config"); err == nil && kind == "user" {
		dirs = append(dirs, filepath.Join(base, "systemd/user"))
	}
	return dirs
}
