package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// system is one kind of filesystem: how to make an empty one and mount it.
type system struct {
	name   string
	needs  string                   // the program it cannot do without; "" for native
	create func(s *site) [][]string // commands that make an empty filesystem
	mount  func(s *site) []string   // the command that mounts it; nil: used in place
	about  func() (version string)  // for the report's head
	stays  bool                     // a helper process outlives an unmount
}

// password of every filesystem made here. Key derivation happens at mount,
// which is never measured.
const password = "benchmark"

func systems(kmsfs, loopback string) []system {
	nothing := func(*site) [][]string { return nil }
	return []system{{
		name:   "native",
		create: nothing,
		about:  func() string { return "the directory itself" },
	}, {
		name:   "loopback",
		needs:  loopback,
		create: nothing,
		mount:  func(s *site) []string { return []string{loopback, s.storage, s.mnt} },
		about:  func() string { return "go-fuse fs.NewLoopbackRoot, built with " + runtime.Version() },
	}, {
		name:  "gocryptfs",
		needs: "gocryptfs",
		create: func(s *site) [][]string {
			return [][]string{{"gocryptfs", "-init", "-q", "-extpass", "echo " + password, s.storage}}
		},
		mount: func(s *site) []string {
			return []string{"gocryptfs", "-fg", "-q", "-extpass", "echo " + password, s.storage, s.mnt}
		},
		about: func() string { return firstLine("gocryptfs", "--version") },
	}, {
		name:  "securefs",
		needs: "securefs",
		create: func(s *site) [][]string {
			return [][]string{{"securefs", "create", "--pass", password, s.storage}}
		},
		mount: func(s *site) []string {
			return []string{"securefs", "mount", "--pass", password, s.storage, s.mnt}
		},
		about: func() string {
			return firstLine("dpkg-query", "-W", "-f", "${Package} ${Version}", "securefs")
		},
	}, {
		name:   "encfs",
		needs:  "encfs",
		create: nothing, // the first mount makes it
		mount: func(s *site) []string {
			return []string{"encfs", "-f", "--standard", "--extpass", "echo " + password, s.storage, s.mnt}
		},
		about: func() string { return firstLine("encfs", "--version") },
	}, {
		name:   "cryfs",
		needs:  "cryfs",
		create: nothing, // the first mount makes it
		mount: func(s *site) []string {
			// It asks nothing, and looks for no newer version of itself.
			script := `export CRYFS_FRONTEND=noninteractive CRYFS_NO_UPDATE_CHECK=true CRYFS_LOCAL_STATE_DIR="$1"
				echo "$2" | exec cryfs -f "$3" "$4"`
			return []string{"sh", "-c", script, "sh", filepath.Join(s.dir, "state"), password, s.storage, s.mnt}
		},
		about: func() string { return firstLine("dpkg-query", "-W", "-f", "${Package} ${Version}", "cryfs") },
	},
		kmsfsSystem("kmsfs", kmsfs, nil, nil),
		kmsfsSystem("kmsfs-volume", kmsfs, []string{"--keys", "volume"}, nil),
		kmsfsSystem("kmsfs-dev", kmsfs, nil, []string{"--transport", "dev"}),
		kmsfsSystem("kmsfs-uring", kmsfs, nil, []string{"--transport", "uring"}),
	}
}

// kmsfsSystem is kmsfs with its own state directory, and so its own key
// service, whose CPU time counts as well, and with flags of init and mount.
func kmsfsSystem(name, program string, init, mount []string) system {
	state := func(s *site) string { return filepath.Join(s.dir, "state") }
	return system{
		name:  name,
		needs: program,
		create: func(s *site) [][]string {
			argv := append([]string{program, "--state-dir", state(s), "init"}, init...)
			return [][]string{append(argv, s.storage)}
		},
		mount: func(s *site) []string {
			return append(append([]string{program, "--state-dir", state(s), "mount"}, mount...), s.storage, s.mnt)
		},
		about: func() string { return firstLine(program, "--version") },
		stays: true,
	}
}

func (s system) available() error {
	if s.needs == "" {
		return nil
	}
	if _, err := exec.LookPath(s.needs); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

func firstLine(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "version unknown: " + err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
