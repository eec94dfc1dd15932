package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

func keyTagCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name:      "update-description",
			Aliases:   []string{"update-key-description"},
			Usage:     "say anew what a key is for",
			ArgsUsage: "KEY TEXT",
			Description: `Example:
   kmsfs key update-description alias/project-x "project X, until 2030"`,
			Action: keyUpdateDescription,
		},
		{
			Name:      "tag",
			Aliases:   []string{"tag-resource"},
			Usage:     "attach tags to a key",
			ArgsUsage: "KEY TAG=VALUE...",
			Description: `A tag that the key has already gets the new value. A key has 50 tags at most.

Example:
   kmsfs key tag alias/project-x team=storage env=test`,
			Action: keyTag,
		},
		{
			Name:      "untag",
			Aliases:   []string{"untag-resource"},
			Usage:     "remove tags from a key",
			ArgsUsage: "KEY TAG...",
			Description: `Example:
   kmsfs key untag alias/project-x env`,
			Action: keyUntag,
		},
		{
			Name:      "tags",
			Aliases:   []string{"list-resource-tags"},
			Usage:     "list a key's tags",
			ArgsUsage: "KEY",
			Description: `Example:
   kmsfs key tags alias/project-x`,
			Flags:  []cli.Flag{jsonFlag()},
			Action: keyTags,
		},
		{
			Name:      "last-usage",
			Aliases:   []string{"get-key-last-usage"},
			Usage:     "show when a key was last used, and for what",
			ArgsUsage: "KEY",
			Description: `Shows the last successful use of the key's material. It is written to the disk a
minute later, so that a key service which is killed forgets its last minute.

A key that has not been used for long may still be needed for an old backup: disable it
and wait before you delete it.

Example:
   kmsfs key last-usage alias/project-x`,
			Flags:  []cli.Flag{jsonFlag()},
			Action: keyLastUsage,
		},
	}
}

func keyUpdateDescription(c *cli.Context) error {
	args, err := arguments(c, "KEY", "TEXT")
	if err != nil {
		return err
	}
	return withKeyNamed(c, args[0], func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		return client.UpdateKeyDescription(c.Context, m.KeyID, args[1])
	})
}

// keyAndMore takes a key and at least one more argument.
func keyAndMore(c *cli.Context, more string) (key string, rest []string, err error) {
	n := c.Args().Len()
	names := []string{"KEY", more}
	for len(names) < n {
		names = append(names, more)
	}
	args, err := arguments(c, names...)
	if err != nil {
		return "", nil, err
	}
	return args[0], args[1:], nil
}

func keyTag(c *cli.Context) error {
	key, rest, err := keyAndMore(c, "TAG=VALUE")
	if err != nil {
		return err
	}
	tags := make([]kmsapi.Tag, 0, len(rest))
	for _, arg := range rest {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return usagef(c, "%q is not TAG=VALUE", arg)
		}
		tags = append(tags, kmsapi.Tag{TagKey: name, TagValue: value})
	}
	return withKeyNamed(c, key, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		return client.TagResource(c.Context, m.KeyID, tags)
	})
}

func keyUntag(c *cli.Context) error {
	key, names, err := keyAndMore(c, "TAG")
	if err != nil {
		return err
	}
	return withKeyNamed(c, key, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		return client.UntagResource(c.Context, m.KeyID, names)
	})
}

func keyTags(c *cli.Context) error {
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		tags, err := client.AllTags(c.Context, m.KeyID)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, kmsapi.ListResourceTagsOutput{Tags: tags})
		}
		rows := make([][]string, 0, len(tags))
		for _, t := range tags {
			rows = append(rows, []string{t.TagKey, t.TagValue})
		}
		return table(c, []string{"TAG", "VALUE"}, rows)
	})
}

func keyLastUsage(c *cli.Context) error {
	return withKey(c, func(client *kmsclient.Client, m *kmsapi.KeyMetadata) error {
		u, err := client.GetKeyLastUsage(c.Context, m.KeyID)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return printJSON(c, u)
		}
		last := "never, since " + moment(u.TrackingStartDate)
		if u.KeyLastUsage.Operation != "" {
			last = moment(u.KeyLastUsage.Timestamp) + ", " + u.KeyLastUsage.Operation
		}
		return facts(c, [2]string{"Key", m.KeyID}, [2]string{"Last used", last})
	})
}
