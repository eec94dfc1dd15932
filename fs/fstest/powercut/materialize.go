package powercut

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Write makes the state real in an empty directory.
func (s *State) Write(dir string) error {
	return s.writeDir(dir, s.inodes[RootID], map[uint64]string{})
}

func (s *State) writeDir(path string, d *inode, made map[uint64]string) error {
	for _, name := range slices.Sorted(maps.Keys(d.entries)) {
		n := s.inodes[d.entries[name]]
		if n == nil {
			return fmt.Errorf("recording: %s/%s leads to no object", path, name)
		}
		child := filepath.Join(path, name)
		if first, ok := made[n.id]; ok {
			if err := os.Link(first, child); err != nil {
				return err
			}
			continue
		}
		made[n.id] = child
		if err := s.writeNode(child, n, made); err != nil {
			return err
		}
	}
	return d.writeAttributes(path)
}

func (s *State) writeNode(path string, n *inode, made map[uint64]string) error {
	var err error
	switch n.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		return s.writeDir(path, n, made)
	case unix.S_IFLNK:
		err = os.Symlink(n.target, path)
	case unix.S_IFREG:
		err = n.file.write(path)
	default:
		err = unix.Mknod(path, n.mode, int(n.rdev))
	}
	if err != nil {
		return err
	}
	return n.writeAttributes(path)
}

func (n *inode) writeAttributes(path string) error {
	for name, value := range n.xattrs {
		if err := unix.Lsetxattr(path, name, value, 0); err != nil {
			return fmt.Errorf("%s of %s: %w", name, path, err)
		}
	}
	if err := unix.Lchown(path, int(n.uid), int(n.gid)); err != nil {
		return err
	}
	if n.mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	return unix.Chmod(path, n.mode&0o7777)
}

func (f *file) write(path string) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	size := f.sizes[0]
	for _, index := range f.indexes() {
		p := f.pages[index]
		start := index * pageSize
		data := p.versions[p.chosen]
		if data == nil || start >= size {
			continue
		}
		data = data[:min(pageSize, size-start)]
		if len(bytes.TrimLeft(data, "\x00")) == 0 {
			continue // a page of zeros is what a hole reads as
		}
		if _, err := out.WriteAt(data, start); err != nil {
			return err
		}
	}
	if err := out.Truncate(size); err != nil {
		return err
	}
	return out.Close()
}
