package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:  "audit",
		Usage: "read, verify and archive the log of all calls",
		Description: `The key service records every call, refused ones too, in AWS CloudTrail's shape,
before it answers: STATE/audit holds the records, one line of JSON each, in segments
of 64 MiB. Every line names the hash of the one before, and the service signs
checkpoints, so that "kmsfs audit verify" finds what was changed since.

Every open of a file is a call (with keys=path), of about 1 KB. "kmsfs audit archive"
moves old segments to another disk.`,
		Subcommands: []*cli.Command{auditTailCommand(), auditVerifyCommand(), auditCheckpointCommand(), auditArchiveCommand()},
	}
}

// auditDirFlag chooses a log that is not the state directory's.
func auditDirFlag() cli.Flag {
	return &cli.StringFlag{Name: "dir", Usage: "the log is in `DIR` (default: audit in the state directory)"}
}

// auditDir is where the log is.
func auditDir(c *cli.Context) (string, error) {
	if dir := c.String("dir"); dir != "" {
		return dir, nil
	}
	state, err := kmsclient.StateDir(stateDir(c))
	if err != nil {
		return "", err
	}
	return filepath.Join(state, "audit"), nil
}

func auditTailCommand() *cli.Command {
	return &cli.Command{
		Name:  "tail",
		Usage: "print the last records",
		Description: `Prints a line for each record, or with --json the record as it is stored.
Nothing is verified.

Examples:
   kmsfs audit tail
   kmsfs audit tail --follow
   kmsfs audit tail -n 1000 --json | jq 'select(.errorCode != null)'`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "lines", Aliases: []string{"n"}, Value: 10, Usage: "print the last `N` records"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "then print each new record, until interrupted"},
			auditDirFlag(), jsonFlag(),
		},
		Action: auditTail,
	}
}

func auditTail(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	if c.Int("lines") < 0 {
		return usagef(c, "--lines must not be negative")
	}
	dir, err := auditDir(c)
	if err != nil {
		return err
	}
	asJSON := wantsJSON(c)
	return keysvc.TailAudit(c.Context, dir, c.Int("lines"), c.Bool("follow"), func(line []byte, r *keysvc.AuditRecord) error {
		if !asJSON {
			line = []byte(auditLine(r) + "\n")
		}
		if _, err := c.App.Writer.Write(line); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		return nil
	})
}

// auditLine is a record for people: when, who, what, on what, and how it ended.
func auditLine(r *keysvc.AuditRecord) string {
	who := r.UserIdentity.ARN
	if who == "" {
		who = r.UserIdentity.InvokedBy
	}
	if who == "" {
		who = "(unknown)"
	}
	words := []string{r.EventTime.UTC().Format(time.RFC3339), r.EventName, who}
	for _, on := range r.Resources {
		words = append(words, on.ARN)
	}
	if p := r.RequestParameters; p != nil {
		for _, context := range []map[string]string{p.EncryptionContext, p.SourceEncryptionContext, p.DestinationEncryptionContext} {
			if path, ok := context["kmsfs:path"]; ok {
				words = append(words, fmt.Sprintf("path=%q", path))
			}
		}
	}
	if r.ErrorCode != "" {
		words = append(words, r.ErrorCode)
	}
	return strings.Join(words, "  ")
}

func auditVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "check that nobody has changed the log",
		Description: `Reads the whole log and checks each line's hash, each checkpoint's signature and
that nothing is missing. A service that is running is asked for its last checkpoint,
which the log must contain; a service that starts checks that by itself.

What was edited, dropped, put in another order or cut off is named with its segment,
line and byte. Whoever puts back an older copy of the whole state directory is found
with --anchor only: a checkpoint ("kmsfs audit checkpoint") that was kept elsewhere.

--key holds the log against a copy of STATE/audit/checkpoint.pub that was kept
elsewhere, instead of the one beside the log.

Exit codes: 0 nothing is wrong, 1 the log could not be read, 2 called wrongly, 4 the
log was changed.

Examples:
   kmsfs audit verify
   kmsfs audit verify --anchor /mnt/usb/anchor.json --key /mnt/usb/checkpoint.pub
   kmsfs audit verify --archive /srv/audit-2026`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "anchor", Usage: "the log must contain the checkpoint in `FILE`"},
			&cli.StringFlag{Name: "key", Usage: "the public key is in `FILE`"},
			&cli.StringSliceFlag{Name: "archive", Usage: "older segments are in `DIR`"},
			&cli.BoolFlag{Name: "without-archive", Usage: "accept that the oldest segments are not there"},
			auditDirFlag(), jsonFlag(),
		},
		Action: auditVerify,
	}
}

func auditVerify(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	rep, err := verifiedAudit(c)
	if err != nil {
		return err
	}
	caveats := rep.Caveats()
	if wantsJSON(c) {
		err = printJSON(c, struct {
			*keysvc.AuditReport
			Caveats []string `json:"caveats"`
		}{rep, caveats})
	} else {
		err = printAuditReport(c, rep, caveats)
	}
	if err == nil && rep.Fault != nil {
		return cli.Exit(fmt.Sprintf("the audit log was changed: %v", rep.Fault), exitDamage)
	}
	return err
}

// verifiedAudit verifies as the command line says.
func verifiedAudit(c *cli.Context) (*keysvc.AuditReport, error) {
	dir, err := auditDir(c)
	if err != nil {
		return nil, err
	}
	o := keysvc.AuditVerifyOptions{Archives: c.StringSlice("archive"), AllowArchived: c.Bool("without-archive"), Grace: time.Second}
	if file := c.String("anchor"); file != "" {
		if o.Anchor, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("anchor: %w", err)
		}
	}
	if file := c.String("key"); file != "" {
		if o.PublicKey, err = keysvc.ReadAuditKey(file); err != nil {
			return nil, err
		}
	}
	if c.String("dir") == "" {
		if err := askLastCheckpoint(c, &o); err != nil {
			return nil, err
		}
	}
	return keysvc.VerifyAudit(dir, o)
}

// askLastCheckpoint asks the service, if it runs: before the log is read, so that
// the checkpoint is in it.
func askLastCheckpoint(c *cli.Context, o *keysvc.AuditVerifyOptions) error {
	client, err := kmsclient.Connect(c.Context, kmsclient.Options{StateDir: stateDir(c)})
	if err != nil {
		return nil // not running: the report says what that means
	}
	defer client.Close()
	st, err := client.Status(c.Context)
	if err != nil {
		return err
	}
	o.Head, err = keysvc.AuditHead(st.Audit.Sequence, st.Audit.Hash)
	return err
}

func printAuditReport(c *cli.Context, r *keysvc.AuditReport, caveats []string) error {
	last := "none"
	if r.LastCheckpoint != nil {
		last = fmt.Sprintf("record %d, %s", r.LastCheckpoint.Sequence, r.LastCheckpoint.Time.UTC().Format(time.RFC3339))
	}
	err := facts(c,
		[2]string{"Records", fmt.Sprintf("%d (%d of errors) in %d segments", r.Records, r.Errors, r.Segments)},
		[2]string{"Last checkpoint", last},
		[2]string{"Signed with key", r.KeyID.String()})
	for _, s := range caveats {
		err = errors.Join(err, say(c, "\n%s", s))
	}
	return err
}

func auditCheckpointCommand() *cli.Command {
	return &cli.Command{
		Name:  "checkpoint",
		Usage: "print the last signed checkpoint, to keep elsewhere as an anchor",
		Description: `Verifies the log and prints its last checkpoint, one line. Kept where nobody who can
write to this machine's state directory can write, it proves later that the log up to
it is still the same one: "kmsfs audit verify --anchor FILE".

Example:
   kmsfs audit checkpoint > /mnt/usb/anchor.json`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "archive", Usage: "older segments are in `DIR`"},
			&cli.BoolFlag{Name: "without-archive", Usage: "accept that the oldest segments are not there"},
			auditDirFlag(),
		},
		Action: auditCheckpoint,
	}
}

func auditCheckpoint(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	rep, err := intactAudit(c)
	if err != nil {
		return err
	}
	if rep.LastCheckpoint == nil {
		return errors.New("the audit log has no checkpoint")
	}
	return say(c, "%s", bytes.TrimSuffix(rep.LastCheckpoint.Line, []byte("\n")))
}

// intactAudit is verifiedAudit for who goes on only if nothing is wrong.
func intactAudit(c *cli.Context) (*keysvc.AuditReport, error) {
	rep, err := verifiedAudit(c)
	if err == nil && rep.Fault != nil {
		err = cli.Exit(fmt.Sprintf("the audit log was changed: %v", rep.Fault), exitDamage)
	}
	return rep, err
}

func auditArchiveCommand() *cli.Command {
	return &cli.Command{
		Name:      "archive",
		Usage:     "move old segments to another directory",
		ArgsUsage: "DIR",
		Description: `Verifies the log, and then moves all segments but the last two to DIR. The service may
be running. "kmsfs audit verify --archive DIR" verifies both places together. Only
whole segments can be moved, and only by this order: delete, if you must, the oldest
in DIR. What is left is verified with --without-archive, and an anchor that lies in
what was deleted proves nothing any more.

Example:
   kmsfs audit archive /srv/audit-2026`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "archive", Usage: "still older segments are in `DIR`"},
			&cli.BoolFlag{Name: "without-archive", Usage: "accept that the oldest segments are not there"},
			auditDirFlag(), jsonFlag(),
		},
		Action: auditArchive,
	}
}

func auditArchive(c *cli.Context) error {
	args, err := arguments(c, "DIR")
	if err != nil {
		return err
	}
	to := args[0]
	// What DIR has from before belongs to the log.
	if _, err := os.Stat(to); err == nil {
		if err := c.Set("archive", to); err != nil {
			return err
		}
	}
	if _, err := intactAudit(c); err != nil {
		return err
	}
	dir, err := auditDir(c)
	if err != nil {
		return err
	}
	moved, err := keysvc.ArchiveAudit(dir, to)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return printJSON(c, struct{ Moved []string }{append([]string{}, moved...)})
	}
	if len(moved) == 0 {
		return say(c, "There is nothing to move yet: the last two segments stay")
	}
	return say(c, "%d segments are in %s\nTo verify all:  kmsfs audit verify --archive %s", len(moved), to, to)
}
