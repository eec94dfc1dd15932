package fstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// commandLimit bounds every kmsfs command a test runs, so that a command that
// hangs is a failure and not a stuck run. A mount returns much sooner.
const (
	commandLimit = 10 * time.Minute
	mountLimit   = 2 * time.Minute
)

// Volume is an initialised volume with its own key service, mounted unless
// the test asked otherwise.
type Volume struct {
	Cipher string // the ciphertext directory
	Mnt    string // the mountpoint
	State  string // the key service's state directory
	Bin    string // the kmsfs under test

	t         testing.TB
	dir       string
	mountArgs []string
	through   []string
	worker    int // process id while mounted
}

type config struct {
	initArgs, mountArgs []string
	through             []string
	backing, state      string
	unmounted, noInit   bool
}

// Option changes how New makes a volume.
type Option func(*config)

// InitArgs adds flags to kmsfs init.
func InitArgs(args ...string) Option {
	return func(c *config) { c.initArgs = append(c.initArgs, args...) }
}

// MountArgs adds flags to every kmsfs mount of the volume.
func MountArgs(args ...string) Option {
	return func(c *config) { c.mountArgs = append(c.mountArgs, args...) }
}

// Backing keeps the ciphertext directory below dir instead of the scratch
// directory.
func Backing(dir string) Option { return func(c *config) { c.backing = dir } }

// StateOf shares another volume's key service.
func StateOf(v *Volume) Option { return func(c *config) { c.state = v.State } }

// Through runs every kmsfs mount of the volume as the last arguments of
// another program.
func Through(program ...string) Option { return func(c *config) { c.through = program } }

// Unmounted leaves the volume unmounted.
func Unmounted() Option { return func(c *config) { c.unmounted = true } }

// Uninitialised leaves the ciphertext directory empty, and unmounted.
func Uninitialised() Option {
	return func(c *config) { c.noInit, c.unmounted = true, true }
}

// New makes a volume and mounts it. The test's end unmounts it, stops its key
// service and removes both.
func New(t testing.TB, options ...Option) *Volume {
	t.Helper()
	RequireFUSE(t)
	var c config
	for _, o := range options {
		o(&c)
	}
	bin, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := Dir(t)
	if c.backing == "" {
		c.backing = dir
	}
	v := &Volume{
		Cipher: filepath.Join(c.backing, "c"), Mnt: filepath.Join(dir, "m"), State: c.state,
		Bin: bin, t: t, dir: dir, mountArgs: c.mountArgs, through: c.through,
	}
	ownState := v.State == ""
	if ownState {
		v.State = filepath.Join(dir, "s")
	}
	// Every directory a kmsfs might use without being told lies below dir too.
	for _, d := range []string{v.Cipher, v.Mnt, filepath.Join(dir, "home")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		v.cleanup()
		if ownState {
			v.StopKeyService()
		}
	})
	if !c.noInit {
		v.Must(append(append([]string{"init"}, c.initArgs...), v.Cipher)...)
	}
	if !c.unmounted {
		v.Mount()
	}
	return v
}

// Command prepares a kmsfs command on the volume's state directory. Its
// environment points every default elsewhere than at the machine's own state.
func (v *Volume) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, v.Bin, append([]string{"--state-dir", v.State}, args...)...)
	home := filepath.Join(v.dir, "home")
	cmd.Env = append(os.Environ(),
		"HOME="+home, "XDG_STATE_HOME="+home, "XDG_CONFIG_HOME="+home,
		"XDG_RUNTIME_DIR="+home, "XDG_CACHE_HOME="+home,
		// A data race in the worker is a failure of the test, see raceReports.
		"GORACE="+os.Getenv("GORACE")+" log_path="+filepath.Join(v.dir, "race"))
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// Run runs a kmsfs command and returns what it printed and its exit code.
func (v *Volume) Run(args ...string) (stdout, stderr string, exit int) {
	v.t.Helper()
	return v.run(commandLimit, nil, args)
}

func (v *Volume) run(limit time.Duration, through, args []string) (stdout, stderr string, exit int) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := v.Command(ctx, args...)
	if len(through) > 0 {
		cmd.Path, cmd.Args = through[0], append(append([]string{}, through...), cmd.Args...)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		v.t.Fatalf("kmsfs %s: did not end in %v\n%s%s", strings.Join(args, " "), limit, out.String(), errs.String())
	}
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		v.t.Fatalf("kmsfs %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Must runs a kmsfs command that has to succeed and returns its output.
func (v *Volume) Must(args ...string) string {
	v.t.Helper()
	stdout, stderr, exit := v.Run(args...)
	if exit != 0 {
		v.t.Fatalf("kmsfs %s: exit %d\n%s%s", strings.Join(args, " "), exit, stdout, stderr)
	}
	return stdout
}

// Mount mounts the volume, with flags beyond those given to New.
func (v *Volume) Mount(args ...string) {
	v.t.Helper()
	if stderr, exit := v.TryMount(args...); exit != 0 {
		v.t.Fatalf("kmsfs mount: exit %d\n%s", exit, stderr)
	}
}

// TryMount mounts the volume and returns how that ended. A mount that
// succeeds answers before the command returns: nothing here waits for it.
func (v *Volume) TryMount(args ...string) (stderr string, exit int) {
	v.t.Helper()
	all := append([]string{"mount", "--transport", Transport()}, v.mountArgs...)
	all = append(append(all, args...), v.Cipher, v.Mnt)
	_, stderr, exit = v.run(mountLimit, v.through, all)
	if exit != 0 {
		if Mounted(v.Mnt) {
			v.t.Errorf("kmsfs mount failed, and left a mount:\n%s", stderr)
		}
		return stderr, exit
	}
	if !Mounted(v.Mnt) {
		v.t.Fatalf("kmsfs mount returned 0, but nothing is mounted on %s\n%s", v.Mnt, stderr)
	}
	v.worker = v.findWorker()
	return stderr, 0
}

func (v *Volume) findWorker() int {
	v.t.Helper()
	var info struct{ WorkerPid int }
	out := v.Must("info", "--json", v.Mnt)
	if err := json.Unmarshal([]byte(out), &info); err != nil || info.WorkerPid <= 0 {
		v.t.Fatalf("kmsfs info --json: no WorkerPid (%v) in\n%s", err, out)
	}
	return info.WorkerPid
}

// Worker returns the process id of the mount's worker.
func (v *Volume) Worker() int { return v.worker }

// CheckAlive fails the test when the worker died.
func (v *Volume) CheckAlive() {
	v.t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(v.Mnt, &st); err != nil || !Alive(v.worker) {
		v.t.Fatalf("the worker %d died (stat of the mountpoint: %v)", v.worker, err)
	}
}

// Unmount unmounts the volume and waits for its worker to end.
func (v *Volume) Unmount() {
	v.t.Helper()
	if stderr, exit := v.unmount(); exit != 0 {
		v.t.Fatalf("kmsfs unmount: exit %d\n%s", exit, stderr)
	}
	if Mounted(v.Mnt) {
		v.t.Fatalf("%s is still mounted after kmsfs unmount", v.Mnt)
	}
	if err := waitGone(v.worker, time.Minute); err != nil {
		v.t.Fatalf("worker %d after unmount: %v", v.worker, err)
	}
	v.worker = 0
}

// unmount runs kmsfs unmount until the mount is not busy any more: a process
// that another goroutine is just starting holds all of this one's descriptors
// until it executes its program.
func (v *Volume) unmount() (stderr string, exit int) {
	deadline := time.Now().Add(time.Minute)
	for {
		_, stderr, exit = v.Run("unmount", v.Mnt)
		if exit == 0 || !strings.Contains(stderr, "is in use") || time.Now().After(deadline) {
			return stderr, exit
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Remount unmounts and mounts again.
func (v *Volume) Remount() {
	v.t.Helper()
	v.Unmount()
	v.Mount()
}

// Kill ends the worker as a crash would, at once, and removes the dead mount.
func (v *Volume) Kill() {
	v.t.Helper()
	if err := unix.Kill(v.worker, unix.SIGKILL); err != nil {
		v.t.Fatalf("kill worker %d: %v", v.worker, err)
	}
	if err := waitGone(v.worker, time.Minute); err != nil {
		v.t.Fatalf("killed worker %d: %v", v.worker, err)
	}
	v.worker = 0
	if err := v.lazyUnmount(); err != nil {
		v.t.Fatalf("unmount %s after the worker was killed: %v", v.Mnt, err)
	}
}

func (v *Volume) lazyUnmount() error {
	for Mounted(v.Mnt) {
		var err error
		if os.Getuid() == 0 {
			err = unix.Unmount(v.Mnt, unix.MNT_DETACH)
		} else {
			err = exec.Command("fusermount3", "-u", "-z", v.Mnt).Run()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// StopKeyService ends the key service of the volume's state directory.
func (v *Volume) StopKeyService() {
	v.t.Helper()
	for _, p := range processes(v.State) {
		if err := stop(p.pid); err != nil {
			v.t.Errorf("key service %d: %v", p.pid, err)
		}
	}
}

// KeyService returns the process id of the volume's key service, 0 when none
// runs.
func (v *Volume) KeyService() int {
	for _, p := range processes(v.State) {
		if slices.Contains(p.args, "keysvc") {
			return p.pid
		}
	}
	return 0
}

// Fsck checks the unmounted volume, and fails the test when kmsfs finds
// damage.
func (v *Volume) Fsck() {
	v.t.Helper()
	stdout, stderr, exit := v.Run("fsck", v.Cipher)
	if exit != 0 {
		v.t.Fatalf("kmsfs fsck: exit %d\n%s%s", exit, stdout, stderr)
	}
}

func (v *Volume) cleanup() {
	if v.worker != 0 {
		if !Alive(v.worker) {
			v.t.Errorf("the worker %d died during the test", v.worker)
		}
		if stderr, exit := v.unmount(); exit != 0 {
			v.t.Errorf("kmsfs unmount: exit %d\n%s", exit, stderr)
		} else if err := waitGone(v.worker, time.Minute); err != nil {
			v.t.Errorf("worker %d after unmount: %v", v.worker, err)
		}
	}
	if err := v.lazyUnmount(); err != nil {
		v.t.Errorf("unmount %s: %v", v.Mnt, err)
	}
	for _, p := range processes(v.Mnt) {
		if err := stop(p.pid); err != nil {
			v.t.Errorf("worker %d: %v", p.pid, err)
		}
	}
	v.raceReports()
}

// raceReports fails the test with what the race detector of the volume's
// processes wrote.
func (v *Volume) raceReports() {
	reports, _ := filepath.Glob(filepath.Join(v.dir, "race.*"))
	for _, name := range reports {
		text, err := os.ReadFile(name)
		if err != nil {
			v.t.Error(err)
		}
		v.t.Errorf("data race in kmsfs:\n%s", text)
	}
}

// BackingPath finds the ciphertext of a path of the mounted volume: a kmsfs
// file has the inode number of its ciphertext.
func (v *Volume) BackingPath(t testing.TB, rel string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(v.Mnt, rel), &st); err != nil {
		t.Fatalf("lstat %s: %v", rel, err)
	}
	path, err := findInode(v.Cipher, st.Ino)
	if err != nil {
		t.Fatalf("ciphertext of %s: %v", rel, err)
	}
	return path
}

var errFound = errors.New("found")

func findInode(dir string, ino uint64) (string, error) {
	var found string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Ino == ino {
			found = path
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		return found, nil
	}
	if err == nil {
		err = fmt.Errorf("no inode %d below %s", ino, dir)
	}
	return "", err
}
