package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// identityPolicyCommands are those on managed policies, which users and roles have.
func identityPolicyCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name:      "create",
			Aliases:   []string{"create-policy"},
			Usage:     "make a managed policy, to be attached to users and roles",
			ArgsUsage: "NAME FILE",
			Description: `Prints the policy's ARN.

Example:
   kmsfs policy create read-public policy.json
   kmsfs policy attach --user alice arn:aws:iam::000000000000:policy/read-public`,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "description", Usage: "say what the policy is for"},
				&cli.StringFlag{Name: "path", Usage: "put it below `PATH`, as /team/"},
				accountFlag(), jsonFlag(),
			},
			Action: policyCreate,
		},
		{
			Name:      "update",
			Aliases:   []string{"create-policy-version"},
			Usage:     "replace a managed policy's text",
			ArgsUsage: "ARN FILE",
			Description: `Makes a new version, which counts at once for all who have the policy. Five
versions are kept; "kmsfs policy versions" lists them.

Example:
   kmsfs policy update arn:aws:iam::000000000000:policy/read-public policy.json`,
			Flags:  []cli.Flag{accountFlag(), jsonFlag()},
			Action: policyUpdate,
		},
		{
			Name:    "managed",
			Aliases: []string{"list-policies"},
			Usage:   "list the managed policies of an account",
			Flags:   []cli.Flag{accountFlag(), jsonFlag()},
			Action:  policyManaged,
		},
		{
			Name:      "show",
			Aliases:   []string{"get-policy-version"},
			Usage:     "print a managed policy",
			ArgsUsage: "ARN",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "version-id", Usage: "print `VERSION`", DefaultText: "the one that counts"},
				accountFlag(), jsonFlag(),
			},
			Action: policyShow,
		},
		{
			Name:      "versions",
			Aliases:   []string{"list-policy-versions"},
			Usage:     "list a managed policy's versions",
			ArgsUsage: "ARN",
			Flags:     []cli.Flag{accountFlag(), jsonFlag()},
			Action:    policyVersions,
		},
		{
			Name:      "set-default",
			Aliases:   []string{"set-default-policy-version"},
			Usage:     "go back to another version of a managed policy",
			ArgsUsage: "ARN VERSION",
			Flags:     []cli.Flag{accountFlag()},
			Action:    onVersion(kmsclient.Identity.SetDefaultPolicyVersion),
		},
		{
			Name:      "delete-version",
			Aliases:   []string{"delete-policy-version"},
			Usage:     "remove a version that does not count",
			ArgsUsage: "ARN VERSION",
			Flags:     []cli.Flag{accountFlag()},
			Action:    onVersion(kmsclient.Identity.DeletePolicyVersion),
		},
		{
			Name:        "delete",
			Aliases:     []string{"delete-policy"},
			Usage:       "remove a managed policy that nobody has",
			ArgsUsage:   "ARN",
			Description: `Its other versions go first: "kmsfs policy delete-version".`,
			Flags:       []cli.Flag{accountFlag()},
			Action:      policyDelete,
		},
		{
			Name:      "attach",
			Aliases:   []string{"attach-user-policy", "attach-role-policy"},
			Usage:     "give a managed policy to a user or a role",
			ArgsUsage: "ARN",
			Description: `Example, for the user of this machine with number 1000:
   kmsfs policy attach --user 1000 arn:aws:iam::000000000000:policy/read-public`,
			Flags:  holderFlags(),
			Action: onHolder(kmsclient.Identity.Attach),
		},
		{
			Name:      "detach",
			Aliases:   []string{"detach-user-policy", "detach-role-policy"},
			Usage:     "take a managed policy from a user or a role",
			ArgsUsage: "ARN",
			Flags:     holderFlags(),
			Action:    onHolder(kmsclient.Identity.Detach),
		},
		{
			Name:      "boundary",
			Aliases:   []string{"put-user-permissions-boundary", "put-role-permissions-boundary"},
			Usage:     "limit a user or a role by a managed policy",
			ArgsUsage: "ARN",
			Description: `What the policy does not allow the user or role may not do, whatever else allows it.
"none" instead of an ARN takes the limit away.`,
			Flags: holderFlags(),
			Action: onHolder(func(i kmsclient.Identity, ctx context.Context, kind, name, arn string) error {
				if arn == "none" {
					arn = ""
				}
				return i.SetBoundary(ctx, kind, name, arn)
			}),
		},
	}
}

func policyCreate(c *cli.Context) error {
	args, err := arguments(c, "NAME", "FILE")
	if err != nil {
		return err
	}
	text, err := readArgument(c, args[1])
	if err != nil {
		return err
	}
	in := &kmsapi.CreatePolicyInput{PolicyName: args[0], PolicyDocument: string(text), Description: c.String("description"), Path: optional(c, "path")}
	return withIdentity(c, func(i kmsclient.Identity) error {
		out, err := i.CreatePolicy(c.Context, in)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		return say(c, "%s", out.Policy.Arn)
	})
}

func policyUpdate(c *cli.Context) error {
	args, err := arguments(c, "ARN", "FILE")
	if err != nil {
		return err
	}
	text, err := readArgument(c, args[1])
	if err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		out, err := i.CreatePolicyVersion(c.Context, args[0], string(text))
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		return say(c, "%s", out.PolicyVersion.VersionID)
	})
}

func policyManaged(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		policies, err := i.AllPolicies(c.Context)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, kmsapi.ListPoliciesOutput{Policies: policies})
		}
		rows := make([][]string, 0, len(policies))
		for _, p := range policies {
			rows = append(rows, []string{p.Arn, p.DefaultVersionID, strconv.Itoa(p.AttachmentCount), p.Description})
		}
		return table(c, []string{"POLICY", "VERSION", "ATTACHED", "DESCRIPTION"}, rows)
	})
}

func policyShow(c *cli.Context) error {
	args, err := arguments(c, "ARN")
	if err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		id := c.String("version-id")
		if id == "" {
			p, err := i.GetPolicy(c.Context, args[0])
			if err != nil {
				return err
			}
			id = p.Policy.DefaultVersionID
		}
		out, err := i.GetPolicyVersion(c.Context, args[0], id)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, map[string]any{"PolicyVersion": withDocument(out.PolicyVersion, "Document", out.PolicyVersion.Document)})
		}
		return say(c, "%s", strings.TrimSuffix(out.PolicyVersion.Document, "\n"))
	})
}

func policyVersions(c *cli.Context) error {
	args, err := arguments(c, "ARN")
	if err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error {
		versions, err := i.AllPolicyVersions(c.Context, args[0])
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, kmsapi.ListVersionsOutput{Versions: versions})
		}
		rows := make([][]string, 0, len(versions))
		for _, v := range versions {
			counts := ""
			if v.IsDefaultVersion {
				counts = "counts"
			}
			rows = append(rows, []string{v.VersionID, date(v.CreateDate), counts})
		}
		return table(c, []string{"VERSION", "CREATED", ""}, rows)
	})
}

// onVersion is the action of a command on one version of a managed policy.
func onVersion(do func(i kmsclient.Identity, ctx context.Context, arn, id string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := arguments(c, "ARN", "VERSION")
		if err != nil {
			return err
		}
		return withIdentity(c, func(i kmsclient.Identity) error { return do(i, c.Context, args[0], args[1]) })
	}
}

func policyDelete(c *cli.Context) error {
	args, err := arguments(c, "ARN")
	if err != nil {
		return err
	}
	return withIdentity(c, func(i kmsclient.Identity) error { return i.DeletePolicy(c.Context, args[0]) })
}

func holderFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "user", Usage: "the user `NAME`"},
		&cli.StringFlag{Name: "role", Usage: "the role `NAME`"},
		accountFlag(),
	}
}

// onHolder is the action of a command on a managed policy and a user or a role.
func onHolder(do func(i kmsclient.Identity, ctx context.Context, kind, name, arn string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := arguments(c, "ARN")
		if err != nil {
			return err
		}
		kind, name := kmsapi.KindUser, c.String("user")
		if role := c.String("role"); role != "" {
			if name != "" {
				return usagef(c, "--user and --role exclude each other")
			}
			kind, name = kmsapi.KindRole, role
		}
		if name == "" {
			return usagef(c, "say to whom: --user NAME or --role NAME")
		}
		return withIdentity(c, func(i kmsclient.Identity) error { return do(i, c.Context, kind, name, args[0]) })
	}
}
