package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func userCommand() *cli.Command {
	return &cli.Command{
		Name:  "user",
		Usage: "make and delete users, and give them access keys and policies",
		Description: `A user is a principal: key policies, identity policies and grants name it. It signs
its requests to the key service's network address with an access key, as the aws
command line does. The users of this machine need none: each is the user
user/local/UID already, here named by its number, and may be given policies.`,
		Subcommands: slices.Concat(
			[]*cli.Command{userCreateCommand(), userListCommand()},
			entityCommands(kmsapi.KindUser),
			[]*cli.Command{accessKeyCommand()},
		),
	}
}

func userCreateCommand() *cli.Command {
	return &cli.Command{
		Name:      "create",
		Aliases:   []string{"create-user"},
		Usage:     "make a user",
		ArgsUsage: "NAME",
		Description: `Prints the user's ARN. A user may do nothing until a policy allows it.

Examples:
   kmsfs user create alice
   kmsfs user create --path /team/ --tag project=x --account 111122223333 bob`,
		Flags:  append(newEntityFlags(), accountFlag(), jsonFlag()),
		Action: userCreate,
	}
}

func userCreate(c *cli.Context) error {
	args, err := arguments(c, "NAME")
	if err != nil {
		return err
	}
	in := &kmsapi.CreateUserInput{UserName: args[0], Path: optional(c, "path"), PermissionsBoundary: optional(c, "boundary")}
	if in.Tags, err = entityTags(c, c.StringSlice("tag")); err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		out, err := i.CreateUser(c.Context, in)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		return say(c, "%s", out.User.Arn)
	})
}

func userListCommand() *cli.Command {
	return &cli.Command{
		Name:        "list",
		Aliases:     []string{"list-users"},
		Usage:       "list the users of an account",
		Description: `The users of this machine are listed once they were given something.`,
		Flags:       []cli.Flag{accountFlag(), jsonFlag()},
		Action:      userList,
	}
}

func userList(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		users, err := i.AllUsers(c.Context)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, kmsapi.ListUsersOutput{Users: users})
		}
		rows := make([][]string, 0, len(users))
		for _, u := range users {
			rows = append(rows, []string{u.UserName, u.UserID, date(u.CreateDate), u.Arn})
		}
		return table(c, []string{"USER", "ID", "CREATED", "ARN"}, rows)
	})
}
