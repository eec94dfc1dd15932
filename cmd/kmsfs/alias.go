package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func aliasCommand() *cli.Command {
	return &cli.Command{
		Name:  "alias",
		Usage: "give KMS keys readable names",
		Description: `An alias is a name (alias/NAME) that points at a KMS key and may be pointed at
another one later. A volume remembers the key, not the alias it was made with.`,
		Subcommands: []*cli.Command{
			{
				Name:      "create",
				Usage:     "give a key another name",
				ArgsUsage: "ALIAS KEY",
				Description: `Example:
   kmsfs alias create alias/project-x 1234abcd-12ab-34cd-56ef-1234567890ab`,
				Action: func(c *cli.Context) error {
					return aliasPoint(c, (*kmsclient.Client).CreateAlias)
				},
			},
			{
				Name:      "update",
				Usage:     "point an alias at another key",
				ArgsUsage: "ALIAS KEY",
				Description: `What was wrapped under the key before stays under it.

Example:
   kmsfs alias update alias/project-x 1234abcd-12ab-34cd-56ef-1234567890ab`,
				Action: func(c *cli.Context) error {
					return aliasPoint(c, (*kmsclient.Client).UpdateAlias)
				},
			},
			{
				Name:      "delete",
				Usage:     "remove an alias; its key stays",
				ArgsUsage: "ALIAS",
				Description: `Example:
   kmsfs alias delete alias/project-x`,
				Action: aliasDelete,
			},
			{
				Name:  "list",
				Usage: "list aliases",
				Description: `Example:
   kmsfs alias list --key 1234abcd-12ab-34cd-56ef-1234567890ab`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "key", Usage: "only those of `KEY`"},
					jsonFlag(),
				},
				Action: aliasList,
			},
		},
	}
}

func aliasPoint(c *cli.Context, do func(*kmsclient.Client, context.Context, string, string) error) error {
	args, err := arguments(c, "ALIAS", "KEY")
	if err != nil {
		return err
	}
	return withClient(c, func(client *kmsclient.Client) error {
		return do(client, c.Context, args[0], args[1])
	})
}

func aliasDelete(c *cli.Context) error {
	args, err := arguments(c, "ALIAS")
	if err != nil {
		return err
	}
	return withClient(c, func(client *kmsclient.Client) error {
		return client.DeleteAlias(c.Context, args[0])
	})
}

func aliasList(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	return withClient(c, func(client *kmsclient.Client) error {
		aliases, err := client.AllAliases(c.Context, c.String("key"))
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, kmsapi.ListAliasesOutput{Aliases: aliases})
		}
		rows := make([][]string, 0, len(aliases))
		for _, a := range aliases {
			rows = append(rows, []string{a.AliasName, a.TargetKeyID, moment(a.LastUpdatedDate)})
		}
		return table(c, []string{"ALIAS", "KEY", "UPDATED"}, rows)
	})
}
