package systems

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Tool runs a program of the operating system on the site's files, as a user would.
func (s *Site) Tool(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	stderr := &limited{}
	cmd.Stderr = stderr
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	cmd.Stdout = null
	if err := cmd.Start(); err != nil {
		return err
	}
	s.kin.launch(cmd.Process.Pid)
	err = cmd.Wait()
	s.kin.waited(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, stderr.b)
	}
	return nil
}

// limited keeps the first bytes of what a program complains about.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	if room := 2000 - len(l.b); room > 0 {
		l.b = append(l.b, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
