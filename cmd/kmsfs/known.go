package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/fs"
	"kmsfs.dev/kmsfs/internal/durable"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// A volume's configuration proves itself only by the key it names. Whoever can
// write the ciphertext directory could put a whole volume of their own there,
// under a key that they know, and wait for secrets. So the state directory,
// which is trusted, remembers what was last seen where, as ssh does hosts.

// knownVolume is what is remembered of a ciphertext directory.
type knownVolume struct {
	CipherDir string
	Volume    string
	KMSKey    string
	Config    string // SHA-256 of kmsfs.conf, in hex
	Next      string `json:",omitempty"` // that of the one which is about to replace it
}

func describeVolume(cipherDir string) (*knownVolume, error) {
	conf, err := fs.ReadConfig(cipherDir)
	if err != nil {
		return nil, err
	}
	sum, err := configSum(conf)
	return &knownVolume{CipherDir: cipherDir, Volume: conf.Volume, KMSKey: conf.KMSKey, Config: sum}, err
}

func configSum(conf *fs.Config) (string, error) {
	data, err := json.Marshal(conf)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}

// knownPath is the file that remembers a ciphertext directory.
func knownPath(c *cli.Context, cipherDir string) (string, error) {
	state, err := kmsclient.StateDir(stateDir(c))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(cipherDir))
	return filepath.Join(state, "volumes", "seen-"+hex.EncodeToString(sum[:12])+".json"), nil
}

// rememberVolume notes what is in cipherDir now.
func rememberVolume(c *cli.Context, cipherDir string) error {
	now, err := describeVolume(cipherDir)
	if err != nil {
		return err
	}
	return remember(c, now)
}

// expectConfig notes that next is about to replace the configuration in cipherDir: a
// crash may leave either.
func expectConfig(c *cli.Context, cipherDir string, next *fs.Config) error {
	now, err := describeVolume(cipherDir)
	if err == nil {
		now.Next, err = configSum(next)
	}
	if err == nil {
		err = remember(c, now)
	}
	return err
}

func remember(c *cli.Context, known *knownVolume) error {
	path, err := knownPath(c, known.CipherDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	data, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'))
}

// checkKnown refuses a ciphertext directory in which there was another volume
// when it was last mounted. One never seen here is remembered once it mounts.
func checkKnown(c *cli.Context, cipherDir string) error {
	path, err := knownPath(c, cipherDir)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var known knownVolume
	if err := json.Unmarshal(data, &known); err != nil {
		return fmt.Errorf("%s: %w; remove it to have the volume remembered anew", path, err)
	}
	now, err := describeVolume(cipherDir)
	if err != nil {
		return err
	}
	if now.Config == known.Config || now.Config == known.Next || c.Bool("accept-replaced") {
		return nil
	}
	return fmt.Errorf("%s is not the volume that was mounted from here before: it was %s under %s, it is %s under %s. "+
		"Somebody may have put it there to learn what you write. If it was you, mount it once with --accept-replaced",
		cipherDir, known.Volume, known.KMSKey, now.Volume, now.KMSKey)
}
