package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func keyDeletionCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name:      "schedule-deletion",
			Aliases:   []string{"schedule-key-deletion"},
			Usage:     "destroy a key, and all that is encrypted under it, after some days",
			ArgsUsage: "KEY",
			Description: `The key is unusable at once and destroyed when the waiting period has passed. Nothing
that was encrypted under it can be decrypted after that, on any copy, by
anybody. Until then "kmsfs key cancel-deletion" saves it.

It is not asked whether you are sure. If you are not, "kmsfs key disable" makes the
key just as unusable, for as long as you like.

A key is destroyed an hour after the date at the earliest, so that a clock that is wrong
for a moment costs nothing.

Examples:
   kmsfs key schedule-deletion alias/project-x
   kmsfs key schedule-deletion --days 7 1234abcd-12ab-34cd-56ef-1234567890ab`,
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "days", Aliases: []string{"pending-window-in-days"}, Value: kmsapi.MaxPendingWindow, Usage: "wait for `N` days, 7 to 30"},
				jsonFlag(),
			},
			Action: keyScheduleDeletion,
		},
		{
			Name:      "cancel-deletion",
			Aliases:   []string{"cancel-key-deletion"},
			Usage:     "save a key from its scheduled deletion",
			ArgsUsage: "KEY",
			Description: `The key is disabled then; "kmsfs key enable" makes it usable again.

Example:
   kmsfs key cancel-deletion alias/project-x`,
			Flags:  []cli.Flag{jsonFlag()},
			Action: keyCancelDeletion,
		},
	}
}

func keyScheduleDeletion(c *cli.Context) error {
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		aliases, err := aliasNames(c, client, m.KeyID)
		if err != nil {
			return err
		}
		out, err := client.ScheduleKeyDeletion(c.Context, m.KeyID, c.Int("days"))
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		lost := []string{"   everything that was ever encrypted under it"}
		for _, v := range volumesUnder(c, *m) {
			lost = append(lost, fmt.Sprintf("   all files in %s (%s)", v.CipherDir, v.Volume))
		}
		if aliases != "" {
			lost = append(lost, "   its aliases: "+aliases)
		}
		return say(c, `%s cannot be used any more, and is destroyed on %s.
With it goes, for good:
%s
To save it before:  kmsfs key cancel-deletion %s`,
			m.KeyID, moment(out.DeletionDate), strings.Join(lost, "\n"), m.KeyID)
	})
}

func keyCancelDeletion(c *cli.Context) error {
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		out, err := client.CancelKeyDeletion(c.Context, m.KeyID)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		return say(c, "%s is saved, and disabled\nTo use it again:  kmsfs key enable %s", m.KeyID, m.KeyID)
	})
}

// withKey runs do on the key that the only argument names. Most actions take no
// alias; people have little else.
func withKey(c *cli.Context, do func(*kmsclient.Client, *kmsapi.KeyMetadata) error) error {
	args, err := arguments(c, "KEY")
	if err != nil {
		return err
	}
	return withKeyNamed(c, args[0], do)
}

func withKeyNamed(c *cli.Context, name string, do func(*kmsclient.Client, *kmsapi.KeyMetadata) error) error {
	return withClient(c, func(client *kmsclient.Client) error {
		m, err := client.DescribeKey(c.Context, name)
		if err != nil {
			return err
		}
		return do(client, m)
	})
}

func aliasNames(c *cli.Context, client *kmsclient.Client, keyID string) (string, error) {
	aliases, err := client.AllAliases(c.Context, keyID)
	if err != nil {
		return "", err
	}
	var names []string
	for _, a := range aliases {
		names = append(names, a.AliasName)
	}
	return strings.Join(names, " "), nil
}

// volumesUnder lists the volumes that were mounted from this state directory and
// are under a key. There may be others: it is for a warning.
func volumesUnder(c *cli.Context, m kmsapi.KeyMetadata) (list []knownVolume) {
	state, err := kmsclient.StateDir(stateDir(c))
	if err != nil {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(state, "volumes", "seen-*.json"))
	if err != nil {
		return nil
	}
	for _, f := range files {
		var v knownVolume
		if data, err := os.ReadFile(f); err == nil && json.Unmarshal(data, &v) == nil && (v.KMSKey == m.Arn || v.KMSKey == m.KeyID) {
			list = append(list, v)
		}
	}
	return list
}
