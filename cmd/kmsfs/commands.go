package main

import "github.com/urfave/cli/v2"

// commands lists what kmsfs can do, in the order of its help.
func commands() []*cli.Command {
	return []*cli.Command{
		initCommand(),
		mountCommand(),
		unmountCommand(),
		fsckCommand(),
		infoCommand(),
		rewrapCommand(),
		keysvcCommand(),
		keyCommand(),
		aliasCommand(),
		policyCommand(),
		grantCommand(),
		userCommand(),
		roleCommand(),
		auditCommand(),
	}
}
