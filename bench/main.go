// Command bench measures kmsfs beside other filesystems on this machine.
//
// It mounts all of them at once, each in a directory of its own on the same
// disk, runs every workload on each in turn, for several rounds, and prints
// medians, and the median of each turn's ratios. Read it from func main to
// bench.round; what is measured is listed in workloads, what is mounted in systems.All.
// It checks what it reads, so that a filesystem that is fast and wrong fails, and it
// leaves no mount, process or file behind however it ends.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"kmsfs.dev/kmsfs/bench/systems"
)

type options struct {
	scale     string
	rounds    int
	systems   string
	workloads string
	dir       string
	kmsfs     string
	loopback  string
	goroot    string
	bases     []string
	jsonFile  string
	markdown  string
}

func main() {
	var o options
	var base string
	flag.StringVar(&o.scale, "scale", "full", "how much each workload does: `full` or small")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each workload runs on each filesystem")
	flag.StringVar(&o.systems, "fs", "native,loopback,gocryptfs,securefs,encfs,cryfs,kmsfs,kmsfs-dev", "filesystems, by `name,...`; kmsfs-volume and kmsfs-uring too")
	flag.StringVar(&o.workloads, "workload", "all", "workloads, by `name,...`")
	flag.StringVar(&o.dir, "dir", "/var/tmp", "`directory` on the disk to measure on")
	flag.StringVar(&o.kmsfs, "kmsfs", systems.Beside("kmsfs"), "the kmsfs `program`")
	flag.StringVar(&o.loopback, "loopback", systems.Beside("bench-loopback"), "the loopback `program`")
	flag.StringVar(&o.goroot, "source", goSources(), "GOROOT whose src and test are the source tree")
	flag.StringVar(&base, "base", "gocryptfs,native", "filesystems that ratios refer to, by `name,...`")
	flag.StringVar(&o.jsonFile, "json", "", "write every measurement to this `file`")
	flag.StringVar(&o.markdown, "markdown", "", "write the tables to this `file`")
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() > 0 || o.rounds < 1 {
		usage()
		os.Exit(2)
	}
	o.bases = strings.Split(base, ",")

	// The first signal ends the run in order; workloads look at the context.
	// A second one has its default effect.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func usage() {
	w := flag.CommandLine.Output()
	fmt.Fprintln(w, "usage: bench [flags]\n\nflags:")
	flag.PrintDefaults()
	fmt.Fprintln(w, "\nworkloads:")
	for _, wl := range workloads() {
		fmt.Fprintf(w, "  %-13s %s\n", wl.name, wl.what)
	}
}

// goSources is where the go command of this machine has its sources, or "".
func goSources() string {
	if dir := systems.FirstLine("go", "env", "GOROOT"); filepath.IsAbs(dir) {
		return dir
	}
	return ""
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	sc, err := findScale(o.scale)
	if err != nil {
		return err
	}
	return runScale(ctx, o, sc, out)
}

func runScale(ctx context.Context, o options, sc scale, out io.Writer) (err error) {
	chosen, err := systems.Named(o.systems, systems.All(o.kmsfs, o.loopback))
	if err != nil {
		return err
	}
	work, err := systems.Choose(o.workloads, workloads(), func(w workload) string { return w.name })
	if err != nil {
		return err
	}
	lab, err := systems.OpenLab(ctx, o.dir)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, lab.Machine)
	if !lab.Uring {
		fmt.Fprintln(out, "  no FUSE over io_uring (see README)")
	}

	b := &bench{scale: sc, workloads: work, progress: out, uring: lab.Uring, samples: make(map[key][]sample), broken: make(map[*site]error)}
	defer func() {
		if b.tree.archive != "" {
			err = errors.Join(err, os.Remove(b.tree.archive))
		}
		err = errors.Join(err, lab.Close())
	}()
	if b.tree, err = packSourceTree(filepath.Join(lab.Dir, "source.tar"), o.goroot, sc.TreeFiles); err != nil {
		return err
	}
	for _, sys := range chosen {
		fmt.Fprintf(out, "  %-13s %s\n", sys.Name, sys.About())
		s, err := lab.Add(ctx, sys)
		if err != nil {
			return err
		}
		b.sites = append(b.sites, &site{Site: s, have: make(map[string]bool)})
	}
	bases := slices.DeleteFunc(slices.Clone(o.bases), func(name string) bool {
		return !slices.ContainsFunc(chosen, func(s systems.System) bool { return s.Name == name })
	})
	for _, last := range []bool{false, true} {
		for i := range o.rounds {
			if err := b.round(ctx, i, last); err != nil {
				return err
			}
		}
	}
	return b.report(out, o, lab.Machine, bases)
}

func (b *bench) report(out io.Writer, o options, m systems.Machine, bases []string) error {
	b.legend(out)
	var md bytes.Buffer
	fmt.Fprintf(&md, "%v; %d rounds.\n", m, o.rounds)
	for _, t := range b.tables(bases) {
		t.text(out)
		t.markdown(&md)
	}
	b.verdicts(out)
	if o.markdown != "" {
		if err := os.WriteFile(o.markdown, md.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if o.jsonFile != "" {
		var js bytes.Buffer
		if err := b.json(&js, m, o.rounds, bases); err != nil {
			return err
		}
		if err := os.WriteFile(o.jsonFile, js.Bytes(), 0o644); err != nil {
			return err
		}
	}
	var failed []error
	for _, f := range b.failures() {
		failed = append(failed, errors.New(f))
	}
	return errors.Join(failed...)
}
