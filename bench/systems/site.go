package systems

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mountTimeout   = 60 * time.Second
	unmountTimeout = 30 * time.Second
)

// Site is one filesystem under test, in a directory of its own.
type Site struct {
	System  System
	dir     string // everything of this site
	storage string // what the filesystem stores in; for native the data itself
	mnt     string // where it is mounted; "" for native
	kin     *family
	daemons map[int]bool    // processes of this filesystem, alive or dead
	cmds    []chan struct{} // closed when a launched command was waited for

	keepCaches bool // dropping the kernel's caches is refused here
}

func newSite(sys System, root string, kin *family, keepCaches bool) (*Site, error) {
	s := &Site{
		System:     sys,
		dir:        filepath.Join(root, sys.Name),
		kin:        kin,
		daemons:    make(map[int]bool),
		keepCaches: keepCaches,
	}
	s.storage = filepath.Join(s.dir, "storage")
	dirs := []string{s.dir, s.storage}
	if sys.mount != nil {
		s.mnt = filepath.Join(s.dir, "mnt")
		dirs = append(dirs, s.mnt)
	}
	for _, d := range dirs {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Data is the directory that the workloads work in.
func (s *Site) Data() string {
	if s.mnt == "" {
		return s.storage
	}
	return s.mnt
}

func (s *Site) Path(name string) string { return filepath.Join(s.Data(), name) }
func (s *Site) logFile() string         { return filepath.Join(s.dir, "log") }

// command runs one of the filesystem's own commands to its end.
func (s *Site) command(ctx context.Context, argv []string) error {
	done, exit, err := s.start(ctx, argv)
	if err != nil {
		return err
	}
	<-done
	return s.failed(argv, *exit)
}

// start launches argv with its output in the site's log. *exit is its result
// once done is closed.
func (s *Site) start(ctx context.Context, argv []string) (done chan struct{}, exit *error, err error) {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	// A process group of its own, so that ^C reaches the benchmark alone and
	// filesystems are still there to be unmounted.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	s.kin.launch(cmd.Process.Pid)
	done, exit = make(chan struct{}), new(error)
	go func() {
		*exit = cmd.Wait()
		s.kin.waited(cmd.Process.Pid)
		close(done)
	}()
	s.cmds = append(s.cmds, done)
	return done, exit, nil
}

func (s *Site) failed(argv []string, err error) error {
	if err == nil {
		return nil
	}
	out, readErr := os.ReadFile(s.logFile())
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
}

// create makes the empty filesystem.
func (s *Site) create(ctx context.Context) error {
	for _, argv := range s.System.create(s) {
		if err := s.command(ctx, argv); err != nil {
			return err
		}
	}
	return s.adopt()
}

// adopt counts descendants that belong to no site yet to this one: only one
// Site is worked on at a time.
func (s *Site) adopt() error {
	members, err := s.kin.members()
	if err != nil {
		return err
	}
	for pid := range members {
		if s.kin.claim(pid) {
			s.daemons[pid] = true
		}
	}
	return nil
}

// mount starts the filesystem and returns when its mountpoint answers.
func (s *Site) mount() error {
	if s.mnt == "" {
		return nil
	}
	argv := s.System.mount(s)
	// Not bound to the run's context: a cancelled run must unmount in order.
	done, exit, err := s.start(context.Background(), argv)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(mountTimeout)
	for !s.mounted() {
		select {
		case <-done:
			if *exit != nil {
				return s.failed(argv, *exit)
			}
			if !s.mounted() && time.Now().After(deadline) {
				return fmt.Errorf("%s exited, but %s is not mounted", argv[0], s.mnt)
			}
			time.Sleep(2 * time.Millisecond)
		case <-time.After(2 * time.Millisecond):
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: not mounted after %v; see %s", strings.Join(argv, " "), mountTimeout, s.logFile())
			}
		}
	}
	return s.adopt()
}

// mounted tells whether another filesystem than the storage's answers at mnt.
func (s *Site) mounted() bool {
	var at, above unix.Stat_t
	return unix.Stat(s.mnt, &at) == nil && unix.Stat(s.dir, &above) == nil && at.Dev != above.Dev
}

// unmount detaches the filesystem and waits for its process: only then is
// everything it held written to its storage.
func (s *Site) unmount() error {
	if s.mnt == "" {
		return nil
	}
	before, err := s.alive()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(unmountTimeout)
	for {
		err := detach(s.mnt, false)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: %w", s.mnt, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if s.System.stays {
		// A helper that serves the next mount too stays; the worker must go.
		return s.awaitFewer(len(before), deadline)
	}
	return s.awaitFewer(1, deadline)
}

// awaitFewer waits until fewer than n of the site's processes live.
func (s *Site) awaitFewer(n int, deadline time.Time) error {
	for {
		alive, err := s.alive()
		if err != nil {
			return err
		}
		if len(alive) < n || len(alive) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: processes %v still run %v after the unmount", s.System.Name, alive, unmountTimeout)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (s *Site) alive() ([]int, error) {
	members, err := s.kin.members()
	if err != nil {
		return nil, err
	}
	var pids []int
	for pid := range s.daemons {
		if _, ok := members[pid]; ok {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// detach unmounts: itself as root, through fusermount3 otherwise.
func detach(mnt string, lazy bool) error {
	if os.Geteuid() == 0 {
		flags := 0
		if lazy {
			flags = unix.MNT_DETACH
		}
		return unix.Unmount(mnt, flags)
	}
	argv := []string{"-u", "-q", mnt}
	if lazy {
		argv = []string{"-u", "-z", "-q", mnt}
	}
	if out, err := exec.Command("fusermount3", argv...).CombinedOutput(); err != nil {
		return fmt.Errorf("fusermount3: %w %s", err, out)
	}
	return nil
}

// destroy leaves nothing behind: whatever state the site is in, its mount,
// processes and files go.
func (s *Site) destroy() error {
	var errs []error
	if s.mnt != "" && attached(s.mnt) {
		if err := s.unmount(); err != nil {
			errs = append(errs, err, detach(s.mnt, true))
		}
	}
	errs = append(errs, s.kill())
	for _, done := range s.cmds {
		<-done
	}
	if s.mnt != "" && attached(s.mnt) {
		return errors.Join(append(errs, fmt.Errorf("%s is still mounted; its files stay", s.mnt))...)
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// attached is mounted for the clean-up: true for a mount whose process died
// too, which answers ENOTCONN.
func attached(mnt string) bool {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return true // unknown: try the unmount
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == mnt {
			return true
		}
	}
	return false
}

// kill ends the site's processes, by force when they do not follow a request.
func (s *Site) kill() error {
	if err := s.adopt(); err != nil {
		return err
	}
	for _, step := range []struct {
		sig  unix.Signal
		wait time.Duration
	}{{unix.SIGTERM, 10 * time.Second}, {unix.SIGKILL, 5 * time.Second}} {
		alive, err := s.alive()
		if err != nil {
			return err
		}
		if len(alive) == 0 {
			return nil
		}
		for _, pid := range alive {
			if err := unix.Kill(pid, step.sig); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("signal process %d of %s: %w", pid, s.System.Name, err)
			}
		}
		if s.awaitFewer(1, time.Now().Add(step.wait)) == nil {
			return nil
		}
	}
	return s.awaitFewer(1, time.Now())
}

// Remount makes the next reads cold: nothing cached by the filesystem, nor,
// where this process may say so, by the kernel for the storage below it.
func (s *Site) Remount() error {
	if err := s.unmount(); err != nil {
		return err
	}
	unix.Sync()
	if err := s.mount(); err != nil {
		return err
	}
	if s.keepCaches {
		return nil
	}
	return dropCaches()
}

func dropCaches() error {
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
