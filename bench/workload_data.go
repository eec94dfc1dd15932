package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// stamp makes every chunk of a file different and tells where it belongs, so
// that a filesystem that returns other data is not measured but refused.
func stamp(chunk []byte, index int) { binary.LittleEndian.PutUint64(chunk, uint64(index)) }

func checkStamp(chunk []byte, index int) error {
	if got := binary.LittleEndian.Uint64(chunk); got != uint64(index) {
		return fmt.Errorf("read back wrong data: chunk %d says it is %d", index, got)
	}
	return nil
}

func newChunk() []byte {
	b := make([]byte, seqChunk)
	r := rand.NewChaCha8([32]byte{})
	if _, err := r.Read(b); err != nil {
		panic(err) // ChaCha8.Read cannot fail
	}
	return b
}

func (j *job) writeChunks(name string, mib int) error {
	err := j.withFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, func(f *os.File) error {
		for i := range mib {
			if err := j.ctx.Err(); err != nil {
				return err
			}
			stamp(j.chunk, i)
			if _, err := f.Write(j.chunk); err != nil {
				return err
			}
		}
		return f.Sync()
	})
	j.have[name] = err == nil
	return err
}

func (j *job) writeSequential() error { return j.writeChunks("seq", j.scale.SeqMiB) }
func (j *job) fillRandom() error      { return j.writeChunks("rand", j.scale.RandMiB) }

func (j *job) readSequential() error {
	return j.withFile("seq", os.O_RDONLY, func(f *os.File) error {
		for i := range j.scale.SeqMiB {
			if err := j.ctx.Err(); err != nil {
				return err
			}
			if _, err := io.ReadFull(f, j.chunk); err != nil {
				return err
			}
			if err := checkStamp(j.chunk, i); err != nil {
				return err
			}
		}
		if n, err := f.Read(j.chunk); n != 0 || err != io.EOF {
			return fmt.Errorf("after the last chunk: %d bytes, %v", n, err)
		}
		return nil
	})
}

// readOnePlace reads the first chunk as often as fills the file twice.
func (j *job) readOnePlace() error {
	return j.withFile("seq", os.O_RDONLY, func(f *os.File) error {
		for range 2 * j.scale.SeqMiB {
			if err := j.ctx.Err(); err != nil {
				return err
			}
			if _, err := f.ReadAt(j.chunk, 0); err != nil {
				return err
			}
			if err := checkStamp(j.chunk, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// randomBlock is the offset of a 4 KiB block that is not the first of its
// chunk, so that random writes leave the stamps alone.
func (j *job) randomBlock() int64 {
	const blocks = seqChunk / randBlock
	chunk, block := j.rng.IntN(j.scale.RandMiB), 1+j.rng.IntN(blocks-1)
	return int64(chunk)*seqChunk + int64(block)*randBlock
}

func (j *job) readRandom() error {
	return j.withFile("rand", os.O_RDONLY, func(f *os.File) error {
		block := j.chunk[:randBlock]
		for range j.scale.RandOps {
			if err := j.ctx.Err(); err != nil {
				return err
			}
			if _, err := f.ReadAt(block, j.randomBlock()); err != nil {
				return err
			}
		}
		return nil
	})
}

func (j *job) writeRandom() error {
	return j.withFile("rand", os.O_RDWR, func(f *os.File) error {
		block := j.chunk[:randBlock]
		for i := range j.scale.RandOps {
			if err := j.ctx.Err(); err != nil {
				return err
			}
			stamp(block, i)
			if _, err := f.WriteAt(block, j.randomBlock()); err != nil {
				return err
			}
		}
		return f.Sync()
	})
}

func (j *job) appendSmall() error {
	line := bytes.Repeat([]byte{'x'}, appendSize)
	err := j.withFile("log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, func(f *os.File) error {
		for range j.scale.Appends {
			if err := j.ctx.Err(); err != nil {
				return err
			}
			if _, err := f.Write(line); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(j.Path("log"))
	if err != nil {
		return err
	}
	if want := int64(j.scale.Appends) * appendSize; info.Size() != want {
		return fmt.Errorf("after the appends the file has %d bytes, want %d", info.Size(), want)
	}
	return nil
}

func (j *job) createSynced() error {
	dir := fmt.Sprintf("synced-%d", j.turn)
	if err := os.Mkdir(j.Path(dir), 0o755); err != nil {
		return err
	}
	return j.createFiles(dir, j.scale.FsyncFiles, (*os.File).Sync)
}

// createFiles makes n files of 4 KiB in dir, a directory of the site.
func (j *job) createFiles(dir string, n int, finish func(*os.File) error) error {
	block := j.chunk[:randBlock]
	for i := range n {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		stamp(block, i)
		err := j.withFile(filepath.Join(dir, fileName(i)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, func(f *os.File) error {
			if _, err := f.Write(block); err != nil {
				return err
			}
			return finish(f)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func fileName(i int) string { return "file-" + strconv.Itoa(i) + ".txt" }
