package fs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
)

// openFlags of every file. Nobody else changes it: what the kernel has cached
// of it is good. And closing it has nothing to write that could fail.
const openFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH

// Open implements fuse.RawFileSystem.
func (r *Root) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r.touch()
	n := r.node(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	fh, err := r.openHandle(n, in.Flags, r.principal(&in.Caller))
	if err != nil {
		return status(err)
	}
	out.Fh = fh
	out.OpenFlags = openFlags
	return fuse.OK
}

func (r *Root) openHandle(n *node, flags uint32, who principal) (uint64, error) {
	want := accessRead
	if flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0 {
		want = accessWrite
	}
	if want == accessWrite && r.opts.ReadOnly {
		return 0, unix.EROFS
	}
	if want == accessRead && n.toCome() {
		r.willOpen(n)
	}
	f, err := r.hold(n, want, who)
	if err != nil {
		return 0, err
	}
	f.use()
	if flags&unix.O_ACCMODE != unix.O_WRONLY && flags&(unix.O_TRUNC|unix.O_DIRECT) == 0 {
		r.prefill(f)
	}
	f.tellResized()
	return r.handles.add(&handle{node: n, file: f}), nil
}

// tellResized has the kernel forget a size that opening the file has corrected:
// it asks for the attributes anew before it answers a read or a stat.
func (f *file) tellResized() {
	f.mu.Lock()
	resized := f.resized
	f.resized = false
	f.mu.Unlock()
	if resized {
		_ = f.r.conn.InvalidateAttr(f.n.id)
	}
}

// prefillMax is the length, in bytes, up to which a file is given to the kernel
// as a whole when it is opened.
const prefillMax = 32 << 10

// prefill puts the content of a small file into the kernel's cache when it is
// opened for the first time: it is about to be read, and that costs a round
// trip. Whoever asks READ instead gets the same.
//
// Only the sole holder does it, under n.mu: whoever else had the file could
// have changed it, and a WRITE keeps its page locked until it is answered, so
// that the kernel would take the older content after it. Everything that
// changes a file's content holds it first, and waits for n.mu to do so.
func (r *Root) prefill(f *file) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	r.prefillLocked(f)
}

// prefillLocked is prefill. Holds: n.mu.
func (r *Root) prefillLocked(f *file) {
	length := f.shown.Load()
	if f.refs > 1 || length == 0 || length > prefillMax || f.n.cached.Swap(true) {
		return
	}
	buf := getPages(prefillMax / content.PageSize)
	defer putPages(buf)
	if got, err := f.readAt(buf[:length], 0); err == nil && int64(got) == length {
		if r.conn.Store(f.n.id, buf[:length]) == unix.ENOENT {
			f.n.cached.Store(false) // a walk in the background came before the kernel
		}
	}
}

// Release implements fuse.RawFileSystem: the last close of a handle.
func (r *Root) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	r.touch()
	if h := r.handles.remove(in.Fh); h != nil && h.file != nil {
		r.letGo(h.file)
	}
}

// Fsync implements fuse.RawFileSystem.
func (r *Root) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	r.touch()
	h := r.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return fuse.EBADF
	}
	return status(h.file.fsync(in.FsyncFlags&1 != 0))
}

// FsyncDir implements fuse.RawFileSystem.
func (r *Root) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	r.touch()
	h := r.handles.get(in.Fh)
	if h == nil || h.list == nil {
		return fuse.EBADF
	}
	if r.opts.ReadOnly {
		return fuse.OK
	}
	return status(backing.Sync(h.list.FD()))
}

// nodeToChange begins a request that changes the node: it must be known, and
// the mount writable.
func (r *Root) nodeToChange(id uint64) (*node, fuse.Status) {
	r.touch()
	n := r.node(id)
	switch {
	case n == nil:
		return nil, fuse.Status(unix.ESTALE)
	case r.opts.ReadOnly:
		return nil, fuse.EROFS
	}
	return n, fuse.OK
}

// touch notes that somebody uses the mount.
func (r *Root) touch() {
	if r.opts.IdleUnmount > 0 {
		r.activity.Store(time.Now().UnixNano())
	}
}
