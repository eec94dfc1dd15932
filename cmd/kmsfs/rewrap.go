package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/daemon/worker"
	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func rewrapCommand() *cli.Command {
	return &cli.Command{
		Name:      "rewrap",
		Usage:     "put a volume's keys under the newest material of its KMS key",
		ArgsUsage: "MOUNTPOINT|CIPHERDIR",
		Description: `After "kmsfs key rotate" new files are under the new key material, and older ones stay
under the material that was the newest when they were made. This has the key service
re-wrap the volume's own key and those of all files. No content is read or written, and
a mounted volume is used as ever meanwhile.

Keys that are under the newest material are left as they are: when it is interrupted,
or the machine stops, the same command goes on from there. When it ends with 0,
everything is under the newest material, and on the disk.

The key service is asked for whoever mounted, who needs kms:ReEncryptFrom and
kms:ReEncryptTo for every path, and records each file in its audit log. Of a volume
with --keys volume there is one key to re-wrap, its own.

Exit codes: 0 done, 1 failed, or some keys could not be re-wrapped (they are as before,
and a line says why), 2 called wrongly.

Examples:
   kmsfs key rotate alias/kmsfs/vol-0d73abf624fc3c2cf && kmsfs rewrap ~/plain
   kmsfs rewrap ~/cipher     (not mounted)
   kmsfs info ~/plain/letters/2026.txt     (shows the key material)`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print failures only, neither progress nor summary"},
			jsonFlag(),
		},
		Action: rewrapAction,
	}
}

func rewrapAction(c *cli.Context) error {
	args, err := arguments(c, "MOUNTPOINT or CIPHERDIR")
	if err != nil {
		return err
	}
	out := newRewrapOutput(c)
	var sum fs.RewrapSummary
	if info, infoErr := fs.ReadInfo(args[0]); infoErr == nil {
		sum, err = rewrapMounted(c, args[0], info, out)
	} else {
		sum, err = rewrapUnmounted(c, args[0], out)
	}
	if c.Context.Err() != nil {
		err = errors.New("interrupted; what is re-wrapped stays so, and the same command goes on from there")
	}
	if err == nil {
		return out.end(sum)
	}
	out.progress.clear()
	return err
}

// rewrapMounted asks the worker of a mount.
func rewrapMounted(c *cli.Context, path string, info *fs.Info, out *rewrapOutput) (fs.RewrapSummary, error) {
	switch {
	case info.Path != "/":
		return fs.RewrapSummary{}, notMountpoint(path)
	case info.ReadOnly:
		return fs.RewrapSummary{}, fmt.Errorf("%s is mounted read-only, and keys are stored with the files", path)
	case info.Control == "":
		return fs.RewrapSummary{}, fmt.Errorf("%s is served by another version of kmsfs: unmount it and mount it again, or re-wrap %s while it is unmounted", path, info.CipherDir)
	}
	return worker.Rewrap(c.Context, info.Control, out.options())
}

// rewrapUnmounted opens the volume itself.
func rewrapUnmounted(c *cli.Context, dir string, out *rewrapOutput) (sum fs.RewrapSummary, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return sum, err
	}
	if _, err := os.Lstat(dir); err != nil {
		return sum, err
	}
	if _, err := fs.ReadConfig(dir); err != nil {
		if errors.Is(err, fs.ErrNotVolume) {
			err = fmt.Errorf("%s is neither a mountpoint of kmsfs nor a ciphertext directory", dir)
		}
		return sum, err
	}
	if err := checkKnown(c, dir); err != nil {
		return sum, err
	}
	if err := secret.HardenProcess(); err != nil {
		return sum, err
	}
	raiseFileLimit()
	err = withClient(c, func(client *kmsclient.Client) error {
		// What opens a volume must end properly, interrupted or not.
		root, err := fs.Open(context.WithoutCancel(c.Context), dir, fs.Options{Keys: client, Logger: slog.Default()})
		if err != nil {
			return err
		}
		o := out.options()
		o.Replacing = func(next *fs.Config) error { return expectConfig(c, dir, next) }
		sum, err = root.Rewrap(c.Context, o)
		return errors.Join(err, root.Close())
	})
	if errors.Is(err, fs.ErrInUse) {
		err = fmt.Errorf("%w; name its mountpoint instead", err)
	}
	return sum, err
}

// rewrapOutput prints failures as they come, and how far it is.
type rewrapOutput struct {
	c        *cli.Context
	progress *progressLine
	start    time.Time
	failures []fs.RewrapFailure // for JSON
}

func newRewrapOutput(c *cli.Context) *rewrapOutput {
	return &rewrapOutput{c: c, progress: newProgressLine(c), start: time.Now(), failures: []fs.RewrapFailure{}}
}

func (o *rewrapOutput) options() fs.RewrapOptions {
	return fs.RewrapOptions{Progress: o.tick, Failed: o.failed}
}

// tick shows how far it is, and how long it will take if it goes on like that.
func (o *rewrapOutput) tick(s fs.RewrapSummary) {
	if s.Files == 0 {
		return
	}
	took := time.Since(o.start)
	left := "?"
	if s.Total >= s.Files {
		left = time.Duration(float64(took) / float64(s.Files) * float64(s.Total-s.Files)).Round(time.Second).String()
	}
	o.progress.show("%d of %d files, %d re-wrapped (%.0f files/s, %s left)", s.Files, max(s.Total, s.Files), s.Rewrapped, float64(s.Files)/took.Seconds(), left)
}

// maxFailures bounds how many failures JSON lists: a disabled key may mean millions.
const maxFailures = 1000

func (o *rewrapOutput) failed(f fs.RewrapFailure) {
	o.progress.clear()
	if !wantsJSON(o.c) {
		fmt.Fprintf(o.c.App.ErrWriter, "kmsfs: %q: %s\n", f.Path, oneLine(f.Reason))
	} else if len(o.failures) < maxFailures {
		o.failures = append(o.failures, f)
	}
}

// end prints the summary.
func (o *rewrapOutput) end(s fs.RewrapSummary) error {
	o.progress.clear()
	var err error
	switch {
	case wantsJSON(o.c):
		err = printJSON(o.c, struct {
			fs.RewrapSummary
			Failures []fs.RewrapFailure // the first 1000
		}{s, o.failures})
	case o.c.Bool("quiet"):
	default:
		own := "its own key was under the newest material"
		if s.VolumeKey {
			own = "its own key is re-wrapped"
		}
		err = say(o.c, "%s: %s; %s, %s re-wrapped, %d failed", s.Volume, own, number(s.Files, "file", "files"), number(s.Rewrapped, "key", "keys"), s.Failed)
	}
	if err == nil && s.Failed > 0 {
		return cli.Exit("", exitError)
	}
	return err
}
