package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// dirFlags let the kernel keep what a directory lists: names come and go through it only,
// except while a crash's are put back.
const dirFlags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE

// OpenDir implements fuse.RawFileSystem.
func (r *Root) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r.touch()
	n := r.node(in.NodeId)
	if n == nil {
		return fuse.Status(unix.ESTALE)
	}
	d, list, err := r.listDir(n)
	if err != nil {
		return status(err)
	}
	out.Fh = r.handles.add(&handle{node: n, list: list, dir: d})
	if !r.recovering() {
		out.OpenFlags = dirFlags
	}
	return fuse.OK
}

// listDir opens the directory n to be listed. Release d and close list.
func (r *Root) listDir(n *node) (d *dir, list *backing.Lister, err error) {
	r.tree.RLock()
	defer r.tree.RUnlock()
	if d, err = r.acquire(n); err != nil {
		return nil, nil, err
	}
	if list, err = backing.NewLister(d.fd); err != nil {
		r.release1(d)
	}
	return d, list, err
}

// ReleaseDir implements fuse.RawFileSystem.
func (r *Root) ReleaseDir(in *fuse.ReleaseIn) {
	r.touch()
	if h := r.handles.remove(in.Fh); h != nil && h.list != nil {
		h.mu.Lock()
		h.list.Close()
		h.mu.Unlock()
		r.release1(h.dir)
		r.reap(h.node)
	}
}

// ReadDir implements fuse.RawFileSystem. Positions are the backing
// directory's, so that seekdir behaves as it does there.
func (r *Root) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.list(in, func(h *handle, e *backing.Entry, name string, _ *names.Stored) bool {
		return out.AddDirEntry(fuse.DirEntry{Name: name, Ino: e.Ino, Mode: e.Type, Off: uint64(e.Next)})
	})
}

// ReadDirPlus implements fuse.RawFileSystem: each entry comes with its
// attributes, which saves the kernel a LOOKUP.
func (r *Root) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return r.list(in, func(h *handle, e *backing.Entry, name string, stored *names.Stored) bool {
		entry := out.AddDirLookupEntry(fuse.DirEntry{Name: name, Ino: e.Ino, Mode: e.Type, Off: uint64(e.Next)})
		if entry == nil {
			return false
		}
		if stored == nil {
			return true // "." and "..": no node
		}
		// An entry that fails its checks is listed without attributes; the
		// LOOKUP that follows says what is wrong.
		var st unix.Stat_t
		recover, seq, err := r.findEntry(h.node, h.dir, name, stored, &st)
		if err != nil || recover {
			return true
		}
		n := r.enter(h.node, name, *stored, &st, 1, seq)
		if n == nil {
			return true // names are changing; the LOOKUP will see
		}
		r.entryOut(n, &st, entry)
		out.FixMode(st.Mode)
		return true
	})
}

// findEntry is findStored under the tree lock.
func (r *Root) findEntry(parent *node, d *dir, name string, stored *names.Stored, st *unix.Stat_t) (recover bool, seq uint64, err error) {
	r.tree.RLock()
	defer r.tree.RUnlock()
	recover, err = r.findStored(parent, d, name, stored, st)
	return recover, r.seq, err
}

// list feeds the entries from in.Offset on to add until it says that the reply
// is full.
func (r *Root) list(in *fuse.ReadIn, add func(*handle, *backing.Entry, string, *names.Stored) bool) fuse.Status {
	r.touch()
	h := r.handles.get(in.Fh)
	if h == nil || h.list == nil {
		return fuse.EBADF
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if in.Offset != h.pos || in.Offset == 0 {
		if err := h.list.SeekTo(int64(in.Offset)); err != nil {
			return status(err)
		}
		h.pos, h.held = in.Offset, nil
	}
	for {
		e := h.held
		if e == nil {
			next, ok, err := h.list.Next()
			if err != nil {
				return status(err)
			}
			if !ok {
				return fuse.OK
			}
			e = &next
		}
		name, stored, ok := r.plainName(h.dir, e.Name)
		if ok && !add(h, e, name, stored) {
			h.held = e
			return fuse.OK
		}
		h.held, h.pos = nil, uint64(e.Next)
	}
}

// plainName decrypts the name of a directory entry. Entries of the format's
// own are not shown; nor are names that no writer made, which are logged.
// stored is nil for "." and "..".
func (r *Root) plainName(d *dir, entry string) (name string, stored *names.Stored, ok bool) {
	if entry == "." || entry == ".." {
		return entry, nil, true
	}
	if names.IsReserved(entry) {
		return "", nil, false
	}
	stored = &names.Stored{Name: entry}
	var err error
	if names.IsLong(entry) {
		stored.Sidecar = names.SidecarOf(entry)
		if stored.SidecarTarget, err = backing.Readlink(d.fd, stored.Sidecar); err == nil {
			name, stored.Tag, err = r.names.DecryptLong(d.id, entry, stored.SidecarTarget)
		}
	} else {
		name, stored.Tag, err = r.names.Decrypt(d.id, entry)
	}
	if err != nil {
		_ = r.misplaced(d, entry, "name does not decrypt here; not listed", err)
		return "", nil, false
	}
	return name, stored, true
}
