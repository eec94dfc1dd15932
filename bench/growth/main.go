// Command growth measures whether what an operation costs grows with the size of what
// it works on: a directory of many entries, a tree of many files, a file of many pages.
//
// It prints a table, with the growth of each row, and draws one panel for each
// measurement. Read it from run; what is measured is in subjects.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"

	"kmsfs.dev/kmsfs/bench/systems"
)

type options struct {
	from, to, rounds, ops int
	fs, dir               string
	kmsfs, loopback       string
	svg, markdown         string
}

func main() {
	var o options
	flag.IntVar(&o.from, "from", 100, "the smallest `size`; each is ten times the one before")
	flag.IntVar(&o.to, "to", 1_000_000, "the largest `size`")
	flag.IntVar(&o.rounds, "rounds", 1, "how often everything is measured")
	flag.IntVar(&o.ops, "ops", 1000, "the most operations that one measurement averages")
	flag.StringVar(&o.fs, "fs", "kmsfs,gocryptfs,loopback,native", "filesystems, by `name,...`")
	flag.StringVar(&o.dir, "dir", "/var/tmp", "`directory` on the disk to measure on")
	flag.StringVar(&o.kmsfs, "kmsfs", systems.Beside("kmsfs"), "the kmsfs `program`")
	flag.StringVar(&o.loopback, "loopback", systems.Beside("bench-loopback"), "the loopback `program`")
	flag.StringVar(&o.svg, "svg", "bin/bench-scale.svg", "draw the curves in this `file`")
	flag.StringVar(&o.markdown, "markdown", "", "write the tables to this `file`")
	flag.Parse()
	if flag.NArg() > 0 || o.from < 1 || o.to < o.from || o.rounds < 1 || o.ops < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "bench-scale: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	chosen, err := systems.Named(o.fs, systems.All(o.kmsfs, o.loopback))
	if err != nil {
		return err
	}
	r := &results{values: make(map[key][]float64)}
	for n := o.from; n <= o.to; n *= 10 {
		r.sizes = append(r.sizes, n)
	}
	for _, s := range chosen {
		r.systems = append(r.systems, s.Name)
	}
	lab, err := systems.OpenLab(ctx, o.dir)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(progress, "removing what was made") // millions of files, which takes minutes
		err = errors.Join(err, lab.Close())
	}()
	failed := measureAll(ctx, o, lab, chosen, r, progress)
	if ctx.Err() != nil {
		return failed
	}
	var md bytes.Buffer
	fmt.Fprintf(&md, "%v; %d rounds.\n", lab.Machine, o.rounds)
	r.markdown(&md)
	if _, err := out.Write(md.Bytes()); err != nil {
		return errors.Join(failed, err)
	}
	if o.markdown != "" {
		failed = errors.Join(failed, os.WriteFile(o.markdown, md.Bytes(), 0o644))
	}
	return errors.Join(failed, r.draw(o.svg))
}

// measureAll measures every subject at every size, on each system in turn. All
// that removes many files comes last: ext4 is slow to reuse inodes just deleted.
func measureAll(ctx context.Context, o options, lab *systems.Lab, chosen []systems.System, r *results, progress io.Writer) (err error) {
	sites := make([]*systems.Site, len(chosen))
	for i, sys := range chosen {
		if sites[i], err = lab.Add(ctx, sys); err != nil {
			return err
		}
	}
	missing := make(map[string]bool) // what no room was for
	for _, last := range []bool{false, true} {
		for round := range o.rounds {
			for _, size := range r.sizes {
				for _, sub := range subjects() {
					for _, s := range sites {
						work := sub.measure
						if last {
							work = sub.remove
						}
						if work == nil {
							continue
						}
						j := &job{Site: s, ctx: ctx, size: size, round: round, ops: min(o.ops, size),
							rng: rand.New(rand.NewPCG(uint64(size), uint64(round))), results: r}
						what := fmt.Sprintf("%s of %d on %s, round %d", sub.name, size, s.System.Name, round+1)
						if missing[what] {
							continue
						}
						if !last {
							if err := j.room(int64(size)*sub.bytes, int64(size)*sub.inodes); err != nil {
								fmt.Fprintf(progress, "LEFT OUT: %s: %v\n", what, err)
								missing[what] = true
								continue
							}
						}
						fmt.Fprintln(progress, what)
						if err := work(j); err != nil {
							return fmt.Errorf("%s: %w", what, err)
						}
					}
				}
			}
		}
	}
	return nil
}
