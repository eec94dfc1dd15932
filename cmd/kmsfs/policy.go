package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func policyCommand() *cli.Command {
	return &cli.Command{
		Name:  "policy",
		Usage: "say who may do what",
		Description: `Every KMS key has a key policy. The one that it is born with leaves it to the
account: the owner of the key service may do everything, and others what their own
policies allow: managed policies, which are attached to them, and inline ones ("kmsfs
user put-policy"). FILE is a policy in IAM's language, "-" is standard input.`,
		Subcommands: slices.Concat(keyPolicyCommands(), identityPolicyCommands()),
	}
}

func keyPolicyCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name:      "get",
			Aliases:   []string{"get-key-policy"},
			Usage:     "print a key's policy",
			ArgsUsage: "KEY",
			Description: `Example:
   kmsfs policy get alias/project-x > policy.json`,
			Flags:  []cli.Flag{jsonFlag()},
			Action: policyGet,
		},
		{
			Name:      "put",
			Aliases:   []string{"put-key-policy"},
			Usage:     "replace a key's policy",
			ArgsUsage: "KEY FILE",
			Description: `The policy counts from the next request on. One that would keep you from replacing
it again is refused.

Example:
   kmsfs policy put alias/project-x policy.json`,
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "bypass-policy-lockout-safety-check", Usage: "accept a policy that you cannot replace again"},
			},
			Action: policyPut,
		},
		{
			Name:      "list",
			Aliases:   []string{"list-key-policies"},
			Usage:     "list the names of a key's policies, which is one",
			ArgsUsage: "KEY",
			Description: `Example:
   kmsfs policy list alias/project-x`,
			Flags:  []cli.Flag{jsonFlag()},
			Action: policyList,
		},
		{
			Name:      "check",
			Usage:     "find the faults of a policy without sending it",
			ArgsUsage: "FILE",
			Description: `Prints FILE:LINE:COLUMN and what is wrong there, and exits with 1 if anything is.
Whether the principals exist is known to the key service only.

Example:
   kmsfs policy check policy.json`,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "type", Usage: "what the policy is for: `key`, identity or trust; by default what it looks like most"},
				jsonFlag(),
			},
			Action: policyCheck,
		},
	}
}

func policyGet(c *cli.Context) error {
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		out, err := client.GetKeyPolicy(c.Context, m.Arn)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		return say(c, "%s", strings.TrimSuffix(out.Policy, "\n"))
	})
}

func policyPut(c *cli.Context) error {
	args, err := arguments(c, "KEY", "FILE")
	if err != nil {
		return err
	}
	text, err := readArgument(c, args[1])
	if err != nil {
		return err
	}
	return withKeyNamed(c, args[0], func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		return client.PutKeyPolicy(c.Context, m.Arn, string(text), c.Bool("bypass-policy-lockout-safety-check"))
	})
}

func policyList(c *cli.Context) error {
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		out, err := client.ListKeyPolicies(c.Context, m.Arn)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, out)
		}
		rows := [][]string{}
		for _, name := range out.PolicyNames {
			rows = append(rows, []string{name})
		}
		return table(c, []string{"POLICY"}, rows)
	})
}

func policyCheck(c *cli.Context) error {
	args, err := arguments(c, "FILE")
	if err != nil {
		return err
	}
	text, err := readArgument(c, args[0])
	if err != nil {
		return err
	}
	check, err := keysvc.CheckPolicy(c.String("type"), text)
	if err != nil {
		return usagef(c, "--type: %w", err)
	}
	name := args[0]
	switch {
	case wantsJSON(c):
		err = printJSON(c, check)
	case len(check.Faults) == 0:
		err = say(c, "%s: no faults in this %s policy", name, check.PolicyType)
	default:
		for _, f := range check.Faults {
			if err = say(c, "%s:%d:%d: %s", name, f.Line, f.Column, f.Message); err != nil {
				break
			}
		}
	}
	if n := len(check.Faults); err == nil && n > 0 {
		return fmt.Errorf("%s: faults in this %s policy: %d", name, check.PolicyType, n)
	}
	return err
}

// readArgument reads the file that an argument names; "-" is standard input.
func readArgument(c *cli.Context, name string) ([]byte, error) {
	const most = 1 << 20
	var text []byte
	var err error
	if name == "-" {
		text, err = io.ReadAll(io.LimitReader(c.App.Reader, most+1))
	} else {
		text, err = os.ReadFile(name)
	}
	switch {
	case err != nil:
		return nil, err
	case len(text) > most:
		return nil, fmt.Errorf("%s is larger than any policy", name)
	}
	return text, nil
}
