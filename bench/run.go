package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// sample is one measurement.
type sample struct {
	Wall time.Duration
	CPU  time.Duration // of the filesystem's own processes
	RSS  int64         // of the same, in bytes, afterwards
}

// bench runs workloads on sites and keeps what was measured.
type bench struct {
	scale     scale
	tree      sourceTree
	sites     []*site
	uring     bool // FUSE over io_uring is to be had
	workloads []workload
	progress  io.Writer

	samples map[key][]sample
	broken  map[*site]error // the first failure; nothing more is run there
}

type key struct{ workload, system string }

// round runs every workload on every site in turn: neighbours in time are
// what is compared. Workloads that are to be the last have rounds of their own.
func (b *bench) round(ctx context.Context, number int, last bool) error {
	chunk := newChunk()
	for _, w := range b.workloads {
		if w.last != last {
			continue
		}
		turns := max(w.turns, 1)
		for i := range turns {
			if err := b.turn(ctx, w, number, number*turns+i, chunk); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn runs a workload once on every site. Each turn starts with another one, so
// that none is always the one that finds the disk busy.
func (b *bench) turn(ctx context.Context, w workload, round, number int, chunk []byte) error {
	for i := range b.sites {
		s := b.sites[(i+number)%len(b.sites)]
		if b.broken[s] != nil {
			continue
		}
		j := &job{
			site:  s,
			ctx:   ctx,
			turn:  number,
			scale: b.scale,
			tree:  b.tree,
			chunk: chunk,
			rng:   rand.New(rand.NewPCG(uint64(number), 0)),
		}
		got, err := b.once(j, w)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.broken[s] = fmt.Errorf("%s on %s, round %d: %w", w.name, s.System.Name, round+1, err)
			fmt.Fprintf(b.progress, "FAILED: %v\n", b.broken[s])
			continue
		}
		k := key{w.name, s.System.Name}
		b.samples[k] = append(b.samples[k], got)
		fmt.Fprintf(b.progress, "round %d  %-13s %-13s %10s  (cpu %s)\n",
			round+1, w.name, s.System.Name, w.show(b.scale, got.Wall), showTime(got.CPU))
	}
	return nil
}

func (b *bench) once(j *job, w workload) (sample, error) {
	if err := w.prepare(j); err != nil {
		return sample{}, fmt.Errorf("prepare: %w", err)
	}
	before, err := j.Usage()
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	if err := w.measure(j); err != nil {
		return sample{}, err
	}
	wall := time.Since(start)
	// Data that the kernel still holds for the filesystem is this workload's
	// work too, though its caller did not wait for it.
	if err := j.Flush(); err != nil {
		return sample{}, err
	}
	after, err := j.Usage()
	if err != nil {
		return sample{}, err
	}
	got := sample{Wall: wall}
	for pid, p := range after {
		got.CPU += p.CPU - before[pid].CPU
		got.RSS += p.Resident
	}
	return got, nil
}
