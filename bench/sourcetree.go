package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// sourceTree is a tar archive of a real source tree: the Go distribution's.
type sourceTree struct {
	archive string
	files   int
	bytes   int64
}

var errEnough = errors.New("enough files")

// packSourceTree archives src and test of a GOROOT, in name order, until the
// archive holds want files. A distribution with fewer files is packed again
// under another name, so that every machine unpacks the same number.
func packSourceTree(archive, goroot string, want int) (t sourceTree, err error) {
	f, err := os.Create(archive)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffered := bufio.NewWriterSize(f, 1<<20)
	w := tar.NewWriter(buffered)
	t.archive = archive
	for copies := 0; t.files < want; copies++ {
		before := t.files
		for _, part := range []string{"src", "test"} {
			err := t.pack(w, filepath.Join(goroot, part), fmt.Sprintf("go%d/%s", copies, part), want)
			if err != nil && !errors.Is(err, errEnough) {
				return t, err
			}
		}
		if t.files == before {
			return t, fmt.Errorf("no source files under %s", goroot)
		}
	}
	if err := w.Close(); err != nil {
		return t, err
	}
	return t, buffered.Flush()
}

func (t *sourceTree) pack(w *tar.Writer, root, prefix string, want int) error {
	// Debian keeps src behind a symbolic link, which WalkDir would not follow.
	root, err := filepath.EvalSymlinks(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // some distributions leave test out
	}
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case t.files >= want:
			return errEnough
		case !d.IsDir() && !d.Type().IsRegular():
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		return t.add(w, name, path.Join(prefix, filepath.ToSlash(rel)), d)
	})
}

func (t *sourceTree) add(w *tar.Writer, from, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: 0o644, ModTime: time.Unix(1_700_000_000, 0), Typeflag: tar.TypeReg, Size: info.Size()}
	if d.IsDir() {
		h.Name, h.Mode, h.Typeflag, h.Size = name+"/", 0o755, tar.TypeDir, 0
		return w.WriteHeader(h)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(w, f)
	t.files++
	t.bytes += n
	return err
}
