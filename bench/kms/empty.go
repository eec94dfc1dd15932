package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"kmsfs.dev/kmsfs/bench/procstat"
)

// roleEmpty is the first argument of the process that the empty handler is in.
const roleEmpty = "-empty"

// serveEmpty answers every request with nothing. The server's settings are
// those of the key service's.
func serveEmpty(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		return err
	}
	s := http.Server{
		Handler:           http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnContext:       func(ctx context.Context, _ net.Conn) context.Context { return ctx },
	}
	return s.Serve(l)
}

// process is a server.
type process struct {
	cmd *exec.Cmd
	log bytes.Buffer
}

// start starts a server and waits until its socket is there.
func start(socket, program string, args ...string) (*process, error) {
	cmd := exec.Command(program, args...)
	p := &process{cmd: cmd}
	cmd.Stderr = &p.log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return p, c.Close()
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("%w: %s", err, &p.log)
		}
	}
}

// stop ends it and waits. That it was told to end is no error.
func (p *process) stop() {
	if p.cmd.Process.Signal(syscall.SIGTERM) == nil {
		_ = p.cmd.Wait()
	}
}

// cpu is the processor time that it has used.
func (p *process) cpu() (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	stat, err := procstat.Parse(raw)
	return stat.CPU, err
}
