package fs

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/fusedev"
)

// MountOptions say how a volume appears at its mountpoint.
type MountOptions struct {
	AllowOther bool // others than the mounting user may look; needs root or user_allow_other
	Suid, Dev  bool // honour setuid bits and device nodes; off by default
	NoExec     bool
	Debug      bool // log every request, plaintext names included
	Transport  Transport
	Control    string // path of the socket on which the worker takes orders, for Info
}

// Transport is how requests come from the kernel.
type Transport = fusedev.Transport

// The transports.
const (
	TransportAuto  = fusedev.Auto  // io_uring where the kernel offers it, and else the device
	TransportUring = fusedev.Uring // io_uring, or the mount fails
	TransportDev   = fusedev.Dev   // reads of /dev/fuse
)

// maxRequest is the largest read or write the kernel may send, in bytes.
const maxRequest = 1 << 20

// Mount attaches the volume at mountpoint, returns when it answers, and serves
// it in the background until the mount is gone, which Wait waits for.
func (r *Root) Mount(mountpoint string, o MountOptions) error {
	r.control = o.Control
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if o.Suid {
		flags &^= unix.MS_NOSUID
	}
	if o.Dev {
		flags &^= unix.MS_NODEV
	}
	if o.NoExec {
		flags |= unix.MS_NOEXEC
	}
	if r.opts.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	protocol := fuse.NewProtocolServer(r, &fuse.MountOptions{
		Name:          "kmsfs",
		MaxWrite:      maxRequest,
		MaxReadAhead:  maxRequest,
		MaxBackground: 64,
		EnableAcl:     true,
		// The mount owns the volume: the kernel's cache goes stale only by our
		// own doing, and a symlink's target never changes.
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		ExtraCapabilities: fuse.CAP_DONT_MASK | // default ACLs replace the umask, which only we know
			fuse.CAP_HANDLE_KILLPRIV_V2 | // no GETXATTR before each write
			fuse.CAP_SETXATTR_EXT |
			fuse.CAP_READDIRPLUS_AUTO,
		// File locks are the kernel's: there is no other host to agree with.
		EnableLocks:  false,
		Debug:        o.Debug,
		Logger:       slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
		PanicHandler: r.onPanic,
	})
	conn, err := fusedev.Mount(fusedev.Options{
		Mountpoint: mountpoint,
		Source:     "kmsfs#" + r.conf.Volume, Subtype: "kmsfs",
		Flags: flags, AllowOther: o.AllowOther, MaxRequest: maxRequest, Transport: o.Transport,
		Handle: func(in, out [][]byte) (int, unix.Errno) {
			n, code := protocol.HandleRequest(in, out)
			return n, unix.Errno(code)
		},
		QuickSize: quickSize, Log: r.log,
	})
	if err != nil {
		return fmt.Errorf("mount at %s: %w", mountpoint, err)
	}
	r.conn = conn
	r.tuneReadahead(mountpoint)
	if r.opts.IdleUnmount > 0 {
		r.activity.Store(time.Now().UnixNano())
		r.stopped.Add(1)
		go r.watchIdle()
	}
	return nil
}

// Wait returns when the mount is gone, by whatever hand.
func (r *Root) Wait() { r.conn.Wait() }

// Unmount detaches the mount; it fails while something is in use there.
func (r *Root) Unmount() error { return r.conn.Unmount() }

// quickSize is what can be read or written in some ten microseconds, in bytes.
const quickSize = 64 << 10

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
		if err := r.conn.Unmount(); err != nil {
			r.log.Info("idle, but not unmounted", "err", err)
			r.touch() // somebody's working directory, say: wait anew
			continue
		}
		r.log.Info("unmounted after being idle", "for", idle.Round(time.Second))
		return
	}
}
