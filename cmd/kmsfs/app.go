package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// version is set by the Makefile.
var version = "dev"

// Exit codes: done, failed, called wrongly.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

const appDescription = `kmsfs keeps a directory encrypted: every file has its own data key, every data key
is wrapped by a key service on this machine that speaks the AWS KMS API. Take the
KMS key away and the files are noise, wherever their ciphertext was copied.

   kmsfs init ~/cipher           make a ciphertext directory and a KMS key for it
   kmsfs mount ~/cipher ~/plain  work in ~/plain
   kmsfs unmount ~/plain

The key service is started when it is needed; "kmsfs keysvc --help" tells about it.

Exit codes: 0 done, 1 failed, 2 called wrongly. A failure is one line on standard
error, "kmsfs: what: why", and where there is one, the next step.`

// usageError is a command line that makes no sense: exit code 2.
type usageError struct {
	err  error
	help string // the command to ask for help
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef is an error of the command line.
func usagef(c *cli.Context, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), help: helpName(c)}
}

func helpName(c *cli.Context) string {
	if c != nil && c.Command != nil && c.Command.HelpName != "" {
		return c.Command.HelpName
	}
	return "kmsfs"
}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(stdin, stdout, stderr)
	err := app.RunContext(ctx, args)
	if err == nil {
		return exitOK
	}
	var coded cli.ExitCoder
	if errors.As(err, &coded) {
		if msg := err.Error(); msg != "" {
			fmt.Fprintf(stderr, "kmsfs: %s\n", msg)
		}
		return coded.ExitCode()
	}
	fmt.Fprintf(stderr, "kmsfs: %s\n", strings.TrimPrefix(err.Error(), "kmsfs: "))
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "Run `%s --help` to see how it is used.\n", usage.help)
		return exitUsage
	}
	if hint := nextStep(err); hint != "" {
		fmt.Fprintln(stderr, hint)
	}
	return exitError
}

// nextStep says what to do about an error of the key service.
func nextStep(err error) string {
	var e *kmsapi.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code {
	case kmsapi.CodeNotFound:
		return "`kmsfs key list` and `kmsfs alias list` show what there is."
	case kmsapi.CodeDisabled:
		return "`kmsfs key enable KEY` makes the key usable again."
	case kmsapi.CodeInvalidState:
		return "`kmsfs key describe KEY` shows the key's state."
	case kmsapi.CodeAccessDenied:
		return "`kmsfs policy --help` tells how others than the owner of the key service and root are let in."
	case kmsapi.CodeAlreadyExists:
		return "`kmsfs alias update` points an existing alias at another key."
	case kmsapi.CodeNoSuchEntity:
		return "`kmsfs user list`, `kmsfs role list` and `kmsfs policy managed` show what there is."
	case kmsapi.CodeDeleteConflict:
		return "`kmsfs user show NAME` and `kmsfs role show NAME` show what there is to remove first."
	}
	return ""
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:                   "kmsfs",
		Usage:                  "directories encrypted file by file, under keys of a local AWS KMS",
		Description:            appDescription,
		Version:                version,
		HideHelpCommand:        true,
		UseShortOptionHandling: true,
		Suggest:                true,
		// A comma belongs to the value of a tag or of an encryption context.
		DisableSliceFlagSeparator: true,
		Reader:                    stdin,
		Writer:                    stdout,
		ErrWriter:                 stderr,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "state-dir", Usage: "keep keys, volumes and the socket under `DIR` (default: /var/lib/kmsfs for root, else $XDG_STATE_HOME/kmsfs)", EnvVars: []string{"KMSFS_STATE_DIR"}},
			&cli.BoolFlag{Name: "json", Usage: "print machine-readable output, in AWS's shapes where there are any"},
			&cli.BoolFlag{Name: "verbose", Usage: "log what is done, to standard error"},
		},
		Before:         prepare,
		Commands:       commands(),
		ExitErrHandler: func(*cli.Context, error) {}, // run reports errors
		OnUsageError:   onUsageError,
		Action:         noCommand,
	}
	for _, c := range app.Commands {
		finish(c)
	}
	return app
}

// finish gives each command the error handling that urfave/cli leaves to them.
func finish(c *cli.Command) {
	c.OnUsageError = onUsageError
	c.HideHelpCommand = true
	if len(c.Subcommands) > 0 && c.Action == nil {
		c.Action = noCommand
	}
	for _, sub := range c.Subcommands {
		finish(sub)
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	return &usageError{err: err, help: helpName(c)}
}

// noCommand is the action of a command that only has subcommands.
func noCommand(c *cli.Context) error {
	if name := c.Args().First(); name != "" {
		return usagef(c, "unknown command %q", name)
	}
	if err := cli.ShowSubcommandHelp(c); err != nil {
		return err
	}
	return usagef(c, "a command is missing")
}

// prepare runs before every command.
func prepare(c *cli.Context) error {
	level := slog.LevelWarn
	if c.Bool("verbose") {
		level = slog.LevelInfo
	}
	logTo(c.App.ErrWriter, level)
	if dir := c.String("state-dir"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return usagef(c, "--state-dir: %w", err)
		}
		return c.Set("state-dir", abs)
	}
	return nil
}

// logTo sends the log from level on to w.
func logTo(w io.Writer, level slog.Level) {
	slog.SetDefault(slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})))
}

// stateDir is what --state-dir says, made absolute; "" is the default.
func stateDir(c *cli.Context) string { return c.String("state-dir") }

// connect finds the key service, or starts it.
func connect(c *cli.Context) (*kmsclient.Client, error) {
	client, err := kmsclient.Connect(c.Context, kmsclient.Options{StateDir: stateDir(c), Autostart: true})
	if err != nil {
		return nil, fmt.Errorf("key service: %w", err)
	}
	return client, nil
}

// withClient runs do with a connection to the key service.
func withClient(c *cli.Context, do func(*kmsclient.Client) error) error {
	client, err := connect(c)
	if err != nil {
		return err
	}
	return errors.Join(do(client), client.Close())
}

// arguments checks the number of a command's arguments.
func arguments(c *cli.Context, names ...string) ([]string, error) {
	got := c.Args().Slice()
	for _, a := range got {
		if strings.HasPrefix(a, "-") && len(a) > 1 {
			return nil, usagef(c, "flag %s comes after an argument: put flags first", a)
		}
	}
	if len(got) < len(names) {
		return nil, usagef(c, "%s is missing", names[len(got)])
	}
	if len(got) > len(names) {
		return nil, usagef(c, "unexpected argument %q", got[len(names)])
	}
	return got, nil
}

// isTerminal is for prompts.
func isTerminal(r io.Reader) (*os.File, bool) {
	f, ok := r.(*os.File)
	return f, ok && termIsTerminal(int(f.Fd()))
}
