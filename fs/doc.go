// Package fs is the encrypted filesystem: it serves one ciphertext directory
// (a volume) through FUSE.
//
// Start with Create, which makes a volume, and Open, which returns its Root;
// Root.Mount puts it on a mountpoint. fs/FORMAT.md is the specification of
// what lies on disk and says what holds after a crash.
//
// A request's way through the package: internal/fusedev reads it from the
// kernel, go-fuse calls a method of Root for it (lookup.go, create.go,
// rename.go, ...), which finds the node (node.go) and its directory's handle
// (dir.go), or the open file (file.go) and its pages (read.go, write.go). Only
// internal/backing touches the disk; only keys.go talks to the key service, and
// never on read or write.
//
// Vocabulary: a node is what the kernel knows by a node id. Its names are the
// places in the tree where it is found; the stored name is the encrypted one.
// The binding says where an object belongs: parent directory ID, name tag and
// counter. A name record (kmsfs.ln.*) says that an object whose own binding
// says otherwise belongs here all the same, a hard link say. A move record, an
// attribute of the object, covers the time of a rename. The generation tells
// which files a crash may have left unsettled (barrier.go).
//
// Locks, in the order they are taken: node.mu, node.xattrMu, Root.tree, dir.mu,
// fdCache.mu, file.mu, Root.barrier. None but node.mu is ever held across a call
// to the key service.
package fs
