package systems

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is where the numbers come from.
type Machine struct {
	Kernel  string `json:"kernel"`
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Storage string `json:"storage"` // filesystem type that everything is stored on
	Cold    bool   `json:"cold"`    // the kernel's caches are dropped, too
}

func describeMachine(dir string) (Machine, error) {
	m := Machine{Cores: runtime.NumCPU()}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return m, err
	}
	m.Kernel = unix.ByteSliceToString(u.Release[:])
	m.CPU = "unknown"
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(info)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			m.CPU = strings.TrimSpace(v)
			break
		}
	}
	m.Storage, err = filesystemType(dir)
	m.Cold = dropCaches() == nil
	return m, err
}

// filesystemType is the type of the mount that holds dir.
func filesystemType(dir string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", err
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		for i, field := range f {
			if field == "-" && i+1 < len(f) && f[2] == device {
				return f[i+1], nil
			}
		}
	}
	return "unknown", nil
}

func (m Machine) String() string {
	s := fmt.Sprintf("Linux %s, %d cores of %s, storage on %s", m.Kernel, m.Cores, m.CPU, m.Storage)
	if !m.Cold {
		s += "\nThe kernel's caches cannot be dropped here (run as root): cold means remounted only, and native is warm."
	}
	return s
}
