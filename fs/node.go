package fs

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// node is an object the kernel knows by a node id: one per backing inode.
type node struct {
	id   uint64 // FUSE node id; never reused
	ino  uint64 // backing inode number, also the one the kernel shows
	kind uint32 // S_IFMT bits

	// Guarded by Root.tree.
	lookups uint64    // how often the kernel was told of it
	names   []nameRef // where it is; empty once unlinked

	// refs counts the names of other nodes that have this one as parent, and
	// queued work on it. It grows under a shared tree lock, shrinks under an
	// exclusive one.
	refs atomic.Int64

	dir *dir // directories only

	// mu serializes what changes the node as a whole: opening, renaming,
	// linking, extended attributes.
	mu          sync.Mutex
	file        atomic.Pointer[file] // open state of a regular file, or nil; set under mu
	xattrMu     sync.Mutex           // who reads attributes does not wait for mu, and so for the key service
	xattrs      *format.XattrSet     // cached once read; guarded by xattrMu, as is what is stored of them
	checked     atomic.Bool          // after a crash: its size is the right one
	cached      atomic.Bool          // a regular file: the kernel has been given its content
	holeChanges atomic.Int64         // counts what made pages of a regular file absent
	gone        *unix.Stat_t         // what the last name's unlink saw, for a late GETATTR; guarded by Root.tree
	target      string               // a removed symlink's, for a late READLINK; guarded by Root.tree
}

// nameRef is one place of a node in the tree.
type nameRef struct {
	parent *node
	name   string // plaintext
	stored names.Stored
}

func (n *node) isDir() bool     { return n.kind == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.kind == unix.S_IFREG }

// newNode makes the node of a backing object and enters it in the maps.
// The caller holds the tree lock (or is alone).
func (r *Root) newNode(st *unix.Stat_t) *node {
	n := &node{id: r.nextID, ino: st.Ino, kind: st.Mode & unix.S_IFMT}
	r.nextID++
	if n.isDir() {
		n.dir = newDir()
	}
	r.byID[n.id] = n
	r.byIno[n.ino] = n
	return n
}

// node finds what the kernel means by a node id, or nil.
func (r *Root) node(id uint64) *node {
	r.tree.RLock()
	defer r.tree.RUnlock()
	return r.byID[id]
}

// internLocked returns the node of the object that st describes, found at
// parent/name, and counts count lookups of it. Holds: tree.
func (r *Root) internLocked(parent *node, name string, stored names.Stored, st *unix.Stat_t, count uint64) *node {
	n := r.byIno[st.Ino]
	if n != nil && n.kind != st.Mode&unix.S_IFMT {
		// The inode number was reused behind our back: the old node is dead.
		r.detachLocked(n)
		n = nil
	}
	if n == nil {
		n = r.newNode(st)
	}
	n.addNameLocked(parent, name, stored)
	n.lookups += count
	return n
}

// detachLocked takes n out of the inode map and forgets its names, so that it
// answers ESTALE until the kernel forgets it. Holds: tree.
func (r *Root) detachLocked(n *node) {
	if r.byIno[n.ino] == n {
		delete(r.byIno, n.ino)
	}
	for len(n.names) > 0 {
		r.dropNameLocked(n, n.names[0].parent, n.names[0].stored.Name)
	}
}

func (n *node) hasNameLocked(parent *node, stored string) bool {
	for i := range n.names {
		if n.names[i].parent == parent && n.names[i].stored.Name == stored {
			return true
		}
	}
	return false
}

func (n *node) addNameLocked(parent *node, name string, stored names.Stored) {
	if n.hasNameLocked(parent, stored.Name) {
		return
	}
	parent.refs.Add(1)
	n.gone = nil
	n.names = append(n.names, nameRef{parent: parent, name: name, stored: stored})
}

// dropNameLocked forgets one name of n. Holds: tree.
func (r *Root) dropNameLocked(n, parent *node, stored string) {
	for i := range n.names {
		if n.names[i].parent == parent && n.names[i].stored.Name == stored {
			n.names = append(n.names[:i], n.names[i+1:]...)
			parent.refs.Add(-1)
			r.reapLocked(parent)
			return
		}
	}
}

// Forget implements fuse.RawFileSystem.
func (r *Root) Forget(id, count uint64) {
	r.tree.Lock()
	defer r.tree.Unlock()
	n := r.byID[id]
	if n == nil {
		return
	}
	n.lookups -= min(count, n.lookups)
	r.reapLocked(n)
}

// reapLocked drops a node that neither the kernel, nor a child, nor an open
// file refers to. Holds: tree.
func (r *Root) reapLocked(n *node) {
	if n.lookups > 0 || n.refs.Load() > 0 || n == r.root || r.byID[n.id] != n {
		return
	}
	// A file still being released keeps its node: file is set and cleared
	// under mu, which may not be taken here, so ask without waiting.
	if !n.mu.TryLock() {
		return // whoever holds mu calls reap when done
	}
	busy := n.file.Load() != nil
	n.mu.Unlock()
	if busy {
		return
	}
	delete(r.byID, n.id)
	if r.byIno[n.ino] == n {
		delete(r.byIno, n.ino)
	}
	if n.dir != nil {
		r.fds.drop(n.dir)
	}
	for len(n.names) > 0 {
		ref := n.names[len(n.names)-1]
		n.names = n.names[:len(n.names)-1]
		ref.parent.refs.Add(-1)
		r.reapLocked(ref.parent)
	}
}

// reap is reapLocked for those who let go of a node's mu.
func (r *Root) reap(n *node) {
	r.tree.Lock()
	r.reapLocked(n)
	r.tree.Unlock()
}

// pathLocked is the plaintext path of n by its first name, from the volume's
// root, beginning with "/". Holds: tree (shared suffices).
func (n *node) pathLocked() string {
	if len(n.names) == 0 {
		return "/"
	}
	return n.names[0].pathLocked()
}

func (ref *nameRef) pathLocked() string {
	size := 0
	for p := ref; ; p = &p.parent.names[0] {
		size += 1 + len(p.name)
		if len(p.parent.names) == 0 {
			break
		}
	}
	buf := make([]byte, size)
	for p := ref; ; p = &p.parent.names[0] {
		size -= len(p.name)
		copy(buf[size:], p.name)
		size--
		buf[size] = '/'
		if len(p.parent.names) == 0 {
			break
		}
	}
	return string(buf)
}

// childPathLocked is the path of name below the directory n.
func (n *node) childPathLocked(name string) string {
	return (&nameRef{parent: n, name: name}).pathLocked()
}
