package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func keyRotationCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name:      "rotate",
			Aliases:   []string{"rotate-key-on-demand"},
			Usage:     "give a key new key material now",
			ArgsUsage: "KEY",
			Description: `What is encrypted from now on is under the new material. The old one decrypts for
ever what is under it; "kmsfs rewrap" moves the keys of a volume's files to the new
one. A key can be rotated by hand 25 times.

Example:
   kmsfs key rotate alias/project-x`,
			Flags: []cli.Flag{jsonFlag()},
			Action: func(c *cli.Context) error {
				return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
					out, err := client.RotateKeyOnDemand(c.Context, m.KeyID)
					if err != nil {
						return err
					}
					if wantsJSON(c) {
						return printJSON(c, out)
					}
					return say(c, "%s is rotated", m.KeyID)
				})
			},
		},
		{
			Name:  "rotation",
			Usage: "rotate a key automatically, and see its rotations",
			Description: `A key with automatic rotation gets new key material every so many days. A date that
passes while the key is disabled, or while no key service runs, is made up for
as soon as it can be.`,
			Subcommands: []*cli.Command{
				{
					Name:      "enable",
					Usage:     "turn automatic rotation on, or change its period",
					ArgsUsage: "KEY",
					Description: `Examples:
   kmsfs key rotation enable alias/project-x
   kmsfs key rotation enable --period 90 alias/project-x`,
					Flags: []cli.Flag{
						&cli.IntFlag{Name: "period", Aliases: []string{"rotation-period-in-days"}, Usage: "rotate every `N` days, 90 to 2560", DefaultText: "365, or as it is"},
						jsonFlag(),
					},
					Action: keyRotationEnable,
				},
				{
					Name:      "disable",
					Usage:     "turn automatic rotation off",
					ArgsUsage: "KEY",
					Description: `Example:
   kmsfs key rotation disable alias/project-x`,
					Action: func(c *cli.Context) error {
						return keySwitch(c, (*kmsclient.Client).DisableKeyRotation, "not rotated automatically any more")
					},
				},
				{
					Name:      "status",
					Usage:     "show when a key is rotated next",
					ArgsUsage: "KEY",
					Description: `Example:
   kmsfs key rotation status alias/project-x`,
					Flags:  []cli.Flag{jsonFlag()},
					Action: keyRotationStatus,
				},
				{
					Name:      "list",
					Usage:     "show a key's material, oldest first",
					ArgsUsage: "KEY",
					Description: `Example:
   kmsfs key rotation list alias/project-x`,
					Flags:  []cli.Flag{jsonFlag()},
					Action: keyRotationList,
				},
			},
		},
	}
}

func keyRotationEnable(c *cli.Context) error {
	days := c.Int("period")
	if c.IsSet("period") && days == 0 {
		days = -1 // the service says what is allowed
	}
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		if err := client.EnableKeyRotation(c.Context, m.KeyID, days); err != nil {
			return err
		}
		if wantsJSON(c) {
			return nil // as the aws command line: no output
		}
		st, err := client.GetKeyRotationStatus(c.Context, m.KeyID)
		if err != nil {
			return err
		}
		return say(c, "%s is rotated %s", m.KeyID, schedule(st))
	})
}

func keyRotationStatus(c *cli.Context) error {
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		st, err := client.GetKeyRotationStatus(c.Context, m.KeyID)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, st)
		}
		return facts(c, [2]string{"Key", m.KeyID}, [2]string{"Rotated", schedule(st)})
	})
}

// schedule tells when a key is rotated.
func schedule(st *kmsapi.GetKeyRotationStatusOutput) string {
	if !st.KeyRotationEnabled {
		return "by hand only"
	}
	return fmt.Sprintf("every %d days, next on %s", st.RotationPeriodInDays, moment(st.NextRotationDate))
}

func keyRotationList(c *cli.Context) error {
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		list, err := client.AllKeyMaterial(c.Context, m.KeyID)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, kmsapi.ListKeyRotationsOutput{Rotations: list})
		}
		rows := make([][]string, 0, len(list))
		for _, r := range list {
			date, kind := moment(r.RotationDate), r.RotationType
			if kind == "" {
				date, kind = moment(m.CreationDate), "CREATED"
			}
			rows = append(rows, []string{date, kind, r.KeyMaterialState, r.KeyMaterialID})
		}
		return table(c, []string{"DATE", "BY", "STATE", "KEY MATERIAL"}, rows)
	})
}
