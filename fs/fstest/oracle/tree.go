package oracle

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// snapshot describes a whole tree: one line for each name.
func snapshot(root string) (map[string]string, error) {
	lines := map[string]string{}
	first := map[uint64]string{} // inode number to the first name seen
	err := walk(root, "", func(rel string) error {
		path := filepath.Join(root, rel)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("lstat %s: %w", short(rel), err)
		}
		line := statText(&st)
		if rel == "" {
			line = "" // the roots are not the test's to compare
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if other, ok := first[st.Ino]; ok {
				line += " same-as=" + short(other)
			} else {
				first[st.Ino] = rel
			}
		}
		attrs, err := xattrs(path)
		if err != nil {
			return fmt.Errorf("xattrs of %s: %w", short(rel), err)
		}
		line += attrs
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + short(target)
		case unix.S_IFREG:
			sum, err := digest(path, st.Size)
			if err != nil {
				sum = err.Error()
			}
			line += " " + sum
		}
		lines[rel] = line
		return nil
	})
	return lines, err
}

// walk visits every name below root in order, a directory before what it
// holds. A directory that can not be read (only without root) is not entered.
func walk(root, rel string, visit func(rel string) error) error {
	if err := visit(rel); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(root, rel))
	switch {
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EACCES), errors.Is(err, unix.ELOOP):
		return nil
	case err != nil:
		return err
	}
	for _, e := range entries {
		child := e.Name()
		if rel != "" {
			child = rel + "/" + child
		}
		if e.IsDir() {
			err = walk(root, child, visit)
		} else {
			err = visit(child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func xattrs(path string) (string, error) {
	names, err := listxattr(path)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, name := range names {
		buf := make([]byte, 65536)
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil && !errors.Is(err, unix.EACCES) {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&b, " %s=%x", name, buf[:max(n, 0)])
	}
	return b.String(), nil
}

// digest sums a file's content. A long file is read where it has data, and
// only blocks that are not zero count, so that two filesystems with different
// holes agree.
func digest(path string, size int64) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	const long = 8 << 20
	sum := fnv.New64a()
	block := make([]byte, 4096)
	for off := int64(0); off < size; {
		if size > long {
			next, err := unix.Seek(fd, off, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				break
			}
			if err != nil {
				return "", fmt.Errorf("seek data: %w", err)
			}
			off = max(off, next&^4095)
		}
		n, err := f.ReadAt(block[:min(4096, size-off)], off)
		if n == 0 && err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read at %d: %w", off, errors.Unwrap(err))
		}
		if n == 0 {
			return "", fmt.Errorf("end of file at %d of %d", off, size)
		}
		if slices.ContainsFunc(block[:n], func(b byte) bool { return b != 0 }) {
			fmt.Fprintf(sum, "%d:", off)
			sum.Write(block[:n])
		}
		off += int64(n)
	}
	return fmt.Sprintf("%x", sum.Sum64()), nil
}

// compareTrees returns what differs between the trees of two sides.
func compareTrees(subject, reference string) error {
	want, err := snapshot(reference)
	if err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	got, err := snapshot(subject)
	if err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	var diffs []string
	for rel, line := range want {
		if g, ok := got[rel]; !ok {
			diffs = append(diffs, fmt.Sprintf("%s: missing, want %s", short(rel), line))
		} else if g != line {
			diffs = append(diffs, fmt.Sprintf("%s:\n   got %s\n  want %s", short(rel), g, line))
		}
	}
	for rel, line := range got {
		if _, ok := want[rel]; !ok {
			diffs = append(diffs, fmt.Sprintf("%s: should not exist: %s", short(rel), line))
		}
	}
	if len(diffs) == 0 {
		return nil
	}
	sort.Strings(diffs)
	return fmt.Errorf("the trees differ:\n%s", strings.Join(diffs[:min(len(diffs), 10)], "\n"))
}
