package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func grantCommand() *cli.Command {
	dryRun := &cli.BoolFlag{Name: "dry-run", Usage: "ask whether it would be allowed, and change nothing"}
	return &cli.Command{
		Name:  "grant",
		Usage: "let somebody use a key, for some operations",
		Description: `A grant gives one principal some operations with one key, and can bind them to an
encryption context. It counts at once and until it is revoked or retired. PRINCIPAL is
the ARN of an account, a user, a role or a session, or the number of a user of this
machine.`,
		Subcommands: []*cli.Command{
			{
				Name:      "create",
				Aliases:   []string{"create-grant"},
				Usage:     "let a principal use a key",
				ArgsUsage: "KEY PRINCIPAL",
				Description: `Prints the grant's id, and a token that retires it.

Example, for the files below /public of a volume:
   kmsfs grant create --operations Decrypt,GenerateDataKey \
      --context-subset kmsfs:volume=vol-0123456789abcdef0 alias/project-x 1000`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "operations", Required: true, Usage: "what the grant permits: `NAME`[,NAME...], as in Decrypt,DescribeKey"},
					&cli.StringSliceFlag{Name: "context-subset", Usage: "only with an encryption context that has `NAME=VALUE`; may be repeated"},
					&cli.StringSliceFlag{Name: "context-equals", Usage: "only with an encryption context of `NAME=VALUE`, and the others given like it, and no more"},
					&cli.StringFlag{Name: "retiring-principal", Usage: "who may retire the grant: `PRINCIPAL`"},
					&cli.StringFlag{Name: "name", Usage: "make it once: a repetition with the same `NAME` finds the first one"},
					dryRun,
					jsonFlag(),
				},
				Action: grantCreate,
			},
			{
				Name:      "list",
				Aliases:   []string{"list-grants"},
				Usage:     "list the grants on a key",
				ArgsUsage: "KEY",
				Description: `Example:
   kmsfs grant list --grantee 1000 alias/project-x`,
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "grantee", Usage: "only those to `PRINCIPAL`"},
					jsonFlag(),
				},
				Action: grantList,
			},
			{
				Name:      "list-retirable",
				Aliases:   []string{"list-retirable-grants"},
				Usage:     "list the grants that a principal may retire as their retiring principal",
				ArgsUsage: "PRINCIPAL",
				Description: `Example:
   kmsfs grant list-retirable arn:aws:iam::000000000000:user/local/1000`,
				Flags:  []cli.Flag{jsonFlag()},
				Action: grantListRetirable,
			},
			{
				Name:      "revoke",
				Aliases:   []string{"revoke-grant"},
				Usage:     "delete a grant, as somebody whom the key's policy lets",
				ArgsUsage: "KEY GRANT-ID",
				Description: `Example:
   kmsfs grant revoke alias/project-x 0123...`,
				Flags:  []cli.Flag{dryRun},
				Action: grantRevoke,
			},
			{
				Name:      "retire",
				Aliases:   []string{"retire-grant"},
				Usage:     "delete a grant, as somebody whom the grant lets",
				ArgsUsage: "TOKEN | KEY GRANT-ID",
				Description: `The retiring principal may, the grantee if the operations include RetireGrant, and the
account that created the grant.

Example:
   kmsfs grant retire AQEj...`,
				Flags:  []cli.Flag{dryRun},
				Action: grantRetire,
			},
		},
	}
}

func grantCreate(c *cli.Context) error {
	args, err := arguments(c, "KEY", "PRINCIPAL")
	if err != nil {
		return err
	}
	in := &kmsapi.CreateGrantInput{
		GranteePrincipal: principalARN(args[1]),
		Operations:       strings.Split(c.String("operations"), ","),
		DryRun:           c.Bool("dry-run"),
	}
	if name := c.String("name"); name != "" {
		in.Name = &name
	}
	if p := c.String("retiring-principal"); p != "" {
		arn := principalARN(p)
		in.RetiringPrincipal = &arn
	}
	subset, err := contextFlag(c, "context-subset")
	if err != nil {
		return err
	}
	equals, err := contextFlag(c, "context-equals")
	if err != nil {
		return err
	}
	if subset != nil && equals != nil {
		return usagef(c, "--context-subset and --context-equals exclude each other")
	}
	if subset != nil || equals != nil {
		in.Constraints = &kmsapi.GrantConstraints{EncryptionContextSubset: subset, EncryptionContextEquals: equals}
	}
	return withKeyID(c, args[0], func(client *kmsclient.Client, keyID string) error {
		in.KeyID = keyID
		out, err := client.CreateGrant(c.Context, in)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		return facts(c, [2]string{"Grant", out.GrantID}, [2]string{"Token", out.GrantToken})
	})
}

// contextFlag reads a flag of NAME=VALUE pairs; nil when it is not given.
func contextFlag(c *cli.Context, flag string) (pairs map[string]string, err error) {
	for _, arg := range c.StringSlice(flag) {
		name, value, ok := strings.Cut(arg, "=")
		if _, twice := pairs[name]; !ok || name == "" || twice {
			return nil, usagef(c, "--%s: %q is not NAME=VALUE, or names it a second time", flag, arg)
		}
		if pairs == nil {
			pairs = map[string]string{}
		}
		pairs[name] = value
	}
	return pairs, nil
}

func grantList(c *cli.Context) error {
	args, err := arguments(c, "KEY")
	if err != nil {
		return err
	}
	return withKeyID(c, args[0], func(client *kmsclient.Client, keyID string) error {
		grants, err := client.AllGrants(c.Context, keyID, principalARN(c.String("grantee")))
		if err != nil {
			return err
		}
		return printGrants(c, grants)
	})
}

func grantListRetirable(c *cli.Context) error {
	args, err := arguments(c, "PRINCIPAL")
	if err != nil {
		return err
	}
	return withClient(c, func(client *kmsclient.Client) error {
		grants, err := client.AllRetirableGrants(c.Context, principalARN(args[0]))
		if err != nil {
			return err
		}
		return printGrants(c, grants)
	})
}

func printGrants(c *cli.Context, grants []kmsapi.GrantListEntry) error {
	if wantsJSON(c) {
		return printJSON(c, kmsapi.ListGrantsOutput{Grants: grants})
	}
	rows := make([][]string, 0, len(grants))
	for _, g := range grants {
		key := g.KeyID[strings.LastIndexByte(g.KeyID, '/')+1:]
		rows = append(rows, []string{g.GrantID, key, moment(g.CreationDate), g.GranteePrincipal, strings.Join(g.Operations, ","), constraintText(g.Constraints), g.Name})
	}
	return table(c, []string{"GRANT", "KEY", "CREATED", "GRANTEE", "OPERATIONS", "CONTEXT", "NAME"}, rows)
}

// constraintText is a constraint in a cell of a table.
func constraintText(g *kmsapi.GrantConstraints) string {
	if g == nil {
		return "any"
	}
	word, pairs := "has", g.EncryptionContextSubset
	if pairs == nil {
		word, pairs = "is", g.EncryptionContextEquals
	}
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		word += " " + strconv.Quote(name+"="+pairs[name])
	}
	return word
}

func grantRevoke(c *cli.Context) error {
	args, err := arguments(c, "KEY", "GRANT-ID")
	if err != nil {
		return err
	}
	return withKeyID(c, args[0], func(client *kmsclient.Client, keyID string) error {
		return client.RevokeGrant(c.Context, &kmsapi.RevokeGrantInput{KeyID: keyID, GrantID: args[1], DryRun: c.Bool("dry-run")})
	})
}

func grantRetire(c *cli.Context) error {
	if c.Args().Len() == 1 {
		args, err := arguments(c, "TOKEN")
		if err != nil {
			return err
		}
		return withClient(c, func(client *kmsclient.Client) error {
			return client.RetireGrant(c.Context, &kmsapi.RetireGrantInput{GrantToken: &args[0], DryRun: c.Bool("dry-run")})
		})
	}
	args, err := arguments(c, "KEY", "GRANT-ID")
	if err != nil {
		return err
	}
	return withKeyID(c, args[0], func(client *kmsclient.Client, keyID string) error {
		return client.RetireGrant(c.Context, &kmsapi.RetireGrantInput{KeyID: &keyID, GrantID: &args[1], DryRun: c.Bool("dry-run")})
	})
}

// withKeyID is withKeyNamed for those who may not look at the key: only an alias
// has to be looked up.
func withKeyID(c *cli.Context, name string, do func(client *kmsclient.Client, keyID string) error) error {
	if strings.HasPrefix(name, "alias/") || strings.Contains(name, ":alias/") {
		return withKeyNamed(c, name, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error { return do(client, m.Arn) })
	}
	return withClient(c, func(client *kmsclient.Client) error { return do(client, name) })
}

// principalARN is a principal as the API wants it: a number is a user of this machine.
func principalARN(name string) string {
	if uid, err := strconv.ParseUint(name, 10, 32); err == nil {
		return keysvc.LocalUserARN(uint32(uid))
	}
	return name
}
