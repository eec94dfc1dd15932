package oracle

import (
	"math/rand/v2"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// generator makes operations that often mean something: it knows the names
// that exist in the reference. Everything it chooses comes from its seed.
type generator struct {
	rng   *rand.Rand
	users int
	zero  bool // the reference has FALLOC_FL_ZERO_RANGE
	names []string
	dirs  []string
	files []string
	all   []string
	kinds []string
}

// weights says how often each kind of operation comes.
var weights = map[string]int{
	"open": 60, "opendir": 6, "tmpfile": 6, "close": 18, "dup": 4,
	"read": 15, "pread": 30, "write": 25, "pwrite": 50, "lseek": 8, "seekhole": 14,
	"ftruncate": 18, "truncate": 12, "fsync": 8, "fdatasync": 4, "fallocate": 25, "copyrange": 10,
	"fstat": 15, "fchmod": 4, "fchown": 3, "futimens": 4, "linkfd": 8, "flist": 8,
	"flock": 6, "ofdlock": 6, "fsetxattr": 4,
	"mmap": 12, "mread": 15, "mwrite": 20, "msync": 4, "munmap": 4,
	"mkdir": 25, "rmdir": 10, "unlink": 18, "rmtree": 1, "rename": 45, "link": 18,
	"symlink": 12, "readlink": 6, "mknod": 8, "chmod": 18, "lchown": 12, "utimens": 12,
	"stat": 12, "lstat": 12, "access": 8, "list": 12, "slurp": 15,
	"setxattr": 25, "getxattr": 10, "listxattr": 8, "removexattr": 10,
}

func newGenerator(seed int64, users int, zeroRange bool) *generator {
	g := &generator{rng: rand.New(rand.NewPCG(uint64(seed), 0x6b6d736673)), users: users, zero: zeroRange}
	for _, kind := range sortedKeys(weights) {
		for range weights[kind] {
			g.kinds = append(g.kinds, kind)
		}
	}
	g.names = []string{
		"a", "b", "c", "d", "e", "f", "g", "long name with blanks", "новый", ".hidden", "-rf", "*",
		"\xff\xfe\x01", "new\nline", "kmsfs.conf", "kmsfs.dir", "kmsfs.ln.x",
		// Where the encrypted name outgrows the backing's limit, and the end.
		strings.Repeat("s", 163), strings.Repeat("s", 164), strings.Repeat("l", 165),
		strings.Repeat("n", 254), strings.Repeat("m", 255), strings.Repeat("\xf0", 255),
	}
	return g
}

// learn reads the names that exist.
func (g *generator) learn(root string) {
	g.dirs, g.files, g.all = []string{""}, nil, nil
	_ = walk(root, "", func(rel string) error {
		st, err := os.Lstat(root + "/" + rel)
		switch {
		case err != nil || rel == "":
			return nil
		case st.IsDir():
			g.dirs = append(g.dirs, rel)
		case st.Mode().IsRegular():
			g.files = append(g.files, rel)
		}
		g.all = append(g.all, rel)
		return nil
	})
}

func (g *generator) chance(percent int) bool { return g.rng.IntN(100) < percent }

func pick[T any](g *generator, from []T) T { return from[g.rng.IntN(len(from))] }

// fresh is a name in an existing directory, which may exist. Deep directories
// are rarer, so that paths end.
func (g *generator) fresh() string {
	dir := pick(g, g.dirs)
	if strings.Count(dir, "/") > 6 || len(dir) > 1200 {
		dir = ""
	}
	name := pick(g, g.names)
	if g.chance(60) {
		name = pick(g, g.names[:7])
	}
	return path.Join(dir, name)
}

// strange is a path on which most operations fail.
func (g *generator) strange() string {
	switch g.rng.IntN(7) {
	case 0:
		return strings.Repeat("x", 256)
	case 1:
		return path.Join(g.fresh(), "nowhere", "x")
	case 2:
		return g.fresh() + "/"
	case 3:
		return g.fresh() + "/."
	case 4:
		if len(g.files) > 0 {
			return pick(g, g.files) + "/below"
		}
	case 5:
		return g.fresh() + "/.."
	}
	return strings.Repeat("d/", 2100) + "x" // longer than PATH_MAX
}

func (g *generator) from(known []string) string {
	switch {
	case g.chance(3):
		return g.strange()
	case len(known) == 0 || g.chance(20):
		return g.fresh()
	}
	return pick(g, known)
}

func (g *generator) file() string {
	if g.chance(85) {
		return g.from(g.files)
	}
	return g.from(g.all)
}

func (g *generator) any() string { return g.from(g.all) }

func (g *generator) dir() string {
	if g.chance(90) && len(g.dirs) > 1 {
		return g.from(g.dirs[1:])
	}
	return g.any()
}

// offset favours the borders of pages, of the kernel and of the ciphertext.
func (g *generator) offset() int64 {
	var off int64
	switch k := int64(g.rng.IntN(40)); g.rng.IntN(8) {
	case 0:
		off = 0
	case 1:
		off = k * 4096
	case 2:
		off = 3552 + k*4064
	case 3:
		off = 3540 + k*4052
	case 4:
		off = int64(g.rng.IntN(300_000))
	case 5:
		off = int64(g.rng.IntN(6000))
	case 6:
		off = int64(g.rng.IntN(50))
	default:
		off = k * 512
	}
	if g.chance(1) && g.chance(20) {
		off += pick(g, []int64{1 << 32, 1 << 33, 1 << 40})
	}
	if g.chance(40) {
		off += int64(g.rng.IntN(5)) - 2
	}
	return max(off, 0)
}

func (g *generator) length() int64 {
	n := pick(g, []int64{0, 1, 1, 10, 100, 100, 512, 1000, 3552, 4064, 4064, 4096, 4096, 8192, 8128, 16384, 60000, 140000})
	if g.chance(40) {
		n += int64(g.rng.IntN(5)) - 2
	}
	return max(n, 0)
}

func (g *generator) mode() uint32 {
	return pick(g, []uint32{0o644, 0o644, 0o666, 0o777, 0o600, 0o755, 0o755, 0o700, 0o444, 0o400, 0o000, 0o222,
		0o1777, 0o2775, 0o2755, 0o4755, 0o6711, 0o2644, 0o7777})
}

func (g *generator) id(ids ...int) int { return pick(g, ids) }

func (g *generator) times() [2]int64 {
	one := func() int64 {
		switch g.rng.IntN(6) {
		case 0:
			return timeNow
		case 1:
			return timeOmit
		case 2:
			return pick(g, []int64{0, 1, 999_999_999, 1_000_000_000})
		}
		return g.rng.Int64N((eraEnd - 1) * 1_000_000_000)
	}
	return [2]int64{one(), one()}
}

var xattrNames = []string{
	"user.a", "user.b", "user.c", "user." + strings.Repeat("n", 200), "user.bytes\xff\x01",
	"trusted.t", "security.kmsfs", "system.posix_acl_access", "system.posix_acl_access",
	"system.posix_acl_default", "system.nothing", "nothing.a", "user.",
}

// next makes the next operation.
func (g *generator) next() Op {
	o := Op{
		Kind: pick(g, g.kinds), Umask: 0o022, Check: g.chance(50),
		H: g.rng.IntN(handleSlots), H2: g.rng.IntN(handleSlots), Seed: g.rng.Uint64(),
	}
	if g.users > 1 && g.chance(35) {
		o.User = 1 + g.rng.IntN(g.users-1)
	}
	if g.chance(15) {
		o.Umask = pick(g, []uint32{0, 0o077, 0o027, 0o777})
	}
	if len(g.all) > 150 && g.chance(30) {
		o.Kind = pick(g, []string{"unlink", "rmdir", "rmtree"})
	}
	switch o.Kind {
	case "open":
		o.A, o.Mode = g.file(), g.mode()
		o.Flags = pick(g, []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR, unix.O_RDWR})
		for _, f := range []struct{ flag, percent int }{
			{unix.O_CREAT, 50}, {unix.O_EXCL, 12}, {unix.O_TRUNC, 15}, {unix.O_APPEND, 15},
			{unix.O_NOFOLLOW, 8}, {unix.O_SYNC, 4}, {unix.O_DSYNC, 4}, {unix.O_DIRECTORY, 2},
		} {
			if g.chance(f.percent) {
				o.Flags |= f.flag
			}
		}
	case "opendir":
		o.A, o.Flags = g.dir(), unix.O_RDONLY|unix.O_DIRECTORY
	case "tmpfile":
		o.A, o.Mode = g.dir(), g.mode()
		o.Flags = unix.O_TMPFILE | pick(g, []int{unix.O_RDWR, unix.O_RDWR, unix.O_WRONLY, unix.O_RDWR | unix.O_EXCL})
	case "read", "pread", "write", "pwrite":
		o.Off, o.Len = g.offset(), g.length()
	case "lseek":
		o.Off, o.Flags = g.offset(), g.rng.IntN(3)
		if g.chance(20) {
			o.Off = -o.Off
		}
	case "seekhole":
		o.Off, o.Flags = g.offset(), pick(g, []int{unix.SEEK_DATA, unix.SEEK_HOLE})
	case "ftruncate":
		o.Off = g.offset()
	case "truncate":
		o.A, o.Off = g.file(), g.offset()
	case "fallocate":
		o.Off, o.Len = g.offset(), g.length()
		o.Flags = pick(g, []int{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
			unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE,
			unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE})
		if o.Flags&unix.FALLOC_FL_ZERO_RANGE != 0 && !g.zero {
			o.Flags = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		}
		if g.chance(30) {
			o.Off, o.Len = o.Off&^4095, (o.Len+4095)&^4095
		}
	case "copyrange":
		o.Off, o.Off2, o.Len = g.offset(), g.offset(), g.length()
	case "fchmod":
		o.Mode = g.mode()
	case "fchown", "lchown":
		o.UID, o.GID = g.id(-1, 0, 61001, 61002), g.id(-1, 0, 62001, 62002, 61001)
		if o.UID == -1 && o.GID == -1 {
			o.GID = 62001 // a chown of nothing never reaches a FUSE filesystem
		}
		if o.Kind == "lchown" {
			o.A = g.any()
		}
	case "futimens":
		o.Times = g.times()
	case "utimens":
		o.A, o.Times = g.any(), g.times()
	case "linkfd":
		o.A = g.fresh()
	case "flock":
		o.Flags = pick(g, []int{unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN})
	case "ofdlock":
		o.Flags, o.Off, o.Len, o.Mode = g.rng.IntN(3), int64(g.rng.IntN(4)), int64(g.rng.IntN(4)), uint32(g.rng.IntN(2))
	case "mmap":
		o.Off, o.Len = int64(g.rng.IntN(12))*4096, max(g.length(), 1)
		o.Mode = pick(g, []uint32{unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE, unix.PROT_READ | unix.PROT_WRITE})
	case "mread", "mwrite":
		o.Off, o.Len = int64(g.rng.IntN(9000)), g.length()
		o.User = 0
	case "mkdir":
		o.A, o.Mode = g.fresh(), g.mode()
		if g.chance(5) {
			o.A = g.strange()
		}
	case "rmdir", "list":
		o.A = g.dir()
	case "unlink", "chmod", "stat", "lstat", "readlink":
		o.A = g.any()
		if o.Kind == "chmod" {
			o.Mode = g.mode()
		}
	case "slurp":
		o.A = g.file()
	case "rmtree":
		if len(g.dirs) > 1 {
			o.A = pick(g, g.dirs[1:])
		} else {
			o.A = "nothing"
		}
	case "rename":
		o.A, o.B = g.any(), g.fresh()
		if g.chance(40) {
			o.B = g.any()
		}
		o.Flags = pick(g, []int{0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE,
			unix.RENAME_EXCHANGE, unix.RENAME_EXCHANGE | unix.RENAME_NOREPLACE})
		if g.chance(70) {
			o.Flags &= unix.RENAME_EXCHANGE
		}
	case "link":
		o.A, o.B = g.any(), g.fresh()
		if g.chance(10) {
			o.B = g.any()
		}
	case "symlink":
		o.A = g.fresh()
		o.Name = pick(g, []string{"a", "b", "a/b", "nowhere", "", strings.Repeat("t", 1000), "\xffbytes", path.Base(g.any())})
		if strings.HasPrefix(o.Name, "..") {
			o.Name = "a" // never out of the directory
		}
	case "mknod":
		o.A = g.fresh()
		o.Mode = g.mode()&0o777 | pick(g, []uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFREG})
		if t := o.Mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
			// Majors above 511 belong to no driver: nobody opens a real device.
			o.Off = int64(unix.Mkdev(600+uint32(g.rng.IntN(3000)), uint32(g.rng.IntN(1000))))
		}
	case "access":
		o.A, o.Mode = g.any(), uint32(g.rng.IntN(8))
	case "setxattr", "getxattr", "removexattr", "fsetxattr":
		if o.Kind != "fsetxattr" {
			o.A = g.any()
			o.Name = pick(g, xattrNames)
		} else {
			o.Name = pick(g, xattrNames[:7])
		}
		o.Len = int64(g.rng.IntN(200))
		if o.Kind == "getxattr" && g.chance(60) {
			o.Len = 4096
		}
		if strings.Contains(o.Kind, "set") {
			o.Flags = pick(g, []int{0, 0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE})
		}
	case "listxattr":
		o.A = g.any()
	}
	return o
}
