package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// subject is a thing that has a size.
type subject struct {
	name    string
	bytes   int64 // of the disk, for each of its parts, generously
	inodes  int64
	measure func(*job) error
	remove  func(*job) error // what is measured last of all; nil: nothing
}

func subjects() []subject {
	return []subject{
		{"directory", 1 << 10, 2, (*job).directory, (*job).unlink},
		{"tree", 9 << 10, 2, (*job).tree, nil},
		{"file", pageSize + pageSize/8, 0, (*job).file, nil},
	}
}

// directory holds empty files.
func (j *job) directory() error {
	dir := j.top("directory")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	create := func(i int) error {
		f, err := os.OpenFile(entry(dir, i), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	}
	measured := (j.ops + 1) / 2
	before := j.size - measured
	if _, err := j.repeat(before, create); err != nil {
		return err
	}
	return errors.Join(
		j.record("directory: create", measured, func(i int) error { return create(before + i) }),
		j.cold("directory: stat", func(i int) error { _, err := os.Lstat(entry(dir, i)); return err }),
		j.cold("directory: open", func(i int) error {
			f, err := os.Open(entry(dir, i))
			if err != nil {
				return err
			}
			return f.Close()
		}),
		j.list(dir),
		j.memory("memory: directory listed"))
}

// list is ls of the whole directory, after a remount, for each entry.
func (j *job) list(dir string) error {
	if err := j.Remount(); err != nil {
		return err
	}
	took, err := j.repeat(1, func(int) error {
		names, err := os.ReadDir(dir)
		if err == nil && len(names) != j.size {
			err = fmt.Errorf("%d entries listed of %d", len(names), j.size)
		}
		return err
	})
	if err == nil {
		j.keep("directory: ls, per entry", took.Seconds()*1e6/float64(j.size))
	}
	return err
}

func (j *job) unlink() error {
	return j.cold("directory: unlink", func(i int) error { return os.Remove(entry(j.top("directory"), i)) })
}

// perDirectory is how many files of a tree share one.
const perDirectory = 1000

func (j *job) tree() error {
	top := j.top("tree")
	name := func(i int) string { return entry(filepath.Join(top, fmt.Sprint("dir-", i/perDirectory)), i) }
	_, err := j.repeat(j.size, func(i int) error {
		if i%perDirectory == 0 {
			if err := os.MkdirAll(filepath.Dir(name(i)), 0o700); err != nil {
				return err
			}
		}
		return stamped(name(i), i)
	})
	if err != nil {
		return err
	}
	err = j.cold("tree: open and read", func(i int) error {
		b, err := os.ReadFile(name(i))
		if err != nil {
			return err
		}
		return checkStamp(b, i)
	})
	if err != nil {
		return err
	}
	names := []string{top, top + "-renamed"}
	err = j.record("tree: rename its top", j.ops, func(i int) error { return os.Rename(names[i%2], names[1-i%2]) })
	if err != nil {
		return err
	}
	if err := j.Remount(); err != nil {
		return err
	}
	err = filepath.WalkDir(names[j.ops%2], func(_ string, _ fs.DirEntry, err error) error { return errors.Join(err, j.ctx.Err()) })
	return errors.Join(err, j.memory("memory: tree walked"))
}

// file begins each page with its number. It is removed at once: it is large.
func (j *job) file() (err error) {
	f, err := os.OpenFile(j.top("file"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	const many = 256
	buf := make([]byte, 0, many*pageSize)
	for i := 0; i < j.size && err == nil; i += many {
		buf = buf[:min(many, j.size-i)*pageSize]
		for p := range len(buf) / pageSize {
			binary.LittleEndian.PutUint64(buf[p*pageSize:], uint64(i+p))
		}
		_, err = f.Write(buf)
		err = errors.Join(err, j.ctx.Err())
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(j.top("file"))) }()
	page := make([]byte, pageSize)
	err = j.random("file: read 4 KiB", func(f *os.File, i int) error {
		if _, err := f.ReadAt(page, int64(i)*pageSize); err != nil && err != io.EOF {
			return err
		}
		return checkStamp(page, i)
	})
	if err != nil {
		return err
	}
	if err := j.memory("memory: file read"); err != nil {
		return err
	}
	return j.random("file: overwrite 4 KiB", func(f *os.File, i int) error {
		binary.LittleEndian.PutUint64(page, uint64(i))
		_, err := f.WriteAt(page, int64(i)*pageSize)
		return err
	})
}

// random works on pages of the file through one descriptor. Its opening, and an
// fsync after the last operation, count.
func (j *job) random(measure string, op func(*os.File, int) error) error {
	var f *os.File
	done := 0
	err := j.cold(measure, func(i int) (err error) {
		if f == nil {
			if f, err = os.OpenFile(j.top("file"), os.O_RDWR, 0); err != nil {
				return err
			}
		}
		if err := op(f, i); err != nil {
			return err
		}
		if done++; done == j.ops {
			return f.Sync()
		}
		return nil
	})
	if f == nil {
		return err
	}
	return errors.Join(err, f.Close())
}
