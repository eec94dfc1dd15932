package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func roleCommand() *cli.Command {
	return &cli.Command{
		Name:  "role",
		Usage: "make and delete roles, and give them policies",
		Description: `A role is a principal that others may become for a while. Its trust policy says who;
what it may do say its own policies, key policies and grants.`,
		Subcommands: slices.Concat(
			[]*cli.Command{roleCreateCommand(), roleListCommand(), roleTrustCommand()},
			entityCommands(kmsapi.KindRole),
		),
	}
}

func roleCreateCommand() *cli.Command {
	return &cli.Command{
		Name:      "create",
		Aliases:   []string{"create-role"},
		Usage:     "make a role",
		ArgsUsage: "NAME",
		Description: `Prints the role's ARN. The principals that the trust policy names must exist, and
are remembered by their unique ids: somebody who gets the name of one later does
not get the role.

Example:
   kmsfs role create --trust trust.json backup`,
		Flags: append(newEntityFlags(),
			&cli.StringFlag{Name: "trust", Usage: "the trust policy is in `FILE`, - for standard input", Required: true},
			&cli.StringFlag{Name: "description", Usage: "say what the role is for"},
			&cli.IntFlag{Name: "max-session-duration", Usage: "let sessions last `SECONDS`, 3600 to 43200", DefaultText: "3600"},
			accountFlag(), jsonFlag()),
		Action: roleCreate,
	}
}

func roleCreate(c *cli.Context) error {
	args, err := arguments(c, "NAME")
	if err != nil {
		return err
	}
	trust, err := readArgument(c, c.String("trust"))
	if err != nil {
		return err
	}
	in := &kmsapi.CreateRoleInput{
		RoleName: args[0], AssumeRolePolicyDocument: string(trust), Description: c.String("description"),
		Path: optional(c, "path"), PermissionsBoundary: optional(c, "boundary"),
	}
	if c.IsSet("max-session-duration") {
		seconds := c.Int("max-session-duration")
		in.MaxSessionDuration = &seconds
	}
	if in.Tags, err = entityTags(c, c.StringSlice("tag")); err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		out, err := i.CreateRole(c.Context, in)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, map[string]any{"Role": roleJSON(out.Role)})
		}
		return say(c, "%s", out.Role.Arn)
	})
}

func roleListCommand() *cli.Command {
	return &cli.Command{
		Name:    "list",
		Aliases: []string{"list-roles"},
		Usage:   "list the roles of an account",
		Flags:   []cli.Flag{accountFlag(), jsonFlag()},
		Action:  roleList,
	}
}

func roleList(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		roles, err := i.AllRoles(c.Context)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			shown := make([]any, 0, len(roles))
			for _, r := range roles {
				shown = append(shown, roleJSON(&r))
			}
			return printJSON(c, map[string]any{"Roles": shown, "IsTruncated": false})
		}
		rows := make([][]string, 0, len(roles))
		for _, r := range roles {
			rows = append(rows, []string{r.RoleName, r.RoleID, date(r.CreateDate), r.Arn, r.Description})
		}
		return table(c, []string{"ROLE", "ID", "CREATED", "ARN", "DESCRIPTION"}, rows)
	})
}

func roleTrustCommand() *cli.Command {
	return &cli.Command{
		Name:      "trust",
		Aliases:   []string{"update-assume-role-policy"},
		Usage:     "replace a role's trust policy",
		ArgsUsage: "NAME FILE",
		Description: `Example:
   kmsfs role trust backup trust.json`,
		Flags:  []cli.Flag{accountFlag()},
		Action: roleTrust,
	}
}

func roleTrust(c *cli.Context) error {
	args, err := arguments(c, "NAME", "FILE")
	if err != nil {
		return err
	}
	text, err := readArgument(c, args[1])
	if err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error { return i.UpdateTrust(c.Context, args[0], string(text)) })
}

// roleJSON is a role as the aws command line prints it.
func roleJSON(r *kmsapi.Role) any {
	return withDocument(r, "AssumeRolePolicyDocument", r.AssumeRolePolicyDocument)
}
