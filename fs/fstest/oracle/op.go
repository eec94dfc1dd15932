// Package oracle compares two directories by doing the same to both. It makes
// a random sequence of filesystem operations from a seed, applies each one to
// the subject (a kmsfs mount) and to the reference (ext4 or tmpfs), and
// compares what the two answered: errors, bytes, attributes, listings, and at
// times the whole trees.
//
// What can not agree is left out: st_blocks and the sizes of directories, the
// granularity of holes (a hole is asked whether it reads as zeros instead), and
// the times that the clock set (they are compared as "now", while a time that
// a program set is compared to the nanosecond). Devices are made, never opened:
// mounts are nodev.
//
// An Op holds all it needs, so that a failing sequence replays, and shrinks,
// without the generator.
package oracle

import (
	"fmt"
	"strings"
)

// Op is one operation with its arguments. Which fields mean something depends
// on the kind.
type Op struct {
	Kind  string
	User  int    // index into Config.Users
	Umask uint32 // the process's umask during the operation
	Check bool   // stat what the operation touched afterwards, and compare

	A, B     string // paths relative to the directory
	H, H2    int    // slots of open files, or of mappings
	Flags    int
	Mode     uint32
	UID, GID int
	Off, Off2,
	Len int64
	Seed  uint64 // what data to write
	Name  string // extended attribute, or symbolic link's target
	Times [2]int64
}

func (o Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s u%d", o.Kind, o.User)
	add := func(format string, args ...any) { fmt.Fprintf(&b, " "+format, args...) }
	if o.Umask != 0o022 {
		add("umask=%03o", o.Umask)
	}
	if o.Check {
		add("check")
	}
	if o.A != "" {
		add("%s", short(o.A))
	}
	if o.B != "" {
		add("-> %s", short(o.B))
	}
	if o.usesHandle() {
		add("h%d", o.H)
	}
	if o.Kind == "copyrange" || o.Kind == "dup" || o.Kind == "mmap" {
		add("-> %d", o.H2)
	}
	if o.Flags != 0 {
		add("flags=%#x", o.Flags)
	}
	if o.Mode != 0 {
		add("mode=%o", o.Mode)
	}
	if o.UID != 0 || o.GID != 0 {
		add("uid=%d gid=%d", o.UID, o.GID)
	}
	if o.Off != 0 || o.Len != 0 || o.Off2 != 0 {
		add("off=%d len=%d off2=%d", o.Off, o.Len, o.Off2)
	}
	if o.Name != "" {
		add("name=%s", short(o.Name))
	}
	if o.Times != [2]int64{} {
		add("times=%v", o.Times)
	}
	return b.String()
}

func (o Op) usesHandle() bool {
	_, onHandle := handleOps[o.Kind]
	return onHandle || o.Kind == "open" || o.Kind == "opendir" || o.Kind == "tmpfile"
}

func short(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%q...(%d bytes)...%q", s[:20], len(s), s[len(s)-12:])
	}
	return fmt.Sprintf("%q", s)
}

// data makes the bytes an operation writes. One run in four is of zeros, which
// filesystems treat in ways of their own.
func data(seed uint64, n int64) []byte {
	b := make([]byte, n)
	if seed%4 == 0 {
		return b
	}
	x := seed*0x9e3779b97f4a7c15 | 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return b
}
