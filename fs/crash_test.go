package fs_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/fs/fstest/workload"
)

// TestCrash kills the worker with SIGKILL at random moments of a random
// workload by several writers, mounts again and checks: what was fsynced reads
// back, every rename is whole, nothing else is there, and fsck finds no
// damage. The same volume goes through all the crashes.
func TestCrash(t *testing.T) {
	rounds := 20
	if fstest.Long() {
		rounds = 300
	}
	for _, c := range []struct {
		name string
		init []string
		part int // of the rounds
	}{
		{name: "path-key", part: 3},
		{name: "volume-key", init: []string{"--keys", "volume"}, part: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			if *flagSeed >= 0 {
				seed = uint64(*flagSeed)
			}
			t.Logf("-kmsfs.seed=%d (the moments of the crashes do not repeat)", seed)
			crashRounds(t, fstest.New(t, fstest.InitArgs(c.init...)), rounds*c.part/4, seed)
		})
	}
}

const crashWriters = 3

func crashRounds(t *testing.T, v *fstest.Volume, rounds int, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	writers := make([]*workload.Workload, crashWriters)
	for i := range writers {
		root := filepath.Join(v.Mnt, strconv.Itoa(i))
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		writers[i] = workload.New(root, seed+uint64(i))
	}
	steps := 0
	for round := range rounds {
		// Mostly short: after a crash the first moments are the interesting ones.
		life := time.Duration(rng.Int64N(int64(120 * time.Millisecond)))
		if rng.IntN(4) == 0 {
			life += time.Duration(rng.Int64N(int64(time.Second)))
		}
		workUntilKilled(t, v, writers, life)
		if round%3 == 0 {
			v.Fsck()
		}
		v.Mount()
		for i, w := range writers {
			steps += len(w.Steps) - 1
			o, err := workload.Observe(w.Root)
			if err == nil {
				err = w.Verify(o, w.Crash())
			}
			if err == nil {
				err = w.Restart(o)
			}
			if err != nil {
				t.Fatalf("round %d, writer %d: %v\n%s", round, i, err, w.Log(30))
			}
		}
		// Some rounds end in peace, so that crashes also meet settled files.
		if rng.IntN(3) == 0 {
			v.Remount()
		}
	}
	t.Logf("%d crashes, %d operations", rounds, steps)
	v.CheckAlive()
	v.Unmount()
	v.Fsck()
}

// workUntilKilled lets all writers work for a while, kills the worker, and
// waits for the writers to notice. An error before that is a failure.
func workUntilKilled(t *testing.T, v *fstest.Volume, writers []*workload.Workload, life time.Duration) {
	t.Helper()
	var killed atomic.Bool
	var wg sync.WaitGroup
	for i, w := range writers {
		wg.Go(func() {
			for {
				if err := w.Step(); err != nil {
					if !killed.Load() {
						t.Errorf("writer %d: %v\n%s", i, err, w.Log(10))
					}
					return
				}
			}
		})
	}
	time.Sleep(life)
	killed.Store(true)
	v.Kill()
	wg.Wait()
	for _, w := range writers {
		w.Close()
	}
	if t.Failed() {
		t.FailNow()
	}
}
