package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// entityCommands are those that there are for users and for roles.
func entityCommands(kind string) []*cli.Command {
	is := strings.ToLower(kind)
	command := func(name, aws, args, usage string, run func(*cli.Context, kmsclient.Identity, []string) error, more ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Aliases: []string{aws}, Usage: usage, ArgsUsage: args,
			Flags: append(more, accountFlag()),
			Action: func(c *cli.Context) error {
				got, err := argumentList(c, strings.Fields(args))
				if err != nil {
					return err
				}
				return withIdentity(c, func(i kmsclient.Identity) error { return run(c, i, got) })
			},
		}
	}
	return []*cli.Command{
		command("show", "get-"+is, "NAME", "show one "+is+" and what it has", func(c *cli.Context, i kmsclient.Identity, args []string) error {
			return entityShow(c, i, kind, args[0])
		}, jsonFlag()),
		command("delete", "delete-"+is, "NAME", "remove a "+is+" that has no policies and access keys any more",
			func(c *cli.Context, i kmsclient.Identity, args []string) error {
				return i.Delete(c.Context, kind, args[0])
			}),
		command("tag", "tag-"+is, "NAME TAG=VALUE...", "attach tags to a "+is, func(c *cli.Context, i kmsclient.Identity, args []string) error {
			tags, err := entityTags(c, args[1:])
			if err != nil {
				return err
			}
			return i.Tag(c.Context, kind, args[0], tags)
		}),
		command("untag", "untag-"+is, "NAME TAG...", "remove tags from a "+is,
			func(c *cli.Context, i kmsclient.Identity, args []string) error {
				return i.Untag(c.Context, kind, args[0], args[1:])
			}),
		command("put-policy", "put-"+is+"-policy", "NAME POLICY FILE", "give a "+is+" a policy of its own, an inline policy",
			func(c *cli.Context, i kmsclient.Identity, args []string) error {
				text, err := readArgument(c, args[2])
				if err != nil {
					return err
				}
				return i.PutInline(c.Context, kind, args[0], args[1], string(text))
			}),
		command("get-policy", "get-"+is+"-policy", "NAME POLICY", "print an inline policy", func(c *cli.Context, i kmsclient.Identity, args []string) error {
			out, err := i.GetInline(c.Context, kind, args[0], args[1])
			if err != nil {
				return err
			}
			if wantsJSON(c) {
				return printJSON(c, withDocument(out, "PolicyDocument", out.PolicyDocument))
			}
			return say(c, "%s", strings.TrimSuffix(out.PolicyDocument, "\n"))
		}, jsonFlag()),
		command("delete-policy", "delete-"+is+"-policy", "NAME POLICY", "remove an inline policy",
			func(c *cli.Context, i kmsclient.Identity, args []string) error {
				return i.DeleteInline(c.Context, kind, args[0], args[1])
			}),
	}
}

// argumentList is arguments for names of which the last may be repeated: NAME TAG...
func argumentList(c *cli.Context, names []string) ([]string, error) {
	last := len(names) - 1
	if more, ok := strings.CutSuffix(names[last], "..."); ok {
		names[last] = more
		for len(names) < c.Args().Len() {
			names = append(names, more)
		}
	}
	return arguments(c, names...)
}

// entityShow prints what a user or a role is and has.
func entityShow(c *cli.Context, i kmsclient.Identity, kind, name string) error {
	out, err := i.Get(c.Context, kind, name)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		if out.Role != nil {
			return printJSON(c, map[string]any{"Role": roleJSON(out.Role)})
		}
		return printJSON(c, out)
	}
	var lines [][2]string
	var boundary *kmsapi.AttachedPermissionsBoundary
	var tags []kmsapi.EntityTag
	if u := out.User; u != nil {
		lines = append(lines, [2]string{"User", u.UserName}, [2]string{"ARN", u.Arn}, [2]string{"ID", u.UserID}, [2]string{"Created", date(u.CreateDate)})
		boundary, tags = u.PermissionsBoundary, u.Tags
	} else {
		r := out.Role
		lines = append(lines, [2]string{"Role", r.RoleName}, [2]string{"ARN", r.Arn}, [2]string{"ID", r.RoleID}, [2]string{"Created", date(r.CreateDate)},
			[2]string{"Description", r.Description})
		boundary, tags = r.PermissionsBoundary, r.Tags
	}
	attached, err := i.AllAttached(c.Context, kind, name)
	if err != nil {
		return err
	}
	for _, p := range attached {
		lines = append(lines, [2]string{"Attached policy", p.PolicyArn})
	}
	inline, err := i.AllInline(c.Context, kind, name)
	if err != nil {
		return err
	}
	for _, p := range inline {
		lines = append(lines, [2]string{"Inline policy", p})
	}
	if boundary != nil {
		lines = append(lines, [2]string{"Boundary", boundary.PermissionsBoundaryArn})
	}
	for _, t := range tags {
		lines = append(lines, [2]string{"Tag", t.TagKey + "=" + t.TagValue})
	}
	return facts(c, lines...)
}
