package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest/powercut"
)

// node records what a plain loopback node does.
type node struct {
	fs.LoopbackNode
	rec  *recording
	open map[*fs.LoopbackFile]bool // guarded by rec.mu
}

func newRoot(rec *recording, dir string) (*node, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		return nil, err
	}
	data := &fs.LoopbackRoot{Path: dir, Dev: st.Dev}
	root := &node{LoopbackNode: fs.LoopbackNode{RootData: data}, rec: rec}
	data.RootNode = root
	return root, nil
}

// WrapChild makes what is below a node record as it does.
func (n *node) WrapChild(_ context.Context, _ fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: fs.LoopbackNode{RootData: n.RootData}, rec: n.rec}
}

// id is the object's number in the recording. Guarded by rec.mu.
func (n *node) id() uint64 {
	if n.IsRoot() {
		return powercut.RootID
	}
	return n.rec.ids[n.StableAttr().Ino]
}

func idOf(i *fs.Inode) uint64 { return i.Operations().(*node).id() }

// existing records what is in the directory at the start, durable.
func (r *recording) existing(dir string) error {
	parents := map[string]uint64{dir: powercut.RootID}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		e := powercut.Event{
			Kind: powercut.Create, ID: r.created(st.Ino), Parent: parents[filepath.Dir(p)], Name: d.Name(),
			Mode: st.Mode, UID: st.Uid, GID: st.Gid, Rdev: st.Rdev,
		}
		parents[p] = e.ID
		var content []byte
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			e.Name2, err = os.Readlink(p)
		case unix.S_IFREG:
			content, err = os.ReadFile(p)
		}
		if err != nil {
			return err
		}
		r.add(e)
		if len(content) > 0 {
			r.add(powercut.Event{Kind: powercut.Write, ID: e.ID, Data: content})
		}
		return nil
	})
	r.add(powercut.Event{Kind: powercut.SyncAll, Began: len(r.events)})
	return err
}

func (n *node) made(ch *fs.Inode, name string, out *fuse.EntryOut, target string) {
	n.rec.add(powercut.Event{
		Kind: powercut.Create, ID: n.rec.created(ch.StableAttr().Ino), Parent: n.id(), Name: name,
		Mode: out.Mode, UID: out.Owner.Uid, GID: out.Owner.Gid, Rdev: uint64(out.Rdev), Name2: target,
	})
}

func (n *node) Mknod(ctx context.Context, name string, mode, rdev uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	ch, errno := n.LoopbackNode.Mknod(ctx, name, mode, rdev, out)
	if errno == 0 {
		n.made(ch, name, out, "")
	}
	return ch, errno
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	ch, errno := n.LoopbackNode.Mkdir(ctx, name, mode, out)
	if errno == 0 {
		n.made(ch, name, out, "")
	}
	return ch, errno
}

func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	ch, errno := n.LoopbackNode.Symlink(ctx, target, name, out)
	if errno == 0 {
		n.made(ch, name, out, target)
	}
	return ch, errno
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	_, statErr := os.Lstat(filepath.Join(n.RootData.Path, n.Path(n.Root()), name))
	ch, fh, fuseFlags, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	if statErr != nil {
		n.made(ch, name, out, "")
	}
	return ch, ch.Operations().(*node).opened(fh), fuseFlags, 0
}

// Tmpfile has no name to be lost under, and is left out of the recording's
// world: a filesystem may refuse it.
func (n *node) Tmpfile(context.Context, uint32, uint32, *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	return nil, nil, 0, syscall.EOPNOTSUPP
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	ch, errno := n.LoopbackNode.Link(ctx, target, name, out)
	if errno == 0 {
		n.rec.add(powercut.Event{Kind: powercut.Link, ID: idOf(target.EmbeddedInode()), Parent: n.id(), Name: name})
	}
	return ch, errno
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.remove(name, func() syscall.Errno { return n.LoopbackNode.Unlink(ctx, name) })
}

func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.remove(name, func() syscall.Errno { return n.LoopbackNode.Rmdir(ctx, name) })
}

func (n *node) remove(name string, f func() syscall.Errno) syscall.Errno {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	errno := f()
	if errno == 0 {
		n.rec.add(powercut.Event{Kind: powercut.Unlink, Parent: n.id(), Name: name})
	}
	return errno
}

func (n *node) Rename(ctx context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	errno := n.LoopbackNode.Rename(ctx, name, newParent, newName, flags)
	if errno == 0 {
		n.rec.add(powercut.Event{
			Kind: powercut.Rename, Parent: n.id(), Name: name,
			Parent2: idOf(newParent.EmbeddedInode()), Name2: newName, Flags: flags,
		})
	}
	return errno
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	if flags&unix.O_TRUNC != 0 {
		n.rec.add(powercut.Event{Kind: powercut.Truncate, ID: n.id()})
	}
	fh, fuseFlags, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return n.opened(fh), fuseFlags, 0
}

// opened notes an open file of the node. Holds: rec.mu.
func (n *node) opened(fh fs.FileHandle) fs.FileHandle {
	f := fh.(*fs.LoopbackFile)
	if n.open == nil {
		n.open = map[*fs.LoopbackFile]bool{}
	}
	n.open[f] = true
	return file{f}
}

var _ = (fs.NodeReleaser)((*node)(nil))

func (n *node) Release(ctx context.Context, f fs.FileHandle) syscall.Errno {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	delete(n.open, f.(file).LoopbackFile)
	return f.(file).Release(ctx)
}

// unlinked returns an open file of a node that has no name any more, whose
// attributes nothing else leads to. Holds: rec.mu.
func (n *node) unlinked() fs.FileHandle {
	if _, err := os.Lstat(filepath.Join(n.RootData.Path, n.Path(n.Root()))); err == nil {
		return nil
	}
	for f := range n.open {
		return f
	}
	return nil
}

// file is an open file that the kernel does not write to past the recorder.
type file struct{ *fs.LoopbackFile }

func (file) PassthroughFd() (int, bool) { return -1, false }

func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	if f == nil {
		f = n.unlinked()
	}
	errno := n.LoopbackNode.Setattr(ctx, f, in, out)
	if errno != 0 {
		return errno
	}
	if mode, ok := in.GetMode(); ok {
		n.rec.add(powercut.Event{Kind: powercut.Chmod, ID: n.id(), Mode: mode})
	}
	_, uid := in.GetUID()
	_, gid := in.GetGID()
	if uid || gid {
		n.rec.add(powercut.Event{Kind: powercut.Chown, ID: n.id(), UID: out.Owner.Uid, GID: out.Owner.Gid})
		n.rec.add(powercut.Event{Kind: powercut.Chmod, ID: n.id(), Mode: out.Mode}) // set-id bits go
	}
	if size, ok := in.GetSize(); ok {
		n.rec.add(powercut.Event{Kind: powercut.Truncate, ID: n.id(), Size: int64(size)})
	}
	return 0
}

func (n *node) Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	errno := n.LoopbackNode.Setxattr(ctx, attr, data, flags)
	if errno == 0 {
		n.rec.add(powercut.Event{Kind: powercut.SetXattr, ID: n.id(), Name: attr, Data: append([]byte{}, data...)})
	}
	return errno
}

func (n *node) Removexattr(ctx context.Context, attr string) syscall.Errno {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	errno := n.LoopbackNode.Removexattr(ctx, attr)
	if errno == 0 {
		n.rec.add(powercut.Event{Kind: powercut.DelXattr, ID: n.id(), Name: attr})
	}
	return errno
}

var _ = (fs.NodeWriter)((*node)(nil))

func (n *node) Write(ctx context.Context, f fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	done, errno := f.(fs.FileWriter).Write(ctx, data, off)
	if errno == 0 && done > 0 {
		n.rec.add(powercut.Event{Kind: powercut.Write, ID: n.id(), Off: off, Data: append([]byte{}, data[:done]...)})
	}
	return done, errno
}

// CopyFileRange is refused: the caller then reads and writes, which records.
func (n *node) CopyFileRange(context.Context, fs.FileHandle, uint64, *fs.Inode, fs.FileHandle, uint64, uint64, uint64) (uint32, syscall.Errno) {
	return 0, syscall.EOPNOTSUPP
}

var _ = (fs.NodeAllocater)((*node)(nil))

func (n *node) Allocate(ctx context.Context, f fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	var out fuse.AttrOut
	if errno := f.(fs.FileGetattrer).Getattr(ctx, &out); errno != 0 {
		return errno
	}
	errno := f.(fs.FileAllocater).Allocate(ctx, off, size, mode)
	if errno != 0 {
		return errno
	}
	if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 {
		n.rec.add(powercut.Event{Kind: powercut.Punch, ID: n.id(), Off: int64(off), Size: int64(size)})
	}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 && off+size > out.Size {
		n.rec.add(powercut.Event{Kind: powercut.Grow, ID: n.id(), Size: int64(off + size)})
	}
	return 0
}

// dir is an open directory. The loopback's own would sync the real one.
type dir struct {
	fs.FileReaddirenter
	fs.FileSeekdirer
	fs.FileReleasedirer
	n *node
}

func (d *dir) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	return d.n.Fsync(ctx, nil, flags)
}

func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, fuseFlags, errno := n.LoopbackNode.OpendirHandle(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return &dir{h.(fs.FileReaddirenter), h.(fs.FileSeekdirer), h.(fs.FileReleasedirer), n}, fuseFlags, 0
}

var _ = (fs.NodeFsyncer)((*node)(nil))

// Fsync records the barrier. Nothing is really synced: the recording is the
// only disk that a power cut happens to.
func (n *node) Fsync(_ context.Context, _ fs.FileHandle, flags uint32) syscall.Errno {
	const dataOnly = 1 // FUSE_FSYNC_FDATASYNC
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	e := powercut.Event{Kind: powercut.FileSync, ID: n.id(), Began: len(n.rec.events)}
	if flags&dataOnly != 0 {
		e.Kind = powercut.DataSync
	}
	n.rec.add(e)
	return 0
}
