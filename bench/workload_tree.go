package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
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

// treePath is where this turn's source tree is unpacked.
func (j *job) treePath() string { return j.Path(fmt.Sprintf("tree-%d", j.turn)) }

func (j *job) unpack() error {
	if err := os.Mkdir(j.treePath(), 0o755); err != nil {
		return err
	}
	return j.tool("tar", "-xf", j.tree.archive, "-C", j.treePath())
}

// needTree unpacks the tree, unless an earlier workload has.
func (j *job) needTree() error {
	if _, err := os.Lstat(j.treePath()); err == nil {
		return nil
	}
	return j.unpack()
}

func (j *job) list() error { return j.tool("ls", "-lR", j.treePath()) }

// readTree reads every file as grep -r would: directory by directory, each
// file from its first byte to its last.
func (j *job) readTree() error {
	var files int
	var total int64
	err := filepath.WalkDir(j.treePath(), func(name string, d fs.DirEntry, err error) error {
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

// manyName is what the directory of many files is called after n renames.
func manyName(n int) string { return fmt.Sprintf("many-%d", n) }

func (j *job) fillMany() error {
	dir := manyName(j.renamed)
	if err := os.Mkdir(j.Path(dir), 0o755); err != nil {
		return err
	}
	err := j.createFiles(dir, j.scale.RenameFiles, func(*os.File) error { return nil })
	j.have["many"] = err == nil
	return err
}

func (j *job) renameManyOnce() error {
	err := os.Rename(j.Path(manyName(j.renamed)), j.Path(manyName(j.renamed+1)))
	if err == nil {
		j.renamed++
	}
	return err
}

func (j *job) renameMany() error {
	for range renames {
		if err := j.renameManyOnce(); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) readMany() error {
	for i := range j.scale.RenameFiles {
		n, err := j.readFile(filepath.Join(j.Path(manyName(j.renamed)), fileName(i)))
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

// statPasses is how often each file is looked at in the kernel's cache: once is over too
// soon.
const statPasses = 5

func (j *job) statCached() error {
	for range statPasses {
		if err := j.statMany(unix.AT_STATX_SYNC_AS_STAT); err != nil {
			return err
		}
	}
	return nil
}

// statForced asks for attributes as they are: a network filesystem's, or FUSE's, are not
// taken from the kernel's cache.
func (j *job) statForced() error { return j.statMany(unix.AT_STATX_FORCE_SYNC) }

func (j *job) statMany(sync int) error {
	dir := j.Path(manyName(j.renamed))
	for i := range j.scale.RenameFiles {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		var st unix.Statx_t
		name := filepath.Join(dir, fileName(i))
		if err := unix.Statx(unix.AT_FDCWD, name, sync, unix.STATX_BASIC_STATS, &st); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if st.Size != randBlock {
			return fmt.Errorf("%s has %d bytes, want %d", name, st.Size, randBlock)
		}
	}
	return nil
}
