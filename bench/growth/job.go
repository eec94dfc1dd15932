package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/bench/systems"
)

const pageSize = 4096

// job is one subject of one size on one site.
type job struct {
	*systems.Site
	ctx     context.Context
	size    int
	round   int
	ops     int // operations to measure, at most size
	rng     *rand.Rand
	results *results
}

// top is the path of the job's own directory or file.
func (j *job) top(name string) string {
	return j.Path(fmt.Sprintf("%s-%d-%d", name, j.size, j.round))
}

// room tells what the disk lacks for that much more. It keeps 2 GiB free.
func (j *job) room(bytes, inodes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(j.Data(), &st); err != nil {
		return err
	}
	free := int64(st.Bavail)*st.Bsize - 2<<30
	if bytes > free {
		return fmt.Errorf("%d MiB needed, %d MiB may be used", bytes>>20, max(free, 0)>>20)
	}
	if st.Files > 0 && uint64(inodes) > st.Ffree { // 0: it makes them as needed
		return fmt.Errorf("%d inodes needed, %d free", inodes, st.Ffree)
	}
	return nil
}

// repeat does n operations and returns how long they took.
func (j *job) repeat(n int, op func(i int) error) (time.Duration, error) {
	start := time.Now()
	for i := range n {
		if err := j.ctx.Err(); err != nil {
			return 0, err
		}
		if err := op(i); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// record measures n operations, in microseconds for each.
func (j *job) record(measure string, n int, op func(i int) error) error {
	took, err := j.repeat(n, op)
	if err == nil {
		j.keep(measure, took.Seconds()*1e6/float64(n))
	}
	return err
}

// cold is record of operations on different things picked at random, each for
// the first time since a remount.
func (j *job) cold(measure string, op func(i int) error) error {
	if err := j.Remount(); err != nil {
		return err
	}
	picked := j.rng.Perm(j.size)[:j.ops]
	return j.record(measure, j.ops, func(i int) error { return op(picked[i]) })
}

// memory keeps what the filesystem's processes hold now, in MiB.
func (j *job) memory(measure string) error {
	used, err := j.Usage()
	if err != nil {
		return err
	}
	var sum int64
	for _, p := range used {
		sum += p.Resident
	}
	if sum > 0 { // native has no process
		j.keep(measure, float64(sum)/(1<<20))
	}
	return nil
}

func (j *job) keep(measure string, v float64) {
	k := key{measure, j.System.Name, j.size}
	j.results.values[k] = append(j.results.values[k], v)
}

// stamped makes a file of 8 bytes that tell which it is.
func stamped(name string, i int) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(binary.LittleEndian.AppendUint64(nil, uint64(i)))
	return errors.Join(err, f.Close())
}

func checkStamp(b []byte, i int) error {
	if len(b) < 8 || binary.LittleEndian.Uint64(b) != uint64(i) {
		return fmt.Errorf("read back wrong data where %d was written", i)
	}
	return nil
}

func entry(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("file-%d.txt", i)) }
