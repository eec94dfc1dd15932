package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs"
)

func unmountCommand() *cli.Command {
	return &cli.Command{
		Name:      "unmount",
		Aliases:   []string{"umount"},
		Usage:     "take a mount away",
		ArgsUsage: "MOUNTPOINT",
		Description: `Returns when everything is on disk and the worker has left, so that the volume can
be mounted again or copied at once. A mount whose worker has died is cleared away.

Examples:
   kmsfs unmount ~/plain
   kmsfs unmount --lazy /srv/plain   (detach now, finish when nobody uses it)`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "lazy", Aliases: []string{"z"}, Usage: "detach even while it is in use; do not wait for the worker"},
		},
		Action: unmountAction,
	}
}

func unmountAction(c *cli.Context) error {
	args, err := arguments(c, "MOUNTPOINT")
	if err != nil {
		return err
	}
	mountpoint, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	// The mount is where a symlink leads. Of a dead one nothing can be asked.
	if real, err := filepath.EvalSymlinks(mountpoint); err == nil {
		mountpoint = real
	}
	// The info is the worker's own: there is none when it has died.
	info, err := fs.ReadInfo(mountpoint)
	dead := errors.Is(err, unix.ENOTCONN)
	if err != nil && !dead {
		return fmt.Errorf("%s is not a kmsfs mount", mountpoint)
	}
	if info != nil && info.Path != "/" {
		return notMountpoint(mountpoint)
	}
	lazy := c.Bool("lazy")
	if err := detach(mountpoint, lazy); err != nil {
		return err
	}
	if info == nil || lazy {
		return nil
	}
	return awaitExit(c, info.WorkerPid)
}

// notMountpoint is the error for a path below one.
func notMountpoint(path string) error {
	return fmt.Errorf("%s lies inside a kmsfs mount, but is not its mountpoint", path)
}

// detach removes the mount: by umount2(2), or by fusermount3 for those who may not.
func detach(mountpoint string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(mountpoint, flags)
	if err == unix.EPERM {
		args := []string{"-u"}
		if lazy {
			args = append(args, "-z")
		}
		out, helperErr := exec.Command("fusermount3", append(args, "--", mountpoint)...).CombinedOutput()
		if helperErr == nil {
			return nil
		}
		if !strings.Contains(string(out), "busy") {
			return fmt.Errorf("unmount %s: %s", mountpoint, strings.TrimSpace(string(out)+" "+helperErr.Error()))
		}
		err = unix.EBUSY
	}
	if err == unix.EBUSY {
		return fmt.Errorf("%s is in use; close what is open there (fuser -vm %s shows who), or use --lazy", mountpoint, mountpoint)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", mountpoint, err)
	}
	return nil
}

// awaitExit waits until the worker has written everything and left.
func awaitExit(c *cli.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // it has left already
	}
	defer unix.Close(fd)
	slow := time.Now().Add(5 * time.Second)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 500)
		switch {
		case err != nil && err != unix.EINTR:
			return err
		case n > 0:
			return nil
		case c.Context.Err() != nil:
			return fmt.Errorf("interrupted; the worker (process %d) is still writing to disk", pid)
		}
		if _, tty := isTerminal(os.Stdin); tty && !slow.IsZero() && time.Now().After(slow) {
			fmt.Fprintln(c.App.ErrWriter, "kmsfs: still writing to disk...")
			slow = time.Time{}
		}
	}
}
