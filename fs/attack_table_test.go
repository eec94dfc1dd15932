package fs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Offsets of the file header that attacks aim at (fs/FORMAT.md).
const (
	headerSize    = 512
	headerVersion = 8
	headerAlg     = 9
	headerFlags   = 11
	headerEpoch   = 12
	headerFileID  = 16
	headerKeyLen  = 96
	headerKey     = 136
	cipherPage    = 4096
)

// flip changes one bit of a ciphertext file.
func (s *scene) flip(name string, off int64) {
	s.t.Helper()
	b := s.bytesAt(s.cipher(name), off, 1)
	b[0] ^= 1
	s.patch(s.cipher(name), off, b)
}

// onFile is an attack on the ciphertext of "victim", which must then be
// refused, while "bystander" stays as it was.
func onFile(id, name string, f func(s *scene, victim string)) attack {
	return attack{
		id: id, name: name,
		prepare: func(s *scene) { s.write("victim", "bystander") },
		attack:  func(s *scene) { f(s, s.cipher("victim")) },
		check: func(s *scene) {
			s.unreadable("victim")
			s.intact("bystander")
			// What can not be read can be removed, and its name used again.
			s.must(os.Remove(s.plain("victim")))
			s.write("victim")
			s.intact("victim", "bystander")
		},
	}
}

// flipAt flips a bit of the header.
func flipAt(id, name string, off int64) attack {
	return onFile(id, name, func(s *scene, _ string) { s.flip("victim", off) })
}

func allAttacks() []attack {
	long := func(c string) string { return strings.Repeat(c, 230) }
	list := []attack{
		{
			id: "T1", name: "swap two files",
			prepare: func(s *scene) { s.write("a", "b", "c") },
			attack:  func(s *scene) { s.swap(s.cipher("a"), s.cipher("b")) },
			check:   func(s *scene) { s.unreadable("a", "b"); s.intact("c") },
		},
		{
			id: "T2", name: "move a file to another directory",
			prepare: func(s *scene) { s.write("d1/a", "d2/b") },
			attack: func(s *scene) {
				s.must(os.Rename(s.cipher("d1/a"), filepath.Join(s.cipher("d2"), filepath.Base(s.cipher("d1/a")))))
			},
			check: func(s *scene) {
				s.gone("d1/a", "d2/a")
				s.intact("d2/b")
				s.onlyLists("d2", "b")
			},
		},
		{
			id: "T2", name: "move a file over another in another directory",
			prepare: func(s *scene) { s.write("d1/a", "d2/b", "d2/c") },
			attack:  func(s *scene) { s.must(os.Rename(s.cipher("d1/a"), s.cipher("d2/b"))) },
			check:   func(s *scene) { s.gone("d1/a"); s.unreadable("d2/b"); s.intact("d2/c") },
		},
		{
			id: "T3", name: "swap two directories",
			prepare: func(s *scene) { s.write("d1/f", "d2/f", "other") },
			attack:  func(s *scene) { s.swap(s.cipher("d1"), s.cipher("d2")) },
			check:   func(s *scene) { s.unreadable("d1/f", "d2/f"); s.intact("other") },
		},
		{
			id: "T3", name: "move a directory below another",
			prepare: func(s *scene) { s.write("d1/f", "d2/g") },
			attack: func(s *scene) {
				s.must(os.Rename(s.cipher("d1"), filepath.Join(s.cipher("d2"), filepath.Base(s.cipher("d1")))))
			},
			check: func(s *scene) { s.gone("d1/f", "d2/d1/f"); s.intact("d2/g"); s.onlyLists("d2", "g") },
		},
		{
			id: "T4", name: "copy a file over another",
			prepare: func(s *scene) { s.write("a", "b") },
			attack:  func(s *scene) { s.copyFile(s.cipher("a"), s.cipher("b")) },
			check:   func(s *scene) { s.intact("a"); s.unreadable("b") },
		},
		{
			id: "T4", name: "copy a file under a new name",
			prepare: func(s *scene) { s.write("a") },
			attack: func(s *scene) {
				base := []byte(filepath.Base(s.cipher("a")))
				base[0], base[1], base[2] = 'A', 'B', 'C'
				s.copyFile(s.cipher("a"), filepath.Join(filepath.Dir(s.cipher("a")), string(base)))
			},
			check: func(s *scene) { s.intact("a"); s.onlyLists("", "a") },
		},
		onFile("T5", "header of one file on the body of another", func(s *scene, victim string) {
			s.patch(victim, 0, s.bytesAt(s.cipher("bystander"), 0, headerSize))
		}),
		onFile("T5", "first page of one file on the rest of another", func(s *scene, victim string) {
			s.patch(victim, 0, s.bytesAt(s.cipher("bystander"), 0, cipherPage))
		}),
		onFile("T5", "a page of another file", func(s *scene, victim string) {
			s.patch(victim, cipherPage, s.bytesAt(s.cipher("bystander"), cipherPage, cipherPage))
		}),
		onFile("T6", "wrapped key of another file", func(s *scene, victim string) {
			s.patch(victim, headerKeyLen, s.bytesAt(s.cipher("bystander"), headerKeyLen, 480-headerKeyLen))
		}),
		onFile("T6", "wrapped key and file ID of another file", func(s *scene, victim string) {
			s.patch(victim, headerFileID, s.bytesAt(s.cipher("bystander"), headerFileID, 480-headerFileID))
		}),
		flipAt("T8", "wrapped key", headerKey+20),
		flipAt("T8", "key id in the wrapped key", headerKey+3),
		flipAt("T8", "sealed path", headerKey+100),
		flipAt("T9", "version", headerVersion),
		flipAt("T9", "algorithm", headerAlg),
		flipAt("T9", "geometry", headerAlg+1),
		flipAt("T9", "flags", headerFlags),
		flipAt("T9", "key epoch", headerEpoch),
		flipAt("T9", "magic", 0),
		onFile("T9", "algorithm with both values there are", func(s *scene, victim string) {
			b := s.bytesAt(victim, headerAlg, 1)
			s.patch(victim, headerAlg, []byte{3 - b[0]})
		}),
		onFile("T11", "swap two pages", func(s *scene, victim string) {
			one, two := s.bytesAt(victim, cipherPage, cipherPage), s.bytesAt(victim, 2*cipherPage, cipherPage)
			s.patch(victim, cipherPage, two)
			s.patch(victim, 2*cipherPage, one)
		}),
		onFile("T11", "repeat a page", func(s *scene, victim string) {
			s.patch(victim, 2*cipherPage, s.bytesAt(victim, cipherPage, cipherPage))
		}),
		onFile("T12", "zero a page", func(s *scene, victim string) {
			s.patch(victim, cipherPage, make([]byte, cipherPage))
		}),
		onFile("T12", "zero the body of the first page", func(s *scene, victim string) {
			s.patch(victim, headerSize, make([]byte, cipherPage-headerSize))
		}),
		onFile("T12", "zero the first page", func(s *scene, victim string) {
			s.patch(victim, 0, make([]byte, cipherPage))
		}),
		onFile("T12", "zero the last page", func(s *scene, victim string) {
			s.patch(victim, 3*cipherPage, make([]byte, cipherPage))
		}),
		onFile("T12", "punch a page out", func(s *scene, victim string) {
			f, err := os.OpenFile(victim, os.O_RDWR, 0)
			s.must(err)
			defer f.Close()
			s.must(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, cipherPage, cipherPage))
		}),
		onFile("T12", "one bit of the data", func(s *scene, _ string) { s.flip("victim", 2*cipherPage+17) }),
		onFile("T12", "one bit of the tag", func(s *scene, _ string) { s.flip("victim", 2*cipherPage+4064) }),
		onFile("T12", "one bit of the length mark", func(s *scene, _ string) { s.flip("victim", 2*cipherPage+4080) }),
		onFile("T12", "one bit of the nonce", func(s *scene, _ string) { s.flip("victim", 2*cipherPage+4090) }),
	}
	for _, size := range []int64{0, 1, headerSize, cipherPage - 1, cipherPage, cipherPage + 1, 2 * cipherPage,
		2*cipherPage + 4064, 2*cipherPage + 4080, 3 * cipherPage, 4*cipherPage - 1} {
		list = append(list, onFile("T13", "truncate to "+itoa(size), func(s *scene, victim string) {
			s.must(os.Truncate(victim, size))
		}))
	}
	list = append(list,
		onFile("T13", "extend by a page", func(s *scene, victim string) {
			st, err := os.Stat(victim)
			s.must(err)
			s.must(os.Truncate(victim, st.Size()+cipherPage))
		}),
		attack{
			id: "T14", name: "append the old tail",
			prepare: func(s *scene) {
				s.write("victim")
				s.v.Remount()
				s.saved["old"], _ = os.ReadFile(s.v.BackingPath(s.t, filepath.Join(s.dir, "victim")))
				s.must(os.Truncate(s.plain("victim"), 4064))
			},
			attack: func(s *scene) {
				old := s.saved["old"]
				now, err := os.ReadFile(s.cipher("victim"))
				s.must(err)
				keep := len(now) / cipherPage * cipherPage
				s.must(os.Truncate(s.cipher("victim"), int64(len(old))))
				s.patch(s.cipher("victim"), int64(keep), old[keep:])
			},
			check: func(s *scene) { s.unreadable("victim") },
		},
		attack{
			id: "T17", name: "a directory's record in another",
			prepare: func(s *scene) { s.write("d1/f", "d2/f", "other") },
			attack: func(s *scene) {
				s.relink(filepath.Join(s.cipher("d2"), "kmsfs.dir"), s.readlink(filepath.Join(s.cipher("d1"), "kmsfs.dir")))
			},
			check: func(s *scene) { s.intact("d1/f", "other"); s.unreadable("d2/f") },
		},
		attack{
			id: "T18", name: "other encodings of a name",
			prepare: func(s *scene) { s.write("a", "b", "c", "d") },
			attack: func(s *scene) {
				change := func(name string, f func([]byte) []byte) {
					p := s.cipher(name)
					s.must(os.Rename(p, filepath.Join(filepath.Dir(p), string(f([]byte(filepath.Base(p)))))))
				}
				change("a", func(b []byte) []byte { return append(b, '=') })
				change("b", func(b []byte) []byte { // the unused bits of the last character
					const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
					i := strings.IndexByte(digits, b[len(b)-1])
					b[len(b)-1] = digits[i^1]
					return b
				})
				change("c", func(b []byte) []byte { return append([]byte("\n"), b...) })
				change("d", func(b []byte) []byte { return bytes.ToUpper(b) })
			},
			check: func(s *scene) {
				s.gone("a", "b", "c", "d")
				s.onlyLists("")
			},
		},
		attack{
			id: "T19", name: "a directory without its record",
			prepare: func(s *scene) { s.write("d/f", "other") },
			attack:  func(s *scene) { s.must(os.Remove(filepath.Join(s.cipher("d"), "kmsfs.dir"))) },
			check:   func(s *scene) { s.unreadable("d/f"); s.intact("other") },
		},
		attack{
			id: "T19", name: "an empty file for a directory's record",
			prepare: func(s *scene) { s.write("d/f", "other") },
			attack: func(s *scene) {
				p := filepath.Join(s.cipher("d"), "kmsfs.dir")
				s.must(os.Remove(p))
				s.must(os.WriteFile(p, nil, 0o644))
			},
			check: func(s *scene) { s.unreadable("d/f"); s.intact("other") },
		},
		attack{
			id: "T19", name: "a directory for a directory's record",
			prepare: func(s *scene) { s.write("d/f", "other") },
			attack: func(s *scene) {
				p := filepath.Join(s.cipher("d"), "kmsfs.dir")
				s.must(os.Remove(p))
				s.must(os.Mkdir(p, 0o755))
			},
			check: func(s *scene) { s.unreadable("d/f"); s.intact("other") },
		},
		attack{
			id: "T20", name: "swap the sidecars of two long names",
			prepare: func(s *scene) { s.write(long("a"), long("b"), "c") },
			attack: func(s *scene) {
				s.swap(sidecar(s.cipher(long("a"))), sidecar(s.cipher(long("b"))))
			},
			// Who asks for a name by itself needs no sidecar; a list does.
			check: func(s *scene) { s.intactOrRefused(long("a"), long("b")); s.intact("c"); s.onlyLists("", "c") },
		},
		attack{
			id: "T20", name: "a long name without its sidecar",
			prepare: func(s *scene) { s.write(long("a"), "c") },
			attack:  func(s *scene) { s.must(os.Remove(sidecar(s.cipher(long("a"))))) },
			check:   func(s *scene) { s.intactOrRefused(long("a")); s.intact("c"); s.onlyLists("", "c") },
		},
		attack{
			id: "T20", name: "swap two long names",
			prepare: func(s *scene) { s.write(long("a"), long("b")) },
			attack:  func(s *scene) { s.swap(s.cipher(long("a")), s.cipher(long("b"))) },
			check:   func(s *scene) { s.unreadable(long("a"), long("b")) },
		},
		attack{
			id: "T21", name: "swap two symlinks",
			prepare: symlinks,
			attack:  func(s *scene) { s.swap(s.cipher("l1"), s.cipher("l2")) },
			check:   func(s *scene) { s.noTarget("l1", "l2"); s.target("l3", "target3") },
		},
		attack{
			id: "T21", name: "one symlink's target in another",
			prepare: symlinks,
			attack:  func(s *scene) { s.relink(s.cipher("l1"), s.readlink(s.cipher("l2"))) },
			check:   func(s *scene) { s.noTarget("l1"); s.target("l2", "target2") },
		},
		attack{
			id: "T21", name: "a target in plaintext",
			prepare: symlinks,
			attack:  func(s *scene) { s.relink(s.cipher("l1"), "/etc/passwd") },
			check:   func(s *scene) { s.noTarget("l1"); s.target("l3", "target3") },
		},
		attack{
			id: "T22", name: "swap extended attributes",
			prepare: xattrFiles,
			attack: func(s *scene) {
				a, b := s.rawXattr("a"), s.rawXattr("b")
				s.must(unix.Lsetxattr(s.cipher("a"), "user.kmsfs", b, 0))
				s.must(unix.Lsetxattr(s.cipher("b"), "user.kmsfs", a, 0))
			},
			check: func(s *scene) { s.noXattr("a", "b"); s.xattr("c") },
		},
		attack{
			id: "T22", name: "drop extended attributes",
			prepare: xattrFiles,
			attack:  func(s *scene) { s.must(unix.Lremovexattr(s.cipher("a"), "user.kmsfs")) },
			check:   func(s *scene) { s.noXattr("a"); s.xattr("b") },
		},
		attack{
			id: "T22", name: "damage extended attributes",
			prepare: xattrFiles,
			attack: func(s *scene) {
				b := s.rawXattr("a")
				b[len(b)/2] ^= 1
				s.must(unix.Lsetxattr(s.cipher("a"), "user.kmsfs", b, 0))
				s.must(unix.Lsetxattr(s.cipher("b"), "user.kmsfs", nil, 0))
			},
			check: func(s *scene) { s.noXattr("a", "b"); s.xattr("c") },
		},
		attack{
			id: "T22", name: "add extended attributes",
			prepare: func(s *scene) { s.write("a", "b"); s.setXattr("b") },
			attack: func(s *scene) {
				s.must(unix.Lsetxattr(s.cipher("a"), "user.evil", []byte("evil"), 0))
				s.must(unix.Lsetxattr(s.cipher("a"), "user.kmsfs", s.rawXattr("b"), 0))
			},
			// What nothing promises is as good as not there.
			check: func(s *scene) { s.noForeignXattr("a"); s.xattr("b") },
		},
		attack{
			id: "T24", name: "hard-link one ciphertext over another",
			prepare: func(s *scene) { s.write("a", "b", "c") },
			attack: func(s *scene) {
				s.must(os.Remove(s.cipher("b")))
				s.must(os.Link(s.cipher("a"), s.cipher("b")))
			},
			check: func(s *scene) { s.intact("a", "c"); s.unreadable("b") },
		},
		attack{
			id: "T24", name: "hard-link two linked files together",
			prepare: func(s *scene) {
				s.write("a", "b")
				s.must(os.Link(s.plain("a"), s.plain("a2")))
				s.must(os.Link(s.plain("b"), s.plain("b2")))
			},
			attack: func(s *scene) {
				// The name of each link: learn knows one path of each inode.
				s.must(os.Remove(s.cipher("b")))
				s.must(os.Link(s.cipher("a"), s.cipher("b")))
			},
			check: func(s *scene) {
				for _, name := range []string{"b", "b2"} {
					if b, err := os.ReadFile(s.plain(name)); err == nil && !bytes.Equal(b, content("b", attackSize)) {
						s.t.Errorf("%s reads %q...", name, b[:20])
					}
				}
				for _, name := range []string{"a", "a2"} {
					if b, err := os.ReadFile(s.plain(name)); err != nil || !bytes.Equal(b, content("a", attackSize)) {
						s.t.Errorf("%s: %v", name, err)
					}
				}
			},
		},
	)
	for what, replace := range map[string]func(s *scene, p string) error{
		"FIFO":      func(s *scene, p string) error { return unix.Mkfifo(p, 0o666) },
		"socket":    func(s *scene, p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o666, 0) },
		"device":    func(s *scene, p string) error { return unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		"symlink":   func(s *scene, p string) error { return os.Symlink("/etc/passwd", p) },
		"directory": func(s *scene, p string) error { return os.Mkdir(p, 0o755) },
	} {
		list = append(list, attack{
			id: "T25", name: "a " + what + " for a file",
			prepare: func(s *scene) { s.write("victim", "bystander") },
			attack: func(s *scene) {
				s.must(os.Remove(s.cipher("victim")))
				s.must(replace(s, s.cipher("victim")))
			},
			check: func(s *scene) {
				fd, err := unix.Open(s.plain("victim"), unix.O_RDONLY|unix.O_NONBLOCK, 0)
				if err == nil {
					unix.Close(fd)
					s.t.Errorf("opened a %s for a file", what)
				} else if !refused(err) {
					s.t.Errorf("open: %v, want EIO", err)
				}
				s.intact("bystander")
			},
		}, attack{
			id: "T25", name: "a " + what + " for a directory",
			prepare: func(s *scene) { s.write("d/f", "bystander") },
			attack: func(s *scene) {
				s.must(os.RemoveAll(s.cipher("d")))
				s.must(replace(s, s.cipher("d")))
			},
			check: func(s *scene) {
				if entries, err := os.ReadDir(s.plain("d")); !refused(err) && !errors.Is(err, unix.ENOTDIR) {
					s.t.Errorf("list: %v, %v, want EIO", entries, err)
				}
				s.intact("bystander")
			},
		})
	}
	return append(list, replays()...)
}

func symlinks(s *scene) {
	for _, i := range []string{"1", "2", "3"} {
		s.must(os.Symlink("target"+i, s.plain("l"+i)))
	}
}

func (s *scene) target(name, want string) {
	s.t.Helper()
	if got, err := os.Readlink(s.plain(name)); err != nil || got != want {
		s.t.Errorf("%s -> %q, %v, want %q", name, got, err, want)
	}
}

func (s *scene) noTarget(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if got, err := os.Readlink(s.plain(name)); !refused(err) {
			s.t.Errorf("%s -> %q, %v, want EIO", name, got, err)
		}
	}
}

// xattrFiles makes three files with an extended attribute each.
func xattrFiles(s *scene) {
	s.write("a", "b", "c")
	s.setXattr("a", "b", "c")
}

func (s *scene) setXattr(names ...string) {
	for _, name := range names {
		s.must(unix.Lsetxattr(s.plain(name), "user.name", []byte("of "+name), 0))
	}
}

func (s *scene) rawXattr(name string) []byte {
	s.t.Helper()
	buf := make([]byte, 65536)
	n, err := unix.Lgetxattr(s.cipher(name), "user.kmsfs", buf)
	s.must(err)
	return buf[:n]
}

func (s *scene) xattr(name string) {
	s.t.Helper()
	buf := make([]byte, 100)
	n, err := unix.Lgetxattr(s.plain(name), "user.name", buf)
	if err != nil || string(buf[:n]) != "of "+name {
		s.t.Errorf("xattr of %s: %q, %v", name, buf[:max(n, 0)], err)
	}
}

// noXattr: asking for attributes is refused, and none is listed that nobody
// set.
func (s *scene) noXattr(names ...string) {
	s.t.Helper()
	buf := make([]byte, 1000)
	for _, name := range names {
		if n, err := unix.Lgetxattr(s.plain(name), "user.name", buf); !refused(err) {
			s.t.Errorf("xattr of %s: %q, %v, want EIO", name, buf[:max(n, 0)], err)
		}
		n, err := unix.Llistxattr(s.plain(name), buf)
		if err == nil && bytes.Contains(buf[:n], []byte("evil")) || err != nil && !refused(err) {
			s.t.Errorf("xattrs of %s: %q, %v", name, buf[:max(n, 0)], err)
		}
	}
}

// noForeignXattr: an attribute put on a file that has none is refused, or
// does not show.
func (s *scene) noForeignXattr(name string) {
	s.t.Helper()
	buf := make([]byte, 1000)
	if n, err := unix.Lgetxattr(s.plain(name), "user.name", buf); !refused(err) && err != unix.ENODATA {
		s.t.Errorf("xattr of %s: %q, %v, want EIO or ENODATA", name, buf[:max(n, 0)], err)
	}
	if n, err := unix.Llistxattr(s.plain(name), buf); err == nil && n > 0 || err != nil && !refused(err) {
		s.t.Errorf("xattrs of %s: %q, %v", name, buf[:max(n, 0)], err)
	}
}

// sidecar is where the full name of a long name is.
func sidecar(path string) string {
	return strings.Replace(path, "kmsfs.long.", "kmsfs.name.", 1)
}
