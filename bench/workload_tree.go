package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// warmArchive reads the archive, so that unpacking does not wait for it.
func (j *job) warmArchive() error {
	f, err := os.Open(j.tree.archive)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

func (j *job) unpack() error {
	if err := os.Mkdir(j.path("tree"), 0o755); err != nil {
		return err
	}
	err := j.tool("tar", "-xf", j.tree.archive, "-C", j.path("tree"))
	j.have["tree"] = err == nil
	return err
}

func (j *job) list() error { return j.tool("ls", "-lR", j.path("tree")) }

// readTree reads every file as grep -r would: directory by directory, each
// file from its first byte to its last.
func (j *job) readTree() error {
	var files int
	var total int64
	err := filepath.WalkDir(j.path("tree"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n, err := j.readFile(name)
		files++
		total += n
		return err
	})
	if err != nil {
		return err
	}
	if files != j.tree.files || total != j.tree.bytes {
		return fmt.Errorf("read %d files of %d bytes, unpacked were %d of %d", files, total, j.tree.files, j.tree.bytes)
	}
	return nil
}

func (j *job) readFile(name string) (n int64, err error) {
	if err := j.ctx.Err(); err != nil {
		return 0, err
	}
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for {
		m, err := f.Read(j.chunk)
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// The renamed directory has one of these two names, whichever it was renamed to.
var manyNames = [2]string{"many-a", "many-b"}

func (j *job) fillMany() error {
	if err := os.Mkdir(j.path(manyNames[0]), 0o755); err != nil {
		return err
	}
	err := j.createFiles(manyNames[0], j.scale.RenameFiles, func(*os.File) error { return nil })
	j.have["many"] = err == nil
	return err
}

// manyAt tells which name the directory has now.
func (j *job) manyAt() (now, other string, err error) {
	for i, name := range manyNames {
		if _, err := os.Lstat(j.path(name)); err == nil {
			return j.path(name), j.path(manyNames[1-i]), nil
		}
	}
	return "", "", fmt.Errorf("neither %s nor %s is there", manyNames[0], manyNames[1])
}

func (j *job) renameManyOnce() error {
	now, other, err := j.manyAt()
	if err != nil {
		return err
	}
	return os.Rename(now, other)
}

func (j *job) renameMany() error {
	now, other, err := j.manyAt()
	if err != nil {
		return err
	}
	for range renames {
		if err := os.Rename(now, other); err != nil {
			return err
		}
		now, other = other, now
	}
	return nil
}

func (j *job) readMany() error {
	now, _, err := j.manyAt()
	if err != nil {
		return err
	}
	for i := range j.scale.RenameFiles {
		n, err := j.readFile(filepath.Join(now, fileName(i)))
		if err != nil {
			return err
		}
		if n != randBlock {
			return fmt.Errorf("%s has %d bytes, want %d", fileName(i), n, randBlock)
		}
		if err := checkStamp(j.chunk, i); err != nil {
			return err
		}
	}
	return nil
}
