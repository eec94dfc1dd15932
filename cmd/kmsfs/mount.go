package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/daemon/worker"
	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func mountCommand() *cli.Command {
	return &cli.Command{
		Name:      "mount",
		Usage:     "show the plaintext of a ciphertext directory at a mountpoint",
		ArgsUsage: "CIPHERDIR MOUNTPOINT",
		Description: `Returns once the mountpoint answers; a worker process serves it from then on, until
"kmsfs unmount". The key service is started if it is not running. One mount per
volume: the ciphertext directory is locked meanwhile (readers share it).

The worker's log is STATE_DIR/log/<volume id>.log; with --foreground it goes to
standard error. File names are not logged, their ciphertext is.

Examples:
   kmsfs mount ~/cipher ~/plain
   kmsfs mount --read-only /backup/cipher /mnt/restore
   kmsfs mount --allow-other --idle-unmount 30m /srv/cipher /srv/plain
   kmsfs mount --allow-other --authorize caller /srv/cipher /srv/plain`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "stay, and log to standard error"},
			&cli.BoolFlag{Name: "read-only", Aliases: []string{"ro"}, Usage: "change nothing, not even after a crash"},
			&cli.BoolFlag{Name: "allow-other", Usage: "let other users in, each with the permissions the files give them (needs root, or user_allow_other in /etc/fuse.conf)"},
			&cli.DurationFlag{Name: "idle-unmount", Usage: "unmount after `TIME` (30m, 2h) without use"},
			&cli.DurationFlag{Name: "key-cache-ttl", Value: time.Minute, Usage: "a yes of the key service counts for `TIME`: a further open of the same file asks it again only after that; 0s asks on every open; below 1s, nothing is opened ahead of a walk"},
			&cli.IntFlag{Name: "key-cache-size", Value: defaultKeyCacheSize, Usage: "keep the keys of at most `N` files that were closed within that time; 0 keeps none"},
			&cli.StringFlag{Name: "authorize", Value: "volume", Usage: "ask the key service for `WHOM`: volume, for whoever mounts; or caller, for the user who makes, opens, renames or links a file (needs --keys path and, to let others in, root; a directory cannot be renamed then, mv copies it)"},
			&cli.StringFlag{Name: "transport", Value: "auto", Usage: "take requests from the kernel by `HOW`: uring, over io_uring (Linux 6.14 and later, where /sys/module/fuse/parameters/enable_uring is Y); dev, from /dev/fuse; or auto, over io_uring where the kernel offers it"},
			&cli.BoolFlag{Name: "accept-replaced", Usage: "mount although another volume was in CIPHERDIR before, and remember this one"},
			&cli.BoolFlag{Name: "suid", Usage: "honour setuid and setgid bits"},
			&cli.BoolFlag{Name: "dev", Usage: "honour device nodes"},
			&cli.BoolFlag{Name: "noexec", Usage: "let no program run from the mount"},
			&cli.BoolFlag{Name: "debug-fuse", Usage: "log every request, with plaintext names"},
		},
		Action: mountAction,
	}
}

// defaultKeyCacheSize takes some 10 MiB, one of them locked.
const defaultKeyCacheSize = 1 << 14

var authorizeModes = map[string]fs.Authorize{"volume": fs.AuthorizeVolume, "caller": fs.AuthorizeCaller}

var transports = map[string]fs.Transport{"auto": fs.TransportAuto, "uring": fs.TransportUring, "dev": fs.TransportDev}

// readyFD is the descriptor on which a worker in the background tells its
// parent "ok" or what is wrong; the variable says that it is one.
const (
	readyFD  = 3
	readyEnv = "KMSFS_WORKER"
)

func mountAction(c *cli.Context) error {
	args, err := arguments(c, "CIPHERDIR", "MOUNTPOINT")
	if err != nil {
		return err
	}
	if _, ok := authorizeModes[c.String("authorize")]; !ok {
		return usagef(c, "--authorize %q: use volume or caller", c.String("authorize"))
	}
	if _, ok := transports[c.String("transport")]; !ok {
		return usagef(c, "--transport %q: use auto, uring or dev", c.String("transport"))
	}
	cipherDir, mountpoint, err := checkPlaces(c, args[0], args[1])
	if err != nil {
		return err
	}
	if err := checkKnown(c, cipherDir); err != nil {
		return err
	}
	if os.Getenv(readyEnv) != "" {
		return serveInBackground(c, cipherDir, mountpoint)
	}
	if c.Bool("foreground") {
		if c.Bool("debug-fuse") {
			logTo(c.App.ErrWriter, slog.LevelDebug)
		}
		return serveMount(c, cipherDir, mountpoint, func() {
			fmt.Fprintf(c.App.ErrWriter, "kmsfs: %s is mounted at %s\n", cipherDir, mountpoint)
		})
	}
	return background(c)
}

// checkPlaces refuses what cannot be mounted before anything is started.
func checkPlaces(c *cli.Context, cipherDir, mountpoint string) (string, string, error) {
	cipherDir, err := filepath.Abs(cipherDir)
	if err != nil {
		return "", "", err
	}
	if _, err := fs.ReadConfig(cipherDir); err != nil {
		return "", "", err
	}
	if mountpoint, err = filepath.Abs(mountpoint); err != nil {
		return "", "", err
	}
	info, err := os.Stat(mountpoint)
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return "", "", fmt.Errorf("%s: an earlier mount's worker has died; kmsfs unmount %s clears it away", mountpoint, mountpoint)
	case err != nil:
		return "", "", fmt.Errorf("mountpoint: %w", err)
	case !info.IsDir():
		return "", "", fmt.Errorf("mountpoint %s is not a directory", mountpoint)
	}
	state, err := kmsclient.StateDir(stateDir(c))
	if err != nil {
		return "", "", err
	}
	for _, pair := range [][2]string{{cipherDir, mountpoint}, {state, mountpoint}} {
		if within(pair[0], pair[1]) {
			return "", "", fmt.Errorf("%s would disappear below the mountpoint %s; mount elsewhere", pair[0], pair[1])
		}
	}
	if within(mountpoint, cipherDir) {
		return "", "", fmt.Errorf("the mountpoint %s lies in the ciphertext directory; mount elsewhere", mountpoint)
	}
	return cipherDir, mountpoint, nil
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		path = p
	}
	if d, err := filepath.EvalSymlinks(dir); err == nil {
		dir = d
	}
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// serveMount mounts and serves until the mount is gone, which a signal asks for.
func serveMount(c *cli.Context, cipherDir, mountpoint string, ready func()) error {
	if err := secret.HardenProcess(); err != nil {
		return err
	}
	unix.Umask(0) // modes are as the callers ask
	raiseFileLimit()
	defer holdBallast(mountBallast)()
	client, err := connect(c)
	if err != nil {
		return err
	}
	defer client.Close()
	root, err := fs.Open(c.Context, cipherDir, fs.Options{
		Keys: client, ReadOnly: c.Bool("read-only"), Logger: slog.Default(), Authorize: authorizeModes[c.String("authorize")],
		KeyCacheTTL: c.Duration("key-cache-ttl"), KeyCacheSize: c.Int("key-cache-size"), IdleUnmount: c.Duration("idle-unmount"),
	})
	if err != nil {
		return err
	}
	control := "" // of a read-only mount: there is nothing to order, and readers may be several
	if !c.Bool("read-only") {
		if control, err = worker.SocketPath(stateDir(c), root.Volume()); err != nil {
			return errors.Join(err, root.Close())
		}
	}
	err = root.Mount(mountpoint, fs.MountOptions{
		AllowOther: c.Bool("allow-other"), Suid: c.Bool("suid"), Dev: c.Bool("dev"), NoExec: c.Bool("noexec"),
		Debug: c.Bool("debug-fuse"), Transport: transports[c.String("transport")], Control: control,
	})
	if err != nil {
		return errors.Join(err, root.Close())
	}
	if err := rememberVolume(c, cipherDir); err != nil {
		slog.Warn("could not remember the volume", "err", err)
	}
	closeDoor := openDoor(c, control, root, cipherDir)
	ready()
	gone := make(chan struct{})
	go func() { root.Wait(); close(gone) }()
	unmountOnSignal(root, gone)
	// First: who gave an order and does not read the answer would keep the volume open.
	closeDoor()
	return root.Close()
}

// openDoor has the worker take orders on the socket control, if that is not "".
func openDoor(c *cli.Context, control string, root *fs.Root, cipherDir string) (closeDoor func()) {
	if control == "" {
		return func() {}
	}
	door, err := worker.Serve(control, root, func(next *fs.Config) error { return expectConfig(c, cipherDir, next) })
	if err != nil {
		slog.Warn("this mount takes no orders, as of kmsfs rewrap: its socket cannot be made", "err", err)
		return func() {}
	}
	return func() {
		if err := door.Close(); err != nil {
			slog.Warn("close the worker's socket", "err", err)
		}
	}
}

// raiseFileLimit lets the worker have as many descriptors as the system allows:
// each file and directory that programs have open through the mount is one of
// the worker's too, and their limits are each their own.
func raiseFileLimit() {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return
	}
	if text, err := os.ReadFile("/proc/sys/fs/nr_open"); err == nil && os.Geteuid() == 0 {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
			lim.Max = max(lim.Max, n)
		}
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		slog.Info("the limit of open files stays as it is", "err", err)
	}
}

// unmountOnSignal returns when the mount is gone; SIGINT and SIGTERM ask for it
// until nothing is in use there any more.
func unmountOnSignal(root *fs.Root, gone <-chan struct{}) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	for {
		select {
		case <-gone:
			return
		case sig := <-signals:
			if err := root.Unmount(); err != nil {
				slog.Warn("cannot unmount now", "signal", sig.String(), "err", err)
			}
		}
	}
}

// serveInBackground is serveMount in the process in the background.
func serveInBackground(c *cli.Context, cipherDir, mountpoint string) error {
	ready := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	signal.Ignore(syscall.SIGHUP)
	if err := logToFile(c, cipherDir); err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	// What ends a command in a terminal is no reason to leave at once.
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context))
	defer cancel()
	c.Context = ctx
	mounted := false
	err := serveMount(c, cipherDir, mountpoint, func() {
		mounted = true
		fmt.Fprint(ready, "ok")
		ready.Close()
	})
	if err != nil && !mounted {
		fmt.Fprint(ready, err)
	} else if err != nil {
		slog.Error("the volume was not closed cleanly", "err", err)
	}
	return err
}
