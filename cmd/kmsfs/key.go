package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func keyCommand() *cli.Command {
	return &cli.Command{
		Name:  "key",
		Usage: "make, list, switch off, rotate and delete KMS keys",
		Description: `A KMS key wraps the data keys of files and never leaves the key service. Name one
by its id, its ARN or an alias (alias/NAME). "kmsfs init" makes a key for each
volume, so that you need these commands mostly to switch a key off and on.`,
		Subcommands: slices.Concat(keyCommands(), keyTagCommands(), keyRotationCommands(), keyDeletionCommands()),
	}
}

func keyCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name:  "create",
			Usage: "make a KMS key",
			Description: `Makes a symmetric encryption key and prints its id.

Examples:
   kmsfs key create --description "project X" --alias alias/project-x
   kmsfs key create --tag team=storage --tag env=test`,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "description", Usage: "say what the key is for"},
				&cli.StringFlag{Name: "alias", Usage: "give it the name `alias/NAME` as well"},
				&cli.StringSliceFlag{Name: "tag", Usage: "attach the tag `KEY=VALUE`; may be repeated"},
				jsonFlag(),
			},
			Action: keyCreate,
		},
		{
			Name:        "list",
			Usage:       "list all KMS keys",
			Description: "Shows each key's id, state, aliases and description.",
			Flags:       []cli.Flag{jsonFlag()},
			Action:      keyList,
		},
		{
			Name:      "describe",
			Usage:     "show one key",
			ArgsUsage: "KEY",
			Description: `Example:
   kmsfs key describe alias/project-x`,
			Flags:  []cli.Flag{jsonFlag()},
			Action: keyDescribe,
		},
		{
			Name:      "enable",
			Usage:     "make a disabled key usable again",
			ArgsUsage: "KEY",
			Description: `Files under the key can be opened again at once.

Example:
   kmsfs key enable alias/project-x`,
			Action: func(c *cli.Context) error { return keySwitch(c, (*kmsclient.Client).EnableKey, "enabled") },
		},
		{
			Name:      "disable",
			Usage:     "refuse all use of a key until it is enabled",
			ArgsUsage: "KEY",
			Description: `A mount whose files are under the key opens no more of them, once the keys that it
remembers have expired. Nothing is lost: "kmsfs key enable" undoes it.

Example:
   kmsfs key disable alias/project-x`,
			Action: func(c *cli.Context) error { return keySwitch(c, (*kmsclient.Client).DisableKey, "disabled") },
		},
	}
}

func keyCreate(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	in := &kmsapi.CreateKeyInput{Description: c.String("description")}
	for _, t := range c.StringSlice("tag") {
		k, v, ok := strings.Cut(t, "=")
		if !ok || k == "" {
			return usagef(c, "--tag %q is not KEY=VALUE", t)
		}
		in.Tags = append(in.Tags, kmsapi.Tag{TagKey: k, TagValue: v})
	}
	alias := c.String("alias")
	if alias != "" && !strings.HasPrefix(alias, "alias/") {
		return usagef(c, "--alias %q does not begin with alias/", alias)
	}
	return withClient(c, func(client *kmsclient.Client) error {
		out, err := client.CreateKey(c.Context, in)
		if err != nil {
			return err
		}
		if alias != "" {
			if err := client.CreateAlias(c.Context, alias, out.KeyMetadata.KeyID); err != nil {
				return err
			}
		}
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		return say(c, "%s", out.KeyMetadata.KeyID)
	})
}

func keyList(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	return withClient(c, func(client *kmsclient.Client) error {
		keys, err := client.AllKeys(c.Context)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, kmsapi.ListKeysOutput{Keys: keys})
		}
		aliases, err := client.AllAliases(c.Context, "")
		if err != nil {
			return err
		}
		names := map[string][]string{}
		for _, a := range aliases {
			names[a.TargetKeyID] = append(names[a.TargetKeyID], a.AliasName)
		}
		rows := make([][]string, 0, len(keys))
		for _, k := range keys {
			m, err := client.DescribeKey(c.Context, k.KeyID)
			if err != nil {
				return err
			}
			rows = append(rows, []string{m.KeyID, m.KeyState, moment(m.CreationDate), strings.Join(names[k.KeyID], " "), m.Description})
		}
		return table(c, []string{"KEY", "STATE", "CREATED", "ALIASES", "DESCRIPTION"}, rows)
	})
}

func keyDescribe(c *cli.Context) error {
	args, err := arguments(c, "KEY")
	if err != nil {
		return err
	}
	return withClient(c, func(client *kmsclient.Client) error {
		m, err := client.DescribeKey(c.Context, args[0])
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, kmsapi.DescribeKeyOutput{KeyMetadata: *m})
		}
		names, err := aliasNames(c, client, m.KeyID)
		if err != nil {
			return err
		}
		state := m.KeyState
		if m.DeletionDate != 0 {
			state += ", destroyed on " + moment(m.DeletionDate)
		}
		return facts(c,
			[2]string{"Key", m.KeyID},
			[2]string{"ARN", m.Arn},
			[2]string{"State", state},
			[2]string{"Created", moment(m.CreationDate)},
			[2]string{"Aliases", names},
			[2]string{"Description", m.Description},
			[2]string{"Spec", m.KeySpec + ", " + m.KeyUsage},
			[2]string{"Key material", m.CurrentKeyMaterialID},
		)
	})
}

func keySwitch(c *cli.Context, do func(*kmsclient.Client, context.Context, string) error, done string) error {
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		if err := do(client, c.Context, m.KeyID); err != nil {
			return err
		}
		if wantsJSON(c) {
			return nil // as the aws command line: no output
		}
		return say(c, "%s is %s", m.KeyID, done)
	})
}
