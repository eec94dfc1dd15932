package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "make a ciphertext directory",
		ArgsUsage: "CIPHERDIR",
		Description: `Makes a volume of an empty directory (which is created if it is not there), and a
KMS key for it unless --key names one. The key's alias is alias/kmsfs/<volume id>.

With --keys path, the default, the key service is asked for each file: its data key
is wrapped under the file's path, so a key policy can say who opens what. With
--keys volume it is asked once, when the volume is mounted, as for an EBS volume.

Examples:
   kmsfs init ~/cipher
   kmsfs init --key alias/project-x /srv/cipher
   kmsfs init --keys volume --algorithm xchacha20-poly1305 /srv/cipher`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "key", Usage: "use the KMS key `KEY` (id, ARN or alias) instead of a new one"},
			&cli.StringFlag{Name: "keys", Value: "path", Usage: "wrap file keys by `path` (the key service decides on each file) or volume"},
			&cli.StringFlag{Name: "context", Value: "path", Usage: "tell the key service each file's `path`, an opaque hash of it, or only the volume"},
			&cli.StringFlag{Name: "algorithm", Value: "aes-256-gcm", Usage: "encrypt pages with `ALG`: aes-256-gcm or xchacha20-poly1305 (for CPUs without AES instructions)"},
			jsonFlag(),
		},
		Action: initAction,
	}
}

var algorithms = map[string]string{
	"aes-256-gcm":        "AES-256-GCM",
	"xchacha20-poly1305": "XChaCha20-Poly1305",
}

func initAction(c *cli.Context) error {
	args, err := arguments(c, "CIPHERDIR")
	if err != nil {
		return err
	}
	dir := args[0]
	o := fs.CreateOptions{
		KeyMode: fs.KeyMode(c.String("keys")), Context: fs.ContextMode(c.String("context")),
		Algorithm: algorithms[strings.ToLower(c.String("algorithm"))],
	}
	switch {
	case o.KeyMode != "path" && o.KeyMode != "volume":
		return usagef(c, "--keys is path or volume, not %q", o.KeyMode)
	case o.Context != "path" && o.Context != "opaque" && o.Context != "volume":
		return usagef(c, "--context is path, opaque or volume, not %q", o.Context)
	case o.Algorithm == "":
		return usagef(c, "--algorithm is aes-256-gcm or xchacha20-poly1305, not %q", c.String("algorithm"))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// Look before a key is made for nothing.
	if ents, err := os.ReadDir(dir); err != nil {
		return err
	} else if len(ents) > 0 {
		return fmt.Errorf("%s: %w; kmsfs init wants an empty one", dir, fs.ErrNotEmpty)
	}
	return withClient(c, func(client *kmsclient.Client) error {
		o.Keys = client
		conf, alias, err := createVolume(c.Context, client, dir, c.String("key"), o)
		if err != nil {
			return err
		}
		if abs, err := filepath.Abs(dir); err != nil {
			return err
		} else if err := rememberVolume(c, abs); err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, map[string]any{
				"VolumeId": conf.Volume, "CipherDir": dir, "KmsKeyId": conf.KMSKey, "AliasName": alias,
				"Keys": conf.Keys, "Context": conf.Context, "Algorithm": conf.Algorithm,
			})
		}
		fmt.Fprintf(c.App.Writer, "Created volume %s in %s.\n", conf.Volume, dir)
		if alias != "" {
			fmt.Fprintf(c.App.Writer, "KMS key: %s (%s)\n", conf.KMSKey, alias)
		} else {
			fmt.Fprintf(c.App.Writer, "KMS key: %s\n", conf.KMSKey)
		}
		fmt.Fprintf(c.App.Writer, "Mount it:  kmsfs mount %s MOUNTPOINT\n", dir)
		return nil
	})
}

// createVolume makes the volume, and its KMS key where none is named.
func createVolume(ctx context.Context, client *kmsclient.Client, dir, key string, o fs.CreateOptions) (conf *fs.Config, alias string, err error) {
	o.KMSKey = key
	if key == "" {
		made, err := client.CreateKey(ctx, &kmsapi.CreateKeyInput{Description: "kmsfs volume in " + dir})
		if err != nil {
			return nil, "", fmt.Errorf("make a KMS key: %w", err)
		}
		o.KMSKey = made.KeyMetadata.Arn
	}
	if conf, err = fs.Create(ctx, dir, o); err != nil {
		return nil, "", err
	}
	if key == "" {
		alias = "alias/kmsfs/" + conf.Volume
		if err := client.CreateAlias(ctx, alias, conf.KMSKey); err != nil {
			return nil, "", fmt.Errorf("the volume was made, but not its key's alias %s: %w", alias, err)
		}
	}
	return conf, alias, nil
}
