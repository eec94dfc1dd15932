package main

import (
	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func accessKeyCommand() *cli.Command {
	flags := func() []cli.Flag { return []cli.Flag{accountFlag()} }
	return &cli.Command{
		Name:  "access-key",
		Usage: "make, list, switch off and delete a user's access keys",
		Description: `With an access key a user signs requests to the key service's network address. A user
has two at most, so that one can be replaced while the other is in use.`,
		Subcommands: []*cli.Command{
			{
				Name:      "create",
				Aliases:   []string{"create-access-key"},
				Usage:     "give a user an access key",
				ArgsUsage: "NAME",
				Description: `Prints the access key and its secret, which cannot be had again.

Example, for the aws command line:
   kmsfs user access-key create alice
   aws configure --profile alice`,
				Flags:  append(flags(), jsonFlag()),
				Action: accessKeyCreate,
			},
			{
				Name:      "list",
				Aliases:   []string{"list-access-keys"},
				Usage:     "list a user's access keys",
				ArgsUsage: "NAME",
				Flags:     append(flags(), jsonFlag()),
				Action:    accessKeyList,
			},
			{
				Name:      "enable",
				Usage:     "let an access key be used again",
				ArgsUsage: "NAME ID",
				Flags:     flags(),
				Action:    func(c *cli.Context) error { return accessKeySwitch(c, kmsapi.AccessKeyActive) },
			},
			{
				Name:      "disable",
				Usage:     "refuse an access key until it is enabled",
				ArgsUsage: "NAME ID",
				Flags:     flags(),
				Action:    func(c *cli.Context) error { return accessKeySwitch(c, kmsapi.AccessKeyInactive) },
			},
			{
				Name:      "delete",
				Aliases:   []string{"delete-access-key"},
				Usage:     "destroy an access key",
				ArgsUsage: "NAME ID",
				Flags:     flags(),
				Action:    accessKeyDelete,
			},
		},
	}
}

func accessKeyCreate(c *cli.Context) error {
	args, err := arguments(c, "NAME")
	if err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		out, err := i.CreateAccessKey(c.Context, args[0])
		if err != nil {
			return err
		}
		defer secret.Wipe(out.AccessKey.SecretAccessKey)
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		return facts(c,
			[2]string{"Access key", out.AccessKey.AccessKeyID},
			[2]string{"Secret", string(out.AccessKey.SecretAccessKey)},
		)
	})
}

func accessKeyList(c *cli.Context) error {
	args, err := arguments(c, "NAME")
	if err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		keys, err := i.ListAccessKeys(c.Context, args[0])
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, kmsapi.ListAccessKeysOutput{AccessKeyMetadata: keys})
		}
		rows := make([][]string, 0, len(keys))
		for _, k := range keys {
			rows = append(rows, []string{k.AccessKeyID, k.Status, date(k.CreateDate)})
		}
		return table(c, []string{"ACCESS KEY", "STATUS", "CREATED"}, rows)
	})
}

func accessKeySwitch(c *cli.Context, status string) error {
	args, err := arguments(c, "NAME", "ID")
	if err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error { return i.UpdateAccessKey(c.Context, args[0], args[1], status) })
}

func accessKeyDelete(c *cli.Context) error {
	args, err := arguments(c, "NAME", "ID")
	if err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error { return i.DeleteAccessKey(c.Context, args[0], args[1]) })
}
