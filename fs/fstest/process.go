package fstest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is one running process, as /proc shows it.
type process struct {
	pid  int
	args []string
}

// processes lists the processes of which an argument begins with prefix, this
// one apart. A zombie has no arguments and is not listed.
func processes(prefix string) []process {
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var found []process
	for _, name := range dirs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		p := process{pid: pid}
		names := false
		for _, arg := range bytes.Split(bytes.TrimRight(data, "\x00"), []byte{0}) {
			s := string(arg)
			p.args = append(p.args, s)
			if _, value, ok := strings.Cut(s, "="); ok && strings.HasPrefix(s, "-") {
				s = value
			}
			names = names || s == prefix || strings.HasPrefix(s, prefix+"/")
		}
		if names {
			found = append(found, p)
		}
	}
	return found
}

// Alive tells whether any thread of a process runs (a zombie does not). A killed
// process's first thread may be gone before one that the disk holds up, and
// the process's locks go with the last.
func Alive(pid int) bool {
	return slices.ContainsFunc(ThreadStats(pid), func(stat []string) bool { return stat[0] != "Z" && stat[0] != "X" })
}

// ThreadStats reads /proc/PID/task/TID/stat of each thread of a process, from the third
// field on (proc_pid_stat(5)): the state is at 0.
func ThreadStats(pid int) (stats [][]string) {
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	for _, name := range tasks {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// They follow the parenthesised name, which may hold anything.
		i := bytes.LastIndexByte(data, ')')
		if fields := strings.Fields(string(data[i+1:])); i >= 0 && len(fields) > 0 {
			stats = append(stats, fields)
		}
	}
	return stats
}

// waitGone waits for a process to end.
func waitGone(pid int, limit time.Duration) error {
	return Poll(limit, func() (bool, error) { return !Alive(pid), nil })
}

// stop ends a process, with SIGKILL when it does not end by itself.
func stop(pid int) error {
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		return nil // already gone
	}
	if waitGone(pid, time.Minute) == nil {
		return nil
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	return waitGone(pid, time.Minute)
}
