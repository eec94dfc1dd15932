package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// Exit codes of kmsfs fsck beyond the usual ones.
const (
	exitRepaired = 3
	exitDamage   = 4
)

func fsckCommand() *cli.Command {
	return &cli.Command{
		Name:      "fsck",
		Usage:     "check every name, record, key and page of an unmounted volume",
		ArgsUsage: "CIPHERDIR",
		Description: `Reads all of the volume, with a key for each file from the key service, and prints a
line for each thing that is not as it should be: what it is, the path, where its
ciphertext lies, why, and what to do. Nothing is changed without --repair.

   damage         what no writer and no crash leaves: changed, moved, cut off
   unchecked      the key is refused, or the ciphertext may not be read
   never-written  a file whose creation a crash cut short
   unsettled      a change a crash cut short, which the next mount finishes
   wrong-size     the stored size is wrong, which opening the file corrects
   leftover       what a crash left behind and nothing needs

--repair finishes what a crash cut short, corrects sizes, removes leftovers and files
that were never written, and makes ` + "`kmsfs.settled`" + ` anew when it is missing. What is
damaged it leaves as it is.

Exit codes: 0 no damage (what a crash left is mentioned, but no error), 1 the check
could not be done or not for every file, 2 called wrongly, 3 everything found was
repaired, 4 there is damage.

Examples:
   kmsfs fsck ~/cipher
   kmsfs fsck --repair ~/cipher
   kmsfs fsck --json ~/cipher | jq '.Findings[] | select(.Category == "damage")'`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "repair", Usage: "put right what can be, without touching what is damaged"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print findings only, neither progress nor summary"},
			jsonFlag(),
		},
		Action: fsckAction,
	}
}

func fsckAction(c *cli.Context) error {
	args, err := arguments(c, "CIPHERDIR")
	if err != nil {
		return err
	}
	dir := args[0]
	// Look before a key service is started for nothing.
	if _, err := fs.ReadConfig(dir); errors.Is(err, fs.ErrNotVolume) {
		return err
	}
	if err := secret.HardenProcess(); err != nil {
		return err
	}
	out := newFsckOutput(c, dir)
	var sum fs.Summary
	err = withClient(c, func(client *kmsclient.Client) (err error) {
		sum, err = fs.Check(c.Context, dir, out.options(client))
		return err
	})
	if errors.Is(err, fs.ErrInUse) {
		return fmt.Errorf("%w; unmount it first (kmsfs unmount MOUNTPOINT)", err)
	}
	if outErr := out.end(sum, err); outErr != nil {
		return outErr
	}
	switch {
	case sum.Damage > 0:
		return cli.Exit(exitMessage(err), exitDamage)
	case err != nil:
		return err
	case sum.Unchecked > 0 || sum.Failed > 0:
		return cli.Exit("", exitError)
	case sum.Repaired > 0:
		return cli.Exit("", exitRepaired)
	}
	return nil
}

func exitMessage(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// fsckOutput prints findings as they come: a volume may have many.
type fsckOutput struct {
	c        *cli.Context
	dir      string
	w        io.Writer
	json     bool
	quiet    bool
	progress *progressLine
	start    time.Time
	findings int
	err      error // the first of writing
}

func newFsckOutput(c *cli.Context, dir string) *fsckOutput {
	return &fsckOutput{c: c, dir: dir, w: c.App.Writer, json: wantsJSON(c), quiet: c.Bool("quiet"), progress: newProgressLine(c), start: time.Now()}
}

func (o *fsckOutput) options(client *kmsclient.Client) fs.CheckOptions {
	opts := fs.CheckOptions{Keys: client, Repair: o.c.Bool("repair"), Found: o.found, Logger: slog.New(slog.DiscardHandler)}
	if o.c.Bool("verbose") {
		opts.Logger = slog.Default()
	}
	if o.progress != nil {
		opts.Progress = o.tick
	}
	return opts
}

func (o *fsckOutput) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(o.w, format, args...); err != nil && o.err == nil {
		o.err = fmt.Errorf("write the output: %w", err)
	}
}

// tick shows how far the check is.
func (o *fsckOutput) tick(s fs.Summary) {
	n, seconds := s.Files+s.Directories+s.Symlinks+s.Specials, time.Since(o.start).Seconds()
	o.progress.show("%d objects (%.0f/s), %s (%s/s)", n, float64(n)/seconds, size(s.Bytes), size(int64(float64(s.Bytes)/seconds)))
}

func (o *fsckOutput) found(f *fs.Finding) {
	o.progress.clear()
	o.findings++
	if !o.json {
		o.printf("%s: %q (%s): %s; %s\n", f.Category, f.Path, oneLine(filepath.Join(o.dir, f.StoredPath)), oneLine(f.Reason), oneLine(f.Advice))
		return
	}
	line, err := json.Marshal(f)
	if err != nil {
		o.err = errors.Join(o.err, err)
		return
	}
	if o.findings == 1 {
		o.printf("{\n  \"Findings\": [\n    %s", line)
	} else {
		o.printf(",\n    %s", line)
	}
}

// oneLine keeps what others named from writing lines of its own.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// end prints the summary. checkErr says why the check is not complete.
func (o *fsckOutput) end(s fs.Summary, checkErr error) error {
	o.progress.clear()
	if o.json {
		line, err := json.MarshalIndent(s, "  ", "  ")
		if err != nil {
			return err
		}
		if o.findings == 0 {
			o.printf("{\n  \"Findings\": [],\n  \"Summary\": %s\n}\n", line)
		} else {
			o.printf("\n  ],\n  \"Summary\": %s\n}\n", line)
		}
		return o.err
	}
	if o.quiet || s.Volume == "" && o.findings == 0 {
		return o.err
	}
	verdict := "no damage"
	if s.Damage > 0 {
		verdict = fmt.Sprintf("DAMAGE: %d", s.Damage)
	}
	if checkErr != nil {
		verdict += " until the check was broken off"
	}
	o.printf("%s: %s (%s), %s, %s, %s: %s", s.Volume, number(s.Files, "file", "files"), size(s.Bytes), number(s.Directories, "directory", "directories"),
		number(s.Symlinks, "symlink", "symlinks"), number(s.Specials, "special file", "special files"), verdict)
	for _, count := range []struct {
		n    int64
		what string
	}{
		{s.NeverWritten, "never written"}, {s.Unsettled, "unsettled"}, {s.WrongSize, "of wrong size"},
		{s.Leftover, "left over"}, {s.Unchecked, "unchecked"}, {s.Repaired, "repaired"}, {s.Failed, "repairs failed"},
	} {
		if count.n > 0 {
			o.printf(", %d %s", count.n, count.what)
		}
	}
	o.printf("\n")
	return o.err
}

func number(n int64, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// size is a number of bytes for people.
func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/(1<<10), 0
	for v >= 1024 && unit < 4 {
		v /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[unit])
}
