// Package procstat reads /proc/PID/stat (proc(5)), for the benchmarks.
package procstat

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Process is what /proc says of one process.
type Process struct {
	PID, Parent int
	Zombie      bool
	CPU         time.Duration // user and system time
	Resident    int64         // bytes of memory
}

// clockTick is the unit of the times in /proc/PID/stat: USER_HZ, 100 on every
// Linux architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// Parse reads one /proc/PID/stat. The command's name stands in
// parentheses and may itself hold spaces and parentheses.
func Parse(b []byte) (Process, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return Process{}, fmt.Errorf("no command name in %q", b)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	if err != nil {
		return Process{}, err
	}
	f := strings.Fields(string(b[end+1:])) // f[0] is field 3 of proc(5)
	if len(f) < 22 {
		return Process{}, fmt.Errorf("only %d fields in %q", len(f), b)
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return Process{}, err
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return Process{}, err
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	if err != nil {
		return Process{}, err
	}
	pages, err := strconv.ParseInt(f[21], 10, 64)
	if err != nil {
		return Process{}, err
	}
	return Process{pid, parent, f[0] == "Z", time.Duration(user+system) * clockTick, pages * int64(os.Getpagesize())}, nil
}
