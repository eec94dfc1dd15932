// Package systems makes, mounts, unmounts and removes the filesystems that the benchmarks
// compare. A Lab is where they stand side by side, each on a Site of its own; what is on
// offer is in All. Whatever happens, Lab.Close leaves no mount, process or file behind.
package systems

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// System is one kind of filesystem: how to make an empty one and mount it.
type System struct {
	Name   string
	needs  string                   // the program it cannot do without; "" for native
	create func(s *Site) [][]string // commands that make an empty filesystem
	mount  func(s *Site) []string   // the command that mounts it; nil: used in place
	About  func() (version string)  // for the report's head
	stays  bool                     // a helper process outlives an unmount
}

// password of every filesystem made here. Key derivation happens at mount,
// which is never measured.
const password = "benchmark"

// All is every system on offer, given the programs that this repository builds.
func All(kmsfs, loopback string) []System {
	nothing := func(*Site) [][]string { return nil }
	return []System{{
		Name:   "native",
		create: nothing,
		About:  func() string { return "the directory itself" },
	}, {
		Name:   "loopback",
		needs:  loopback,
		create: nothing,
		mount:  func(s *Site) []string { return []string{loopback, s.storage, s.mnt} },
		About:  func() string { return "go-fuse fs.NewLoopbackRoot, built with " + runtime.Version() },
	}, {
		Name:  "gocryptfs",
		needs: "gocryptfs",
		create: func(s *Site) [][]string {
			return [][]string{{"gocryptfs", "-init", "-q", "-extpass", "echo " + password, s.storage}}
		},
		mount: func(s *Site) []string {
			return []string{"gocryptfs", "-fg", "-q", "-extpass", "echo " + password, s.storage, s.mnt}
		},
		About: func() string { return FirstLine("gocryptfs", "--version") },
	}, {
		Name:  "securefs",
		needs: "securefs",
		create: func(s *Site) [][]string {
			return [][]string{{"securefs", "create", "--pass", password, s.storage}}
		},
		mount: func(s *Site) []string {
			return []string{"securefs", "mount", "--pass", password, s.storage, s.mnt}
		},
		About: func() string {
			return FirstLine("dpkg-query", "-W", "-f", "${Package} ${Version}", "securefs")
		},
	}, {
		Name:   "encfs",
		needs:  "encfs",
		create: nothing, // the first mount makes it
		mount: func(s *Site) []string {
			return []string{"encfs", "-f", "--standard", "--extpass", "echo " + password, s.storage, s.mnt}
		},
		About: func() string { return FirstLine("encfs", "--version") },
	}, {
		Name:   "cryfs",
		needs:  "cryfs",
		create: nothing, // the first mount makes it
		mount: func(s *Site) []string {
			// It asks nothing, and looks for no newer version of itself.
			script := `export CRYFS_FRONTEND=noninteractive CRYFS_NO_UPDATE_CHECK=true CRYFS_LOCAL_STATE_DIR="$1"
				echo "$2" | exec cryfs -f "$3" "$4"`
			return []string{"sh", "-c", script, "sh", filepath.Join(s.dir, "state"), password, s.storage, s.mnt}
		},
		About: func() string { return FirstLine("dpkg-query", "-W", "-f", "${Package} ${Version}", "cryfs") },
	},
		kmsfsSystem("kmsfs", kmsfs, nil, nil),
		kmsfsSystem("kmsfs-volume", kmsfs, []string{"--keys", "volume"}, nil),
		kmsfsSystem("kmsfs-dev", kmsfs, nil, []string{"--transport", "dev"}),
		kmsfsSystem("kmsfs-uring", kmsfs, nil, []string{"--transport", "uring"}),
	}
}

// kmsfsSystem is kmsfs with its own state directory, and so its own key
// service, whose CPU time counts as well, and with flags of init and mount.
func kmsfsSystem(name, program string, init, mount []string) System {
	state := func(s *Site) string { return filepath.Join(s.dir, "state") }
	return System{
		Name:  name,
		needs: program,
		create: func(s *Site) [][]string {
			argv := append([]string{program, "--state-dir", state(s), "init"}, init...)
			return [][]string{append(argv, s.storage)}
		},
		mount: func(s *Site) []string {
			return append(append([]string{program, "--state-dir", state(s), "mount"}, mount...), s.storage, s.mnt)
		},
		About: func() string { return FirstLine(program, "--version") },
		stays: true,
	}
}

// Beside is the program of that name in the folder of the running one.
func Beside(name string) string {
	exe, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(exe), name)
}

func (s System) available() error {
	if s.needs == "" {
		return nil
	}
	if _, err := exec.LookPath(s.needs); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return nil
}

// FirstLine is the first line that a program prints, or why there is none.
func FirstLine(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "version unknown: " + err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
