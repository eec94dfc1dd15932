// Mutate shows whether the tests of a package notice wrong code. It makes one small
// change after the other and runs the tests. A change with which they pass survives, and
// fails the run:
//
//	go build -o bin/mutate ./scripts/mutate
//	bin/mutate keysvc/internal/policy
//	bin/mutate -files authorize.go,access.go -run Authorization keysvc
//
// Changes are: a condition that always or never holds, a comparison or a logical
// operator that is another, a boolean turned round, a number that is one more or less, a
// text with a character more, a statement left out, a result that is the zero value.
// Constants, rune literals, definitions (:=), calls after defer and go, and texts with a
// space, which are for people, stay as they are.
//
// The tests run with -short on one processor each, so that races are not looked for.
// Tests that a change makes run for ever are ended, and have noticed it.
//
// Some changes alter nothing that anyone could see. equivalent.txt names them, with the
// reason. The exit code is 1 if others survive, and 2 if nothing can be said.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

type options struct {
	list  bool
	only  int
	files []string
	run   string
	jobs  int
}

func main() {
	var o options
	flag.BoolVar(&o.list, "list", false, "print the changes and run nothing")
	flag.IntVar(&o.only, "only", 0, "make only the change of this `NUMBER`, and show what the tests say")
	files := flag.String("files", "", "change only these `FILES`, with commas between")
	flag.StringVar(&o.run, "run", "", "run only the tests that match this `REGEXP`")
	flag.IntVar(&o.jobs, "jobs", runtime.NumCPU(), "how many run at a time")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage, in the module's root: mutate [flags] DIRECTORY")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 || o.jobs < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if *files != "" {
		o.files = strings.Split(*files, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ok, err := mutate(ctx, flag.Arg(0), o)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	case !ok:
		os.Exit(1)
	}
}

// mutate reports whether the tests of the package in dir notice every change that they
// can notice.
func mutate(ctx context.Context, dir string, o options) (ok bool, err error) {
	p, err := instrument(dir, o.files)
	if err != nil {
		return false, err
	}
	if o.list {
		for _, m := range p.mutants {
			fmt.Println(m)
		}
		return true, nil
	}
	known, err := equivalents(p)
	if err != nil {
		return false, err
	}
	if o.only < 0 || o.only > len(p.mutants) {
		return false, fmt.Errorf("changes have the numbers 1 to %d", len(p.mutants))
	}
	t, err := buildTests(ctx, p, o.run)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, t.remove()) }()
	if o.only > 0 {
		fmt.Println(p.mutants[o.only-1])
		return true, t.show(ctx, o.only)
	}
	if err := t.measure(ctx); err != nil {
		return false, err
	}
	if err := t.unchanged(ctx, o.jobs); err != nil {
		return false, err
	}
	start := time.Now()
	var count [results]int
	harmless := 0
	ok = true
	err = t.runAll(ctx, p.mutants, o.jobs, func(m mutant, r result) {
		count[r]++
		switch reason := known[m.key()]; {
		case r == survived && reason != "":
			harmless++
		case r == survived:
			fmt.Println("SURVIVED", m)
			ok = false
		case reason != "":
			fmt.Println("NOTICED, though equivalent.txt says that nobody can:", m)
			ok = false
		}
	})
	if err == nil {
		err = t.unchanged(ctx, o.jobs) // what was counted meant something
	}
	fmt.Printf("%s: %d changes; %d noticed, %d of them by a limit; %d survived, of which %d are known to alter nothing; %v\n",
		p.path, len(p.mutants), count[killed]+count[ended], count[ended], count[survived], harmless, time.Since(start).Round(time.Second))
	return ok, err
}
