package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func keysvcCommand() *cli.Command {
	return &cli.Command{
		Name:  "keysvc",
		Usage: "run the key service, or see how it is",
		Description: `The key service holds KMS keys and answers the AWS KMS API on a unix socket. One
service belongs to one state directory. Commands and mounts start it when none
answers, as gpg-agent is started; it leaves when nobody has been connected for a
minute.`,
		Subcommands: []*cli.Command{serveCommand(), statusCommand(), advanceCommand()},
	}
}

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the key service in the foreground",
		Description: `Serves until it is told to stop (SIGTERM, SIGINT).

Every stored record is sealed under a root key. The first start makes the root
key and protects it in one of two ways:

   a key file of mode 0600, the default: /etc/kmsfs/root.key for root, else
   $XDG_CONFIG_HOME/kmsfs/root.key; with --state-dir DIR, DIR/root.key. Keep a
   copy somewhere else: without it no key of this service can be used again.

   a passphrase (--passphrase), stretched by Argon2id. It is read from
   --passphrase-file, or else from the systemd credential kmsfs-passphrase, or
   else from the terminal. Such a service is not started automatically, unless
   the passphrase comes from a credential.

Examples:
   kmsfs keysvc serve
   kmsfs keysvc serve --passphrase
   kmsfs --state-dir /tmp/try keysvc serve --idle-timeout 10m
   kmsfs --state-dir /tmp/rehearse keysvc serve --simulated-clock

With --simulated-clock, for rehearsals, "kmsfs keysvc advance" moves the clock that the
dates of keys are read from: creation, deletion, rotation. All else stays real: the
log, and when a key was last used. A state directory that was made with the flag
is simulated for ever and refused without it; one that was made without refuses it.

The AWS command line and SDKs reach it through anything that forwards HTTP to the
socket; signatures are not checked there, the peer's uid is the identity.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "socket", Usage: "listen on `PATH` (default: /run/kmsfs/keysvc.sock for root, else $XDG_RUNTIME_DIR/kmsfs/keysvc.sock; with --state-dir, DIR/keysvc.sock)"},
			&cli.StringFlag{Name: "root-key-file", Usage: "unlock the root key with `FILE`; the first start creates it"},
			&cli.BoolFlag{Name: "passphrase", Usage: "protect a new root key by a passphrase"},
			&cli.StringFlag{Name: "passphrase-file", Usage: "read the passphrase from `FILE` (implies --passphrase)"},
			&cli.DurationFlag{Name: "idle-timeout", Usage: "leave when nobody was connected for `TIME`", DefaultText: "never; 1m when a client started it"},
			&cli.BoolFlag{Name: "simulated-clock", Usage: "make keys that live on a clock which can be advanced"},
			&cli.BoolFlag{Name: "auto", Usage: "started by a client: never ask, leave when idle", Hidden: true},
		},
		Action: serve,
	}
}

// autoIdle is how long a service that a client started stays without clients.
const autoIdle = time.Minute

func serve(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	// Before any key is read.
	if err := secret.HardenProcess(); err != nil {
		return err
	}
	level := slog.LevelInfo
	if c.Bool("auto") && !c.Bool("verbose") {
		level = slog.LevelWarn
	}
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: level}))

	state, err := kmsclient.StateDir(stateDir(c))
	if err != nil {
		return err
	}
	opts, err := serviceOptions(c, state, log)
	if err != nil {
		return err
	}
	svc, err := keysvc.Open(opts)
	if err != nil {
		if errors.Is(err, keysvc.ErrInUse) {
			err = fmt.Errorf("%w: `kmsfs keysvc status` shows it", err)
		}
		return fmt.Errorf("start the key service: %w", err)
	}
	l, err := listen(c)
	if err != nil {
		return errors.Join(err, svc.Close())
	}
	idle := c.Duration("idle-timeout")
	if c.Bool("auto") && !c.IsSet("idle-timeout") {
		idle = autoIdle
	}
	srv := keysvc.NewServer(svc, keysvc.ServerOptions{IdleTimeout: idle, Version: version, StateDir: state, Log: log})
	log.Info("serving", "socket", l.Addr(), "state", state)
	err = srv.Serve(c.Context, l)
	return errors.Join(err, svc.Close())
}

func listen(c *cli.Context) (*keysvc.Listener, error) {
	socket := c.String("socket")
	if socket == "" {
		var err error
		if socket, err = kmsclient.SocketPath(stateDir(c)); err != nil {
			return nil, err
		}
	}
	socket, err := filepath.Abs(socket)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := kmsclient.CheckSocketPath(socket); err != nil {
		return nil, err
	}
	return keysvc.Listen(socket)
}

// serviceOptions says how the root key is unlocked.
func serviceOptions(c *cli.Context, state string, log *slog.Logger) (keysvc.Options, error) {
	o := keysvc.Options{Dir: filepath.Join(state, "keysvc"), RootKeyFile: c.String("root-key-file"), SimulatedClock: c.Bool("simulated-clock"), Log: log}
	// With a state directory of its own a service brings its key file too.
	o.DefaultRootKeyFile = filepath.Join(state, "root.key")
	if stateDir(c) == "" {
		config, err := kmsclient.DefaultConfigDir()
		if err != nil {
			return o, err
		}
		o.DefaultRootKeyFile = filepath.Join(config, "root.key")
	}
	file := c.String("passphrase-file")
	o.UsePassphrase = c.Bool("passphrase") || file != ""
	if o.UsePassphrase && o.RootKeyFile != "" {
		return o, usagef(c, "--root-key-file and --passphrase exclude each other")
	}
	if file == "" {
		file = credentialFile()
	}
	in, interactive := isTerminal(c.App.Reader)
	switch {
	case file != "":
		o.Passphrase = func(bool) ([]byte, error) { return passphraseFrom(file) }
	case interactive && !c.Bool("auto"):
		o.Passphrase = func(confirm bool) ([]byte, error) { return promptPassphrase(in, c.App.ErrWriter, confirm) }
	}
	return o, nil
}

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show whether the key service runs",
		Description: `Exits with 0 when the service answers and with 1 when it does not; it is not
started.

Example:
   kmsfs keysvc status --json`,
		Flags:  []cli.Flag{jsonFlag()},
		Action: status,
	}
}

func status(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	client, err := kmsclient.Connect(c.Context, kmsclient.Options{StateDir: stateDir(c)})
	if err != nil {
		return err
	}
	defer client.Close()
	st, err := client.Status(c.Context)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return printJSON(c, st)
	}
	leaves := "never"
	if st.Auto {
		leaves = (time.Duration(st.IdleAfter * float64(time.Second))).String() + " after the last client"
	}
	lines := [][2]string{
		{"Socket", client.Socket()},
		{"State directory", st.StateDir},
		{"Process", strconv.Itoa(st.PID)},
		{"Version", st.Version},
		{"Running since", moment(st.StartedAt)},
		{"Leaves", leaves},
		{"Clients", strconv.Itoa(st.Clients)},
		{"Keys", strconv.Itoa(st.Keys)},
		{"Aliases", strconv.Itoa(st.Aliases)},
		{"You are", st.Principal},
	}
	if st.SimulatedTime != 0 {
		ahead := time.Duration(st.ClockAhead * float64(time.Second))
		lines = append(lines, [2]string{"Simulated time", fmt.Sprintf("%s (%s ahead)", moment(st.SimulatedTime), span(ahead))})
	}
	return facts(c, lines...)
}

// jsonFlag lets --json stand after the command as well.
func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print machine-readable output"}
}

func wantsJSON(c *cli.Context) bool {
	for _, ctx := range c.Lineage() {
		if ctx.IsSet("json") && ctx.Bool("json") {
			return true
		}
	}
	return false
}
