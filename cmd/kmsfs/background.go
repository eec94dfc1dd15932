package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// background starts this command again as a worker, in a session of its own
// and with no standard streams, and waits until it serves or fails.
func background(c *cli.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), readyEnv+"=1")
	cmd.ExtraFiles = []*os.File{tell} // becomes readyFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	tell.Close()
	if err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	answer, err := io.ReadAll(ready)
	if err != nil {
		return err
	}
	if string(answer) == "ok" {
		return cmd.Process.Release()
	}
	waitErr := cmd.Wait()
	if len(answer) == 0 {
		return fmt.Errorf("the worker died before it could mount: %w", waitErr)
	}
	return errors.New(string(answer))
}

// maxLog is the size, in bytes, from which on a worker's log is started anew.
const maxLog = 8 << 20

// logToFile sends the log to STATE_DIR/log/<volume id>.log.
func logToFile(c *cli.Context, cipherDir string) error {
	conf, err := fs.ReadConfig(cipherDir)
	if err != nil {
		return err
	}
	state, err := kmsclient.StateDir(stateDir(c))
	if err != nil {
		return err
	}
	dir := filepath.Join(state, "log")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, conf.Volume+".log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// Panics and the runtime's last words go there too.
	if err := syscall.Dup3(int(f.Fd()), 2, 0); err != nil {
		return err
	}
	level := slog.LevelInfo
	if c.Bool("debug-fuse") {
		level = slog.LevelDebug
	}
	logTo(f, level)
	return nil
}
