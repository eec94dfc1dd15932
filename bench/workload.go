package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/bench/systems"
)

// workload is one thing to measure. prepare brings the site into the state
// that measure starts from and is not timed.
type workload struct {
	name  string
	what  string
	unit  string // what count counts; "" shows the time itself
	count func(scale) int
	// turns in each round, if more than one: it is over soon, and so depends much on
	// the moment. Not for workloads on the source tree, which share one by its turn.
	turns   int
	last    bool // runs when all other workloads have run all their rounds
	goal    goal // what kmsfs has to reach
	prepare func(*job) error
	measure func(*job) error
}

// site is a filesystem under test, and what workloads left on it for others.
type site struct {
	*systems.Site
	have    map[string]bool // files
	renamed int             // how often the directory of many files was
}

// job is one run of a workload on one site.
type job struct {
	*site
	ctx   context.Context
	turn  int // counts the workload's
	scale scale
	tree  sourceTree
	chunk []byte     // seqChunk incompressible bytes
	rng   *rand.Rand // the same offsets on every site in one turn
}

func once(scale) int { return 1 }

func workloads() []workload {
	return []workload{{
		name: "seqwrite", what: "write a new file, 1 MiB at a time, then fsync",
		unit: "MiB/s", count: func(s scale) int { return s.SeqMiB },
		turns:   3,
		goal:    goal{gocryptfs: 2, native: 0.8, loopback: 1},
		prepare: func(j *job) error { return j.remove("seq") },
		measure: (*job).writeSequential,
	}, {
		name: "seqread-cold", what: "read that file after a remount",
		unit: "MiB/s", count: func(s scale) int { return s.SeqMiB },
		goal:    goal{gocryptfs: 2, native: 0.8},
		prepare: steps(need("seq", (*job).writeSequential), cold),
		measure: (*job).readSequential,
	}, {
		name: "seqread-warm", what: "read that file again",
		unit: "MiB/s", count: func(s scale) int { return s.SeqMiB },
		prepare: steps(need("seq", (*job).writeSequential), (*job).readSequential),
		measure: (*job).readSequential,
	}, {
		name: "reread", what: "read 1 MiB of that file again and again, through one descriptor",
		unit: "MiB/s", count: func(s scale) int { return 2 * s.SeqMiB },
		turns:   3,
		goal:    goal{native: 1 / 1.5},
		prepare: steps(need("seq", (*job).writeSequential), (*job).readSequential),
		measure: (*job).readOnePlace,
	}, {
		name: "randread", what: "read 4 KiB at random places of a file, after a remount",
		unit: "ops/s", count: func(s scale) int { return s.RandOps },
		goal:    goal{gocryptfs: 1.3, native: 0.9},
		prepare: steps(need("rand", (*job).fillRandom), cold),
		measure: (*job).readRandom,
	}, {
		name: "randwrite", what: "write 4 KiB at random places of a file, then fsync",
		unit: "ops/s", count: func(s scale) int { return s.RandOps },
		goal:    goal{gocryptfs: 2, native: 0.8, loopback: 1},
		prepare: steps(need("rand", (*job).fillRandom), settle),
		measure: (*job).writeRandom,
	}, {
		name: "append", what: "append 100 bytes, many times, to one open file",
		unit: "ops/s", count: func(s scale) int { return s.Appends },
		goal:    goal{gocryptfs: 2, native: 0.8, loopback: 1},
		prepare: steps(func(j *job) error { return j.remove("log") }, settle),
		measure: (*job).appendSmall,
	}, {
		name: "createfsync", what: "create a file, write 4 KiB, fsync, close, many times",
		unit: "files/s", count: func(s scale) int { return s.FsyncFiles },
		turns:   3,
		goal:    goal{gocryptfs: 1.3, native: 0.9, loopback: 1},
		prepare: settle,
		measure: (*job).createSynced,
	}, {
		name: "untar", what: "unpack a source tree with tar", count: once,
		goal:    goal{gocryptfs: 2, native: 0.8, loopback: 1},
		prepare: steps((*job).warmArchive, settle),
		measure: (*job).unpack,
	}, {
		name: "ls-cold", what: "ls -lR of the source tree after a remount", count: once,
		goal:    goal{gocryptfs: 2, native: 0.8, loopback: 1},
		prepare: steps((*job).needTree, cold),
		measure: (*job).list,
	}, {
		name: "ls-warm", what: "ls -lR of it again", count: once,
		goal:    goal{gocryptfs: 2, native: 0.8, loopback: 1},
		prepare: steps((*job).needTree, (*job).list),
		measure: (*job).list,
	}, {
		name: "stat-warm", what: "stat every file of a directory again and again",
		unit: "ops/s", count: func(s scale) int { return statPasses * s.RenameFiles },
		turns:   3,
		goal:    goal{native: 1 / 1.5},
		prepare: steps(need("many", (*job).fillMany), (*job).statCached),
		measure: (*job).statCached,
	}, {
		name: "readall-cold", what: "read every file of the source tree after a remount", count: once,
		goal:    goal{gocryptfs: 2, native: 0.8, loopback: 1},
		prepare: steps((*job).needTree, cold),
		measure: (*job).readTree,
	}, {
		name: "readall-warm", what: "read every file of it again", count: once,
		goal:    goal{gocryptfs: 2, native: 0.8, loopback: 1},
		prepare: steps((*job).needTree, (*job).readTree),
		measure: (*job).readTree,
	}, {
		name: "renamedir", what: "rename a directory of many files",
		unit: "ops/s", count: func(scale) int { return renames },
		turns:   3,
		goal:    goal{gocryptfs: 0.5},
		prepare: steps(need("many", (*job).fillMany), settle),
		measure: (*job).renameMany,
	}, {
		name: "openrenamed", what: "open and read every file below a directory just renamed",
		unit: "files/s", count: func(s scale) int { return s.RenameFiles },
		turns:   3,
		prepare: steps(need("many", (*job).fillMany), (*job).renameManyOnce),
		measure: (*job).readMany,
	}, {
		name: "stat-forced", what: "ask for the attributes of files that are known, past the kernel's cache",
		unit: "ops/s", count: func(s scale) int { return s.RenameFiles },
		turns:   3,
		goal:    goal{loopback: 1, dev: 1.3},
		prepare: steps(need("many", (*job).fillMany), (*job).statForced),
		measure: (*job).statForced,
	}, {
		name: "reopen", what: "open and read files again that were read just now",
		unit: "files/s", count: func(s scale) int { return s.RenameFiles },
		turns:   3,
		goal:    goal{loopback: 1, dev: 1.3},
		prepare: steps(need("many", (*job).fillMany), (*job).readMany),
		measure: (*job).readMany,
	}, {
		name: "rmtree", what: "rm -r of the source tree", count: once,
		// ext4 looks at every inode deleted in the last minutes before it
		// makes a new one (recently_deleted in fs/ext4/ialloc.c): what creates
		// files would measure what was removed before.
		last:    true,
		goal:    goal{gocryptfs: 2, native: 0.8, loopback: 1},
		prepare: steps((*job).needTree, settle),
		measure: func(j *job) error { return j.tool("rm", "-r", j.treePath()) },
	}}
}

// steps runs one preparation after another.
func steps(all ...func(*job) error) func(*job) error {
	return func(j *job) error {
		for _, step := range all {
			if err := step(j); err != nil {
				return err
			}
		}
		return nil
	}
}

// need makes what a workload works on, unless an earlier one left it.
func need(name string, build func(*job) error) func(*job) error {
	return func(j *job) error {
		if j.have[name] {
			return nil
		}
		return build(j)
	}
}

// cold empties every cache between the workload and the disk.
func cold(j *job) error { return j.Remount() }

// settle writes out what earlier work left dirty, so that it is not paid for
// in this measurement.
func settle(j *job) error {
	unix.Sync()
	return nil
}

// remove is rm -r of one of the site's files, and no error when it is absent.
func (j *job) remove(name string) error {
	delete(j.have, name)
	return j.tool("rm", "-rf", j.Path(name))
}

// tool runs a program of the system on the site's files.
func (j *job) tool(argv ...string) error { return j.Tool(j.ctx, argv...) }

// withFile opens a file of the site, works on it, and closes it: the close
// counts, as filesystems may write there.
func (j *job) withFile(name string, flag int, work func(*os.File) error) error {
	f, err := os.OpenFile(j.Path(name), flag, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(work(f), f.Close())
}
