package fs_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/fs/fstest/oracle"
)

var (
	flagOps  = flag.Int("kmsfs.ops", 0, "operations of the differential test (0: 10,000, or 200,000 with KMSFS_LONG=1)")
	flagSeed = flag.Int64("kmsfs.seed", -1, "seed of a random test (-1: the differential test runs many, others one from the clock)")
	flagKeep = flag.Bool("kmsfs.keep", false, "keep the state of the disk on which the power-cut test failed")
)

// testUsers are who the tests act as beside root: nobody's accounts.
var testUsers = []oracle.User{
	{}, {UID: 61001, GID: 62001, Groups: []int{62002}}, {UID: 61002, GID: 62002},
}

// TestDifferential does the same random operations on a kmsfs mount and on
// the native filesystem below it, by several users, with remounts in between.
// The documented differences are those the package oracle leaves out.
func TestDifferential(t *testing.T) {
	total := *flagOps
	if total == 0 {
		total = 10_000
		if fstest.Long() {
			total = 200_000
		}
	}
	const perSeed = 2500
	shapes := []struct {
		name string
		init []string
	}{
		{name: "path-key"},
		{name: "volume-key", init: []string{"--keys", "volume"}},
		{name: "xchacha", init: []string{"--algorithm", "xchacha20-poly1305"}},
		{name: "opaque", init: []string{"--context", "opaque"}},
	}
	for i, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			fstest.RequireRoot(t)
			v := fstest.New(t, fstest.InitArgs(shape.init...), fstest.MountArgs("--allow-other"))
			reference := filepath.Join(fstest.Dir(t), "r")
			if err := os.Mkdir(reference, 0o755); err != nil {
				t.Fatal(err)
			}
			for seed := int64(i); seed*perSeed < int64(total) || seed <= *flagSeed; seed += int64(len(shapes)) {
				if *flagSeed >= 0 && seed != *flagSeed {
					continue
				}
				t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
					runSeed(t, v, reference, seed, perSeed)
				})
				if t.Failed() {
					break
				}
			}
			v.CheckAlive()
			v.Unmount()
			v.Fsck()
		})
	}
}

func runSeed(t *testing.T, v *fstest.Volume, reference string, seed int64, ops int) {
	err := oracle.Run(oracle.Config{
		Seed: seed, Ops: ops, Subject: v.Mnt, Reference: reference, Users: testUsers,
		Remount:      func() error { v.Remount(); return nil },
		RemountEvery: 800, CompareEvery: 250,
		ShrinkFor: time.Minute, Logf: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
}
