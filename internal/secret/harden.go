package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// HardenProcess makes the process undumpable, which also refuses ptrace and
// /proc/PID/mem to other processes of its user, and forbids core files. It then
// asks for the whole address space to be locked, because keys also pass through
// the Go heap; that is an extra, so a refusal is no error.
//
// Call it early in main, before any key is read.
func HardenProcess() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("secret: make the process undumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("secret: forbid core files: %w", err)
	}
	// MCL_FUTURE under a finite RLIMIT_MEMLOCK would make a later mmap of the Go
	// runtime fail, which kills the process: only when no limit applies.
	if mayLockAll() {
		_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	}
	return nil
}

// mayLockAll tells whether RLIMIT_MEMLOCK does not apply to this process.
func mayLockAll() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0 {
		return true
	}
	var lim unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim) == nil && lim.Cur == unix.RLIM_INFINITY
}
