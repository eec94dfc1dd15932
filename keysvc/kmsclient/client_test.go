package kmsclient

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// TestMain lets this test binary be the service that a client starts: it takes
// the command line that autostart makes.
func TestMain(m *testing.M) {
	for _, arg := range os.Args {
		if arg == "keysvc" {
			if err := serve(os.Args[1:]); err != nil {
				fmt.Fprintln(os.Stderr, "kmsfs:", err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

func serve(args []string) error {
	set := flag.NewFlagSet("kmsfs", flag.ContinueOnError)
	state := set.String("state-dir", "", "")
	socket := set.String("socket", "", "")
	idle := set.Duration("idle-timeout", time.Minute, "")
	set.Bool("auto", false, "")
	for len(args) > 0 {
		if err := set.Parse(args); err != nil {
			return err
		}
		if args = set.Args(); len(args) > 0 {
			args = args[1:] // keysvc, serve
		}
	}
	if os.Getenv("KMSFS_TEST_FAIL") != "" {
		return errors.New("no key service today")
	}
	// One line for each start that got as far as wanting the lock.
	f, err := os.OpenFile(filepath.Join(*state, "starts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	fmt.Fprintln(f, os.Getpid())
	if err := f.Close(); err != nil {
		return err
	}
	svc, err := keysvc.Open(keysvc.Options{Dir: filepath.Join(*state, "keysvc"), DefaultRootKeyFile: filepath.Join(*state, "root.key")})
	if err != nil {
		return err
	}
	l, err := keysvc.Listen(*socket)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err = keysvc.NewServer(svc, keysvc.ServerOptions{IdleTimeout: *idle, StateDir: *state}).Serve(ctx, l)
	return errors.Join(err, svc.Close())
}

// stateDir is short, for the socket, and ends with no service on it.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kmsfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range starts(t, dir) {
			// It may have left by itself; wait until it has.
			_ = syscall.Kill(pid, syscall.SIGTERM)
			waitGone(t, pid)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func starts(t *testing.T, dir string) (pids []int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "starts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, line := range strings.Fields(string(b)) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// waitGone waits for the end of a child that autostart's goroutine reaps.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
	}
	t.Errorf("process %d does not end", pid)
}

func connect(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAutostart(t *testing.T) {
	dir := stateDir(t)
	if _, err := Connect(t.Context(), Options{StateDir: dir}); err == nil || !strings.Contains(err.Error(), "kmsfs keysvc serve") {
		t.Errorf("without Autostart: %v", err)
	}
	c := connect(t, Options{StateDir: dir, Autostart: true})
	key, err := c.CreateKey(t.Context(), &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Socket(); got != filepath.Join(dir, "keysvc.sock") {
		t.Errorf("the socket is %s", got)
	}
	// A second client shares the service.
	d := connect(t, Options{StateDir: dir, Autostart: true})
	if m, err := d.DescribeKey(t.Context(), key.KeyMetadata.KeyID); err != nil || m.Arn != key.KeyMetadata.Arn {
		t.Errorf("the other client: %v", err)
	}
	if n := len(starts(t, dir)); n != 1 {
		t.Errorf("%d services were started", n)
	}
	// It is a session of its own, away from our directory and terminal.
	pid := starts(t, dir)[0]
	if sid, err := syscall.Getpgid(pid); err != nil || sid != pid {
		t.Errorf("the service's process group is %d: %v", sid, err)
	}
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != "/" {
		t.Errorf("the service is in %s: %v", cwd, err)
	}
}

func TestAutostartRace(t *testing.T) {
	dir := stateDir(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			c, err := Connect(t.Context(), Options{StateDir: dir, Autostart: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.CreateKey(t.Context(), &kmsapi.CreateKeyInput{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(starts(t, dir)); n != 1 {
		t.Errorf("%d services were started", n)
	}
	keys, err := connect(t, Options{StateDir: dir}).AllKeys(t.Context())
	if err != nil || len(keys) != 16 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func TestAutostartFailure(t *testing.T) {
	dir := stateDir(t)
	t.Setenv("KMSFS_TEST_FAIL", "1")
	_, err := Connect(t.Context(), Options{StateDir: dir, Autostart: true})
	if err == nil || !strings.Contains(err.Error(), "no key service today") {
		t.Errorf("the error does not say why: %v", err)
	}
	for name, o := range map[string]Options{
		"no such program": {StateDir: dir, Autostart: true, Executable: "/does/not/exist"},
		"long path":       {StateDir: "/tmp/" + strings.Repeat("d", 100), Autostart: true},
	} {
		if _, err := Connect(t.Context(), o); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

func TestAutostartIsRefused(t *testing.T) {
	dir := stateDir(t)
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Fatal(err)
	}
	_, err := Connect(t.Context(), Options{StateDir: dir, Autostart: true})
	if err == nil || !strings.Contains(err.Error(), "uid 12345") {
		t.Errorf("another user's state directory: %v", err)
	}
	if err := os.Chown(dir, 0, -1); err != nil {
		t.Fatal(err)
	}
	// systemd's socket unit for the default state directory.
	units := t.TempDir()
	c := &Client{stateDir: dir, socket: filepath.Join(dir, "keysvc.sock"), defaultState: true, unitDirs: []string{units}}
	if err := c.mayStart(); err != nil {
		t.Errorf("without a unit: %v", err)
	}
	if err := os.WriteFile(filepath.Join(units, "kmsfs-keysvc.socket"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.mayStart(); err == nil || !strings.Contains(err.Error(), "systemctl start") {
		t.Errorf("with a unit: %v", err)
	}
	if n := len(starts(t, dir)); n != 0 {
		t.Errorf("%d services were started", n)
	}
}

func TestIdleServiceLeavesAndComesBack(t *testing.T) {
	dir := stateDir(t)
	const idle = 500 * time.Millisecond
	o := Options{StateDir: dir, Autostart: true, IdleTimeout: idle}
	c := connect(t, o)
	key, err := c.CreateKey(t.Context(), &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	pids := starts(t, dir) // on a slow machine the first ones may have left before we came
	pid := pids[len(pids)-1]
	time.Sleep(2 * idle)
	if syscall.Kill(pid, 0) != nil {
		t.Error("the service left a client alone")
	}
	c.Close()
	waitGone(t, pid)
	if _, err := os.Lstat(filepath.Join(dir, "keysvc.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left its socket behind: %v", err)
	}
	if _, err := connect(t, o).DescribeKey(t.Context(), key.KeyMetadata.KeyID); err != nil {
		t.Errorf("the next service: %v", err)
	}
}

// TestBatchSurvivesTheService kills the service under a client again and again.
func TestBatchSurvivesTheService(t *testing.T) {
	dir := stateDir(t)
	c := connect(t, Options{StateDir: dir, Autostart: true})
	out, err := c.CreateKey(t.Context(), &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	key := out.KeyMetadata.Arn
	items := make([]kmsapi.BatchItem, 200)
	for i := range items {
		items[i] = kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, NumberOfBytes: 32}
	}
	stop := make(chan struct{})
	var answered atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				made, err := c.Batch(t.Context(), items)
				if err != nil {
					t.Error(err)
					return
				}
				for i, r := range made {
					if r.Err != nil || len(r.Plaintext) != 32 {
						t.Errorf("item %d: %+v", i, r)
						return
					}
				}
				answered.Add(1)
			}
		})
	}
	for round := range 5 {
		// Two may be killed while they start. A client does not try for ever, so that the
		// others answer first.
		before := answered.Load()
		for deadline := time.Now().Add(time.Minute); round > 1 && answered.Load() == before && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		pids := starts(t, dir)
		if err := syscall.Kill(pids[len(pids)-1], syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		for deadline := time.Now().Add(time.Minute); len(starts(t, dir)) == len(pids) && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
	}
	close(stop)
	wg.Wait()
	if n := len(starts(t, dir)); n < 6 {
		t.Errorf("%d services were started", n)
	}
}

func TestBatchWithoutTheService(t *testing.T) {
	dir := stateDir(t)
	c := connect(t, Options{StateDir: dir, Autostart: true})
	c.opts.Autostart = false
	pid := starts(t, dir)[0]
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitGone(t, pid)
	item := []kmsapi.BatchItem{{Op: kmsapi.OpGenerateDataKey, KeyID: "alias/a", NumberOfBytes: 32}}
	if _, err := c.Batch(t.Context(), item); err == nil || !strings.Contains(err.Error(), "no key service answers") {
		t.Errorf("a dead service: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.opts.Autostart = true
	if _, err := c.Batch(ctx, item); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled batch: %v", err)
	}
	if out, err := c.Batch(t.Context(), item); err != nil || out[0].Err == nil || out[0].Err.Code != kmsapi.CodeNotFound {
		t.Errorf("after it: %v, %v", out, err)
	}
	c.Close()
	if _, err := c.Batch(t.Context(), item); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed client: %v", err)
	}
}

// listenAs listens as user uid: the peer that a client sees is whoever called
// listen(2). The raw system call changes this thread's effective uid only.
func listenAs(t *testing.T, path string, uid uintptr) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		const same = ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uid, same); errno != 0 {
			failed <- errno
			return
		}
		failed <- unix.Listen(fd, 8)
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// TestImpostor puts another user's process behind the socket.
func TestImpostor(t *testing.T) {
	dir := stateDir(t)
	socket := filepath.Join(dir, "keysvc.sock")
	listenAs(t, socket, 12345)
	for _, auto := range []bool{false, true} {
		if _, err := Connect(t.Context(), Options{StateDir: dir, Autostart: auto}); !errors.Is(err, ErrImpostor) {
			t.Errorf("autostart %t: %v", auto, err)
		}
	}
	// To the directory's owner it is the right one.
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Fatal(err)
	}
	c := &Client{stateDir: dir, socket: socket}
	conn, err := c.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// strangeServer answers one message with each of answers and then falls
// silent. It returns how often it was asked.
func strangeServer(t *testing.T, socket string, answers ...string) *atomic.Int32 {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var asked atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for _, a := range answers {
					if _, err := c.Read(buf); err != nil {
						return
					}
					fmt.Fprint(c, a)
				}
				c.Read(buf)
			}()
		}
	}()
	return &asked
}

// TestStrangeServer answers what no key service does. It is asked once, and
// the error names it, so that one knows what to stop.
func TestStrangeServer(t *testing.T) {
	const upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + kmsapi.BatchUpgrade + "\r\n\r\n"
	for name, answers := range map[string][]string{
		"not found":     {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"},
		"no upgrade":    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		"SSH":           {"SSH-2.0-x\r\n"},
		"talks at once": {upgraded + "XXXX"},
		"no frames":     {upgraded, strings.Repeat("\xff", 64)},
	} {
		for _, n := range []int{1, laneItems + 1} { // by a lane, and by the other connection
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				dir := stateDir(t)
				socket := filepath.Join(dir, "keysvc.sock")
				asked := strangeServer(t, socket, answers...)
				items := make([]kmsapi.BatchItem, n)
				for i := range items {
					items[i].Op = kmsapi.OpDecrypt
				}
				c, err := Connect(t.Context(), Options{StateDir: dir})
				if err == nil {
					defer c.Close()
					asked.Store(0)
					_, err = c.Batch(t.Context(), items)
				}
				if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d of uid %d answers on %s,", os.Getpid(), os.Getuid(), socket)) {
					t.Errorf("the error does not name it: %v", err)
				}
				if n := asked.Load(); n > 1 {
					t.Errorf("it was asked %d times", n)
				}
			})
		}
	}
	t.Run("silence", func(t *testing.T) { // the service may be busy
		dir := stateDir(t)
		strangeServer(t, filepath.Join(dir, "keysvc.sock"))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := Connect(ctx, Options{StateDir: dir}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestSocketPath(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "")
	for state, want := range map[string]string{
		"":               "/run/kmsfs/keysvc.sock",
		"/var/lib/kmsfs": "/run/kmsfs/keysvc.sock",
		"/srv/x":         "/srv/x/keysvc.sock",
	} {
		if got, err := SocketPath(state); err != nil || got != want {
			t.Errorf("SocketPath(%q) = %s, %v", state, got, err)
		}
	}
	longest := "/" + strings.Repeat("d", 107-len("//keysvc.sock"))
	if _, err := SocketPath(longest); err != nil {
		t.Errorf("107 bytes: %v", err)
	}
	if _, err := SocketPath(longest + "d"); err == nil || !strings.Contains(err.Error(), "--socket") {
		t.Errorf("108 bytes: %v", err)
	}
}
