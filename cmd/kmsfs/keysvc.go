package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
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
		Description: `The key service holds KMS keys and answers the AWS KMS API on a unix socket, and on the
network when it is told to. One service belongs to one state directory. Commands and
mounts start it when none answers, as gpg-agent is started; it leaves when nobody has
been connected for a minute.`,
		Subcommands: []*cli.Command{serveCommand(), statusCommand(), certificateCommand(), advanceCommand()},
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
   kmsfs keysvc serve --listen 127.0.0.1:4599
   kmsfs keysvc serve --listen :4599 --tls-cert /etc/kmsfs/tls.pem --tls-key /etc/kmsfs/tls.key

With --listen it also answers the network, with TLS: the AWS KMS API, and of STS
GetCallerIdentity. There requests are signed (Signature Version 4) with an access key
of "kmsfs user access-key create". Without --tls-cert the service makes a certificate
and keeps it; "kmsfs keysvc certificate" prints it for clients to trust:

   kmsfs keysvc certificate > kmsfs.pem
   export AWS_CA_BUNDLE=$PWD/kmsfs.pem
   aws kms list-keys --endpoint-url https://127.0.0.1:4599 --region us-east-1

--insecure-http leaves TLS out. It is refused for addresses that other machines reach.

With --simulated-clock, for rehearsals, "kmsfs keysvc advance" moves the clock that the
dates of keys are read from: creation, deletion, rotation. All else stays real: the
log, and when a key was last used. A state directory that was made with the flag
is simulated for ever and refused without it; one that was made without refuses it.

On the unix socket the peer's uid is the identity, and signatures are not checked.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "socket", Usage: "listen on `PATH` (default: /run/kmsfs/keysvc.sock for root, else $XDG_RUNTIME_DIR/kmsfs/keysvc.sock; with --state-dir, DIR/keysvc.sock)"},
			&cli.StringFlag{Name: "root-key-file", Usage: "unlock the root key with `FILE`; the first start creates it"},
			&cli.BoolFlag{Name: "passphrase", Usage: "protect a new root key by a passphrase"},
			&cli.StringFlag{Name: "passphrase-file", Usage: "read the passphrase from `FILE` (implies --passphrase)"},
			&cli.DurationFlag{Name: "idle-timeout", Usage: "leave when nobody was connected for `TIME`", DefaultText: "never; 1m when a client started it"},
			&cli.UintSliceFlag{Name: "forwarder", Usage: "let the user with the number `UID`, as root, act for other users of this machine (a mount with --authorize caller), as far as policies allow it kmsfs:ActAs; may be repeated"},
			&cli.StringFlag{Name: "listen", Usage: "answer the network at `HOST:PORT`, too; without a host, at every address of the machine"},
			&cli.StringFlag{Name: "tls-cert", Usage: "show the certificate in `FILE` (PEM), with what leads to its authority"},
			&cli.StringFlag{Name: "tls-key", Usage: "the key of the certificate is in `FILE` (PEM)"},
			&cli.BoolFlag{Name: "insecure-http", Usage: "listen without TLS, on a loopback address"},
			&cli.BoolFlag{Name: "simulated-clock", Usage: "make keys that live on a clock which can be advanced"},
			&cli.BoolFlag{Name: "accept-changed-store", Usage: "go on with what is left of a store that was restored in part"},
			&cli.BoolFlag{Name: "accept-audit-loss", Usage: "start although the end of the audit log is missing, and record that"},
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
	if err := checkRemote(c); err != nil {
		return err
	}
	// Before any key is read.
	if err := secret.HardenProcess(); err != nil {
		return err
	}
	defer holdBallast(keysvcBallast)()
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
	remote, err := listenRemote(c, svc)
	if err != nil {
		return errors.Join(err, l.Close(), svc.Close())
	}
	idle := c.Duration("idle-timeout")
	if c.Bool("auto") && !c.IsSet("idle-timeout") {
		idle = autoIdle
	}
	srv := keysvc.NewServer(svc, keysvc.ServerOptions{IdleTimeout: idle, Version: version, StateDir: state, Log: log})
	log.Info("serving", "socket", l.Addr(), "state", state)
	for _, r := range remote {
		log.Info("answering the network", "endpoint", r.URL())
	}
	err = srv.Serve(c.Context, l, remote...)
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
	o := keysvc.Options{Dir: filepath.Join(state, "keysvc"), RootKeyFile: c.String("root-key-file"), SimulatedClock: c.Bool("simulated-clock"),
		AcceptChanged: c.Bool("accept-changed-store"), AuditDir: filepath.Join(state, "audit"), AcceptAuditLoss: c.Bool("accept-audit-loss"), Log: log}
	for _, uid := range c.UintSlice("forwarder") {
		if uid > math.MaxUint32 {
			return o, usagef(c, "--forwarder %d: no number of a user", uid)
		}
		o.Forwarders = append(o.Forwarders, uint32(uid))
	}
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
