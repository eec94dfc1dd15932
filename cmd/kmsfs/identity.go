package main

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// What the commands on users, roles and their policies have in common.

func accountFlag() cli.Flag {
	return &cli.StringFlag{Name: "account", Usage: "act as the root user of account `NUMBER`, for the key service's owner and root"}
}

// newEntityFlags are those of the commands that make a user or a role.
func newEntityFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "path", Usage: "put it below `PATH`, as /team/"},
		&cli.StringFlag{Name: "boundary", Usage: "limit it by the managed policy `ARN`"},
		&cli.StringSliceFlag{Name: "tag", Usage: "attach the tag `KEY=VALUE`; may be repeated"},
	}
}

// withIdentity runs do with a connection to the key service.
func withIdentity(c *cli.Context, do func(kmsclient.Identity) error) error {
	return withClient(c, func(client *kmsclient.Client) error { return do(client.Identity(c.String("account"))) })
}

// optional is a flag's value, or nil.
func optional(c *cli.Context, name string) *string {
	if !c.IsSet(name) {
		return nil
	}
	value := c.String(name)
	return &value
}

// entityTags reads KEY=VALUE.
func entityTags(c *cli.Context, args []string) ([]kmsapi.EntityTag, error) {
	tags := make([]kmsapi.EntityTag, 0, len(args))
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || key == "" {
			return nil, usagef(c, "%q is not KEY=VALUE", arg)
		}
		tags = append(tags, kmsapi.EntityTag{TagKey: key, TagValue: value})
	}
	return tags, nil
}

// date formats the time of an event; of one that never was it is empty.
func date(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return moment(float64(t.Unix()))
}

// withDocument is v, a struct, with the policy in one of its members as JSON and not
// as a string of it: so the aws command line prints them.
func withDocument(v any, member, text string) any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // of strings, numbers and dates
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		panic(err)
	}
	members[member] = json.RawMessage(text)
	return members
}
