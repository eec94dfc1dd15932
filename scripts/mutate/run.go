package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// tests are a package's, with all of its changes in them.
type tests struct {
	dir    string // the package's, which tests run in
	which  string // of them, a regular expression
	tmp    string
	binary string
	limits limits
}

// limits end what a change makes calculate, or collect, for ever.
type limits struct {
	time    time.Duration
	cpu     int // seconds
	dataKiB int // of memory
}

// buildTests builds the tests of p. The package's own files stay as they are.
func buildTests(ctx context.Context, p *program, which string) (_ *tests, err error) {
	tmp, err := os.MkdirTemp("", "mut") // short: unix sockets may lie below
	if err != nil {
		return nil, err
	}
	t := &tests{dir: p.dir, which: which, tmp: tmp, binary: filepath.Join(tmp, "tests"),
		limits: limits{10 * time.Minute, 600, 3 << 20}}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.remove())
		}
	}()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, src := range p.sources {
		changed := filepath.Join(tmp, filepath.Base(path))
		if err := os.WriteFile(changed, src, 0o600); err != nil {
			return nil, err
		}
		overlay.Replace[path] = changed
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, err
	}
	// Changed code is not what vet is for.
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", file, "-o", t.binary, ".")
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the tests of %s: %w\n%s", p.path, err, out)
	}
	return t, os.Chmod(tmp, 0o755) // tests act as other users, too
}

func (t *tests) remove() error { return os.RemoveAll(t.tmp) }

// result is what became of a change.
type result int

const (
	killed   result = iota // the tests noticed it
	survived               // they did not
	ended                  // a limit ended them, which is noticed, too
	results                // how many there are
)

// exits of a shell that has not run what it was to run.
const (
	notExecutable = 126
	notFound      = 127
	noLimits      = 125
)

// command runs the tests with the change of a number, 0 for none, and with a
// directory for temporary files. When ctx is done it ends them and their children.
func (t *tests) command(ctx context.Context, id int, tmp string) *exec.Cmd {
	script := fmt.Sprintf(`ulimit -t %d && ulimit -d %d || exit %d; exec "$@"`, t.limits.cpu, t.limits.dataKiB, noLimits)
	cmd := exec.CommandContext(ctx, "sh", "-c", script, "sh", t.binary, "-test.short", "-test.failfast", "-test.run="+t.which)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), mutantEnv+"="+strconv.Itoa(id), "TMPDIR="+tmp, "GOMAXPROCS=1", "GOMEMLIMIT=1GiB")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// with calls do with a directory that is gone afterwards.
func (t *tests) with(do func(tmp string) error) error {
	tmp, err := os.MkdirTemp(t.tmp, "")
	if err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	return errors.Join(do(tmp), os.RemoveAll(tmp))
}

// measure is an error if the tests fail without any change. It finds what they need, of
// which changed ones get some times more.
func (t *tests) measure(ctx context.Context) error {
	return t.with(func(tmp string) error {
		start := time.Now()
		cmd := t.command(ctx, 0, tmp)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("the tests fail without a change: %w\n%s", err, out)
		}
		cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		t.limits.time = time.Minute + 10*time.Since(start)
		t.limits.cpu = 5 + 3*int(cpu/time.Second)
		return nil
	})
}

// unchanged is an error if the tests fail without any change and under all the
// circumstances in which they run with one.
func (t *tests) unchanged(ctx context.Context, jobs int) error {
	failed := 0
	err := t.runAll(ctx, make([]mutant, jobs), jobs, func(_ mutant, r result) {
		if r != survived {
			failed++
		}
	})
	if err == nil && failed > 0 {
		return fmt.Errorf("the tests fail without a change when %d run at once", jobs)
	}
	return err
}

// show runs the tests with one change and lets them speak.
func (t *tests) show(ctx context.Context, id int) error {
	return t.with(func(tmp string) error {
		cmd := t.command(ctx, id, tmp)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		err := cmd.Run()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return nil // they noticed it
		}
		return err
	})
}

// runAll runs the tests once for each change, and tells one result after the other.
func (t *tests) runAll(ctx context.Context, mutants []mutant, jobs int, tell func(mutant, result)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan mutant)
	var telling sync.Mutex
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			for m := range next {
				r, err := t.run(ctx, m.id)
				if err != nil {
					cancel(err)
					continue
				}
				telling.Lock()
				tell(m, r)
				telling.Unlock()
			}
		})
	}
	for i, m := range mutants {
		if ctx.Err() != nil {
			break
		}
		next <- m
		if (i+1)%100 == 0 {
			fmt.Fprintf(os.Stderr, "%d of %d\n", i+1, len(mutants))
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

func (t *tests) run(ctx context.Context, id int) (r result, err error) {
	err = t.with(func(tmp string) error {
		limited, cancel := context.WithTimeout(ctx, t.limits.time)
		defer cancel()
		err := t.command(limited, id, tmp).Run()
		var exit *exec.ExitError
		switch {
		case err == nil:
			r = survived
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.As(err, &exit):
			return err
		}
		switch exit.ExitCode() {
		case noLimits, notExecutable, notFound:
			return fmt.Errorf("the tests did not run: %w", err)
		case -1: // a signal
			r = ended
		default:
			r = killed
		}
		return nil
	})
	return r, err
}
