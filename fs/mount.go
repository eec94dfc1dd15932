package fs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// MountOptions say how a volume appears at its mountpoint.
type MountOptions struct {
	AllowOther bool // others than the mounting user may look; needs root or user_allow_other
	Suid, Dev  bool // honour setuid bits and device nodes; off by default
	NoExec     bool
	Debug      bool // log every request, plaintext names included
}

// maxRequest is the largest read or write the kernel may send, in bytes.
const maxRequest = 1 << 20

// Mount attaches the volume at mountpoint and returns when it answers. Serve
// the requests until the mount is gone with Wait.
func (r *Root) Mount(mountpoint string, o MountOptions) error {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	options := []string{"default_permissions"}
	if o.Suid {
		flags &^= unix.MS_NOSUID
		options = append(options, "suid")
	}
	if o.Dev {
		flags &^= unix.MS_NODEV
		options = append(options, "dev")
	}
	if o.NoExec {
		flags |= unix.MS_NOEXEC
		options = append(options, "noexec")
	}
	if r.opts.ReadOnly {
		flags |= unix.MS_RDONLY
		options = append(options, "ro")
	}
	root := os.Geteuid() == 0
	if root {
		// mount(2) takes these as flags, not as words.
		options = options[:1]
	}
	if flags == 0 {
		flags = unix.MS_MGC_VAL
	}
	server, err := fuse.NewServer(r, mountpoint, &fuse.MountOptions{
		AllowOther:        o.AllowOther,
		Options:           options,
		FsName:            "kmsfs#" + r.conf.Volume,
		Name:              "kmsfs",
		MaxWrite:          maxRequest,
		MaxReadAhead:      maxRequest,
		MaxBackground:     64,
		DirectMountStrict: root,
		DirectMountFlags:  flags,
		EnableAcl:         true,
		// The mount owns the volume: the kernel's cache goes stale only by our
		// own doing, and a symlink's target never changes.
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		ExtraCapabilities: fuse.CAP_DONT_MASK | // default ACLs replace the umask, which only we know
			fuse.CAP_HANDLE_KILLPRIV_V2 | // no GETXATTR before each write
			fuse.CAP_SETXATTR_EXT |
			fuse.CAP_READDIRPLUS_AUTO,
		// What is read comes from memory, not from a file that could be spliced;
		// go-fuse tries all the same, through a pipe that wakes the poller.
		DisableSplice: true,
		// File locks are the kernel's: there is no other host to agree with.
		EnableLocks:  false,
		Debug:        o.Debug,
		Logger:       slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
		PanicHandler: r.onPanic,
	})
	if err != nil {
		return fmt.Errorf("mount at %s: %w", mountpoint, err)
	}
	r.server = server
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		return errors.Join(fmt.Errorf("mount at %s: %w", mountpoint, err), server.Unmount())
	}
	r.tuneReadahead(mountpoint)
	if r.opts.IdleUnmount > 0 {
		r.activity.Store(time.Now().UnixNano())
		r.stopped.Add(1)
		go r.watchIdle()
	}
	return nil
}

// Wait returns when the mount is gone, by whatever hand.
func (r *Root) Wait() { r.server.Wait() }

// Unmount detaches the mount; it fails while something is in use there.
func (r *Root) Unmount() error { return r.server.Unmount() }

// onPanic ends the worker: a panic is our own bug, and what it left locked or
// half done is not to be built on. The volume is as after a crash.
func (r *Root) onPanic(v any) fuse.Status {
	r.log.Error("internal error", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	go panic(v)
	return fuse.EIO
}

// watchIdle unmounts after IdleUnmount without requests and open handles.
func (r *Root) watchIdle() {
	defer r.stopped.Done()
	tick := time.NewTicker(max(r.opts.IdleUnmount/10, 100*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		idle := time.Since(time.Unix(0, r.activity.Load()))
		if idle < r.opts.IdleUnmount || r.handles.len() > 0 {
			continue
		}
		if err := r.server.Unmount(); err != nil {
			r.log.Info("idle, but not unmounted", "err", err)
			r.touch() // somebody's working directory, say: wait anew
			continue
		}
		r.log.Info("unmounted after being idle", "for", idle.Round(time.Second))
		return
	}
}
