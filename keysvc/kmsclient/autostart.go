package kmsclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startPatience covers a passphrase's Argon2id on a slow machine.
	startPatience = 30 * time.Second
	logName       = "keysvc.log"
	maxLog        = 1 << 20
)

// autostart starts the service as gpg-agent is started, and waits until it
// answers. Of several processes that try at once, one starts it.
func (c *Client) autostart(ctx context.Context) (net.Conn, error) {
	if err := c.mayStart(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := os.MkdirAll(c.stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	unlock, err := lockStart(ctx, filepath.Join(c.stateDir, "keysvc.start.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	conn, err := c.connect(ctx) // perhaps the holder of the lock before us did it
	if err == nil || !nobodyAnswers(err) {
		return conn, err
	}
	exited, logFile, err := c.spawn()
	if err != nil {
		return nil, fmt.Errorf("start the key service: %w", err)
	}
	return c.await(ctx, exited, logFile)
}

func (c *Client) mayStart() error {
	owner, err := ownerOf(c.stateDir)
	if err != nil {
		return err
	}
	if owner != uint32(os.Geteuid()) {
		return fmt.Errorf("no key service answers on %s and %s belongs to uid %d: ask its owner to start `kmsfs keysvc serve`", c.socket, c.stateDir, owner)
	}
	if c.defaultState && unitExists(c.unitDirs) {
		return fmt.Errorf("no key service answers on %s, which systemd is to serve: run `systemctl start kmsfs-keysvc.socket`", c.socket)
	}
	return nil
}

// lockStart takes the lock of starters, waiting for another one to finish.
func lockStart(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the start of the key service: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for another start of the key service: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// spawn runs the service in a session of its own, so that it outlives us. exited
// tells how it has ended.
func (c *Client) spawn() (exited <-chan *os.ProcessState, logFile string, err error) {
	exe := c.opts.Executable
	if exe == "" {
		if exe, err = os.Executable(); err != nil {
			return nil, "", err
		}
	}
	logFile = filepath.Join(c.stateDir, logName)
	out, err := openLog(logFile)
	if err != nil {
		return nil, "", err
	}
	defer out.Close()
	args := []string{"keysvc", "serve", "--auto", "--socket", c.socket}
	if !c.defaultState {
		args = append([]string{"--state-dir", c.stateDir}, args...)
	}
	if c.opts.IdleTimeout > 0 {
		args = append(args, "--idle-timeout", c.opts.IdleTimeout.String())
	}
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = "/" // never keep a directory busy that someone wants to unmount
	cmd.Env = withoutServiceManager(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	done := make(chan *os.ProcessState, 1)
	go func() {
		_ = cmd.Wait() // the log has the reason; this reaps the child
		done <- cmd.ProcessState
	}()
	return done, logFile, nil
}

func openLog(path string) (*os.File, error) {
	if st, err := os.Lstat(path); err == nil && st.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
}

// withoutServiceManager drops what systemd told this process and no other.
func withoutServiceManager(env []string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "JOURNAL_STREAM":
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// await connects as soon as the service listens.
func (c *Client) await(ctx context.Context, exited <-chan *os.ProcessState, logFile string) (net.Conn, error) {
	delay := 2 * time.Millisecond
	for {
		conn, err := c.connect(ctx)
		if err == nil || !nobodyAnswers(err) {
			return conn, err
		}
		select {
		case state := <-exited:
			if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				// Somebody's doing, perhaps after it had started.
				return nil, &lostError{fmt.Errorf("it was killed (%v), see %s", status.Signal(), logFile)}
			}
			return nil, fmt.Errorf("the key service did not start: %s", lastLine(logFile))
		case <-ctx.Done():
			return nil, fmt.Errorf("the key service does not answer on %s, see %s: %w", c.socket, logFile, ctx.Err())
		case <-time.After(delay):
			delay = min(2*delay, 50*time.Millisecond)
		}
	}
}

// lastLine returns the last line of a log, which is where the service said why
// it ended.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "see " + path
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 4096 {
		if _, err := f.Seek(-4096, io.SeekEnd); err != nil {
			return "see " + path
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return "see " + path
	}
	b = bytes.TrimSpace(b)
	b = b[bytes.LastIndexByte(b, '\n')+1:]
	if len(b) == 0 {
		return "see " + path
	}
	return strings.TrimPrefix(strings.TrimPrefix(string(b), "kmsfs: "), "start the key service: ")
}
