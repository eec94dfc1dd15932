package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/fs"
)

func infoCommand() *cli.Command {
	return &cli.Command{
		Name:      "info",
		Usage:     "tell about a ciphertext directory, a mount or a file in one",
		ArgsUsage: "PATH",
		Description: `Of a ciphertext directory it shows the configuration; inside a mount it shows the
volume, the worker, where a file's ciphertext lies and the encryption context that
the key service is told when the file is opened.

Examples:
   kmsfs info ~/cipher
   kmsfs info ~/plain/letters/2026.txt`,
		Flags:  []cli.Flag{jsonFlag()},
		Action: infoAction,
	}
}

func infoAction(c *cli.Context) error {
	args, err := arguments(c, "PATH")
	if err != nil {
		return err
	}
	path := args[0]
	if _, err := os.Lstat(path); err != nil {
		return err
	}
	if info, err := fs.ReadInfo(path); err == nil {
		return showInfo(c, info)
	}
	conf, err := fs.ReadConfig(path)
	if err != nil {
		return fmt.Errorf("%s is neither a ciphertext directory nor inside a kmsfs mount", path)
	}
	if wantsJSON(c) {
		return printJSON(c, conf)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return table(c, nil, [][]string{
		{"Volume", conf.Volume},
		{"Ciphertext directory", abs},
		{"Created", conf.Created.Format("2006-01-02 15:04:05 MST")},
		{"KMS key", conf.KMSKey},
		{"File keys wrapped by", string(conf.Keys)},
		{"Encryption context", string(conf.Context)},
		{"Algorithm", conf.Algorithm},
		{"Format", fmt.Sprintf("schema %d, geometry %s", conf.Schema, conf.Geometry)},
	})
}

func showInfo(c *cli.Context, info *fs.Info) error {
	if wantsJSON(c) {
		return printJSON(c, info)
	}
	rows := [][]string{
		{"Volume", info.Volume},
		{"Ciphertext directory", info.CipherDir},
		{"Worker process", fmt.Sprint(info.WorkerPid)},
		{"KMS key", info.KMSKey},
		{"Path in the volume", fmt.Sprintf("%q", info.Path)},
		{"Ciphertext", info.StoredPath},
		{"Type", info.Type},
	}
	if info.FileID != "" {
		rows = append(rows, []string{"File ID", info.FileID})
	}
	var names []string
	for name := range info.EncryptionContext {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		rows = append(rows, []string{"Encryption context", fmt.Sprintf("%s = %q", name, info.EncryptionContext[name])})
	}
	if info.WrappedUnder != "" {
		rows = append(rows, []string{"Key still wrapped under", fmt.Sprintf("%q", info.WrappedUnder)})
	}
	if info.KeyMaterial != "" {
		rows = append(rows, []string{"Key material", info.KeyMaterial + "..."})
	}
	if info.ReadOnly {
		rows = append(rows, []string{"Mount", "read-only"})
	}
	if info.Recovering {
		rows = append(rows, []string{"After a crash", "files are being checked"})
	}
	return table(c, nil, rows)
}
