package powercut

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Recorder is a running recorder.
type Recorder struct {
	Bin    string
	Socket string

	mountpoint string
	cmd        *exec.Cmd
	output     bytes.Buffer
	conn       net.Conn
	replies    *bufio.Reader
}

// Start mounts dir on mountpoint with the recorder program bin. Its socket
// lies in scratch.
func Start(bin, mountpoint, dir, scratch string) (*Recorder, error) {
	r := &Recorder{Bin: bin, Socket: filepath.Join(scratch, "rec.sock"), mountpoint: mountpoint}
	r.cmd = exec.Command(bin, mountpoint, dir, r.Socket)
	r.cmd.Stdout, r.cmd.Stderr = &r.output, &r.output
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(time.Minute)
	for {
		conn, err := net.Dial("unix", r.Socket)
		if err == nil {
			r.conn, r.replies = conn, bufio.NewReader(conn)
			// It answers once the mount is there.
			_, err = r.Position()
			return r, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("recorder: %w\n%s", err, r.Stop())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (r *Recorder) command(line string) (string, error) {
	if _, err := fmt.Fprintln(r.conn, line); err != nil {
		return "", err
	}
	reply, err := r.replies.ReadString('\n')
	return strings.TrimSpace(reply), err
}

// Position is the length of the recording.
func (r *Recorder) Position() (int64, error) {
	reply, err := r.command("position")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(reply, 10, 64)
}

// Events reads the recording, by way of a file.
func (r *Recorder) Events() ([]Event, error) {
	name := r.Socket + ".gob"
	reply, err := r.command("dump " + name)
	if err != nil {
		return nil, err
	}
	if reply != "ok" {
		return nil, fmt.Errorf("recorder: %s", reply)
	}
	return Load(name)
}

// Stop unmounts and ends the recorder, and returns what it printed.
func (r *Recorder) Stop() string {
	if r.conn != nil {
		r.conn.Close()
	}
	_ = r.cmd.Process.Signal(unix.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- r.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		_ = unix.Unmount(r.mountpoint, unix.MNT_DETACH)
		_ = r.cmd.Process.Kill()
		<-ended
	}
	return r.output.String()
}
