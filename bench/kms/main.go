// Command kms measures the key service, and holds it to what it has to reach.
//
// Two servers run side by side, and clients of another user ask one after the
// other: an HTTP handler that does nothing, behind a unix socket and a server
// with the key service's settings, and the key service itself, `kmsfs keysvc
// serve`, for data keys of a key with a policy of 20 statements and 1,000
// grants. Each of its answers was authorized and is in the audit log: after each
// run the log is verified, and has as many records as keys were made. The rest
// is measured in this process: data keys without a socket, and those that only
// a grant permits, of a key with one grant and with 50,000.
//
// All of it runs on two processors. The exit code is 1 when something is slower than
// it has to be.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// config is how much is measured.
type config struct {
	kmsfs    string
	dir      string
	clients  int
	rounds   int
	duration time.Duration
	grants   int // on the key
	most     int // on the key with the most of them

	// grantsDir is where those are made. Each is a durable change, and so many
	// of them take minutes on a disk.
	grantsDir string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == roleEmpty {
		exit(serveEmpty(os.Args[2]))
	}
	if len(os.Args) > 1 && os.Args[1] == roleLoad {
		exit(loadRole(os.Args[2]))
	}
	var c config
	flag.StringVar(&c.kmsfs, "kmsfs", "bin/kmsfs", "the program to measure")
	flag.StringVar(&c.dir, "dir", "/var/tmp", "keep the state directory below `DIR`")
	flag.IntVar(&c.clients, "clients", 8, "how many clients ask at once")
	flag.IntVar(&c.rounds, "rounds", 3, "how often everything is measured; the median counts")
	flag.DurationVar(&c.duration, "duration", 2*time.Second, "how long a measurement takes")
	flag.IntVar(&c.grants, "grants", 1000, "grants on the key")
	flag.IntVar(&c.most, "most-grants", 50_000, "grants on the key whose grants are looked up")
	flag.StringVar(&c.grantsDir, "grants-dir", "/dev/shm", "keep the state directory with those below `DIR`")
	jsonFile := flag.String("json", "", "write the results to `FILE` too")
	flag.Parse()
	if err := onTwoProcessors(); err != nil {
		exit(err)
	}
	r, err := measure(c)
	if err != nil {
		exit(err)
	}
	if *jsonFile != "" {
		raw, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			err = os.WriteFile(*jsonFile, append(raw, '\n'), 0o644)
		}
		if err != nil {
			exit(err)
		}
	}
	exit(r.print(os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench kms:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

const processors = 2

// onTwoProcessors starts this program anew, so that all of its threads and
// children have two processors.
func onTwoProcessors() error {
	if runtime.NumCPU() <= processors {
		return nil
	}
	runtime.LockOSThread()
	var all, two unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("processors: %w", err)
	}
	for i := 0; two.Count() < processors; i++ {
		if all.IsSet(i) {
			two.Set(i)
		}
	}
	if err := unix.SchedSetaffinity(0, &two); err != nil {
		return fmt.Errorf("processors: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(self, os.Args, os.Environ())
}

// measure does everything.
func measure(c config) (_ *results, err error) {
	dir, err := os.MkdirTemp(c.dir, "bk")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // for the clients' user
		return nil, err
	}
	r := &results{Clients: c.clients, Rounds: c.rounds, Processors: runtime.NumCPU(), Grants: c.grants, MostGrants: c.most, User: clientUser()}
	if err := measureSockets(c, dir, r); err != nil {
		return nil, err
	}
	if err := measureInProcess(c, dir, r); err != nil {
		return nil, err
	}
	return r, measureGrants(c, r)
}
