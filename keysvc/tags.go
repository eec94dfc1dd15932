package keysvc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// tags checks the shape of a list of tags.
func (v *violations) tags(tags []kmsapi.Tag) {
	for i, t := range tags {
		v.text(t.TagKey, fmt.Sprintf("tags.%d.member.tagKey", i+1), 128)
		v.longText(t.TagValue, fmt.Sprintf("tags.%d.member.tagValue", i+1), 256)
	}
}

// checkTags applies the rules beyond the shape to the tags of one request.
func checkTags(tags []kmsapi.Tag) error {
	if len(tags) > kmsapi.MaxTagsPerKey {
		return errorf(kmsapi.CodeTag, "Too many tags")
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		if err := checkTagKey(t.TagKey); err != nil {
			return err
		}
		if seen[t.TagKey] {
			return errorf(kmsapi.CodeTag, "Duplicate tag keys")
		}
		seen[t.TagKey] = true
	}
	return nil
}

func checkTagKey(name string) error {
	if strings.HasPrefix(strings.ToLower(name), "aws:") {
		return errorf(kmsapi.CodeTag, "Tags beginning with aws: are reserved")
	}
	return nil
}

// TagResource adds tags to a key and overwrites those that it has.
func (s *Service) TagResource(_ context.Context, caller Caller, in *kmsapi.TagResourceInput) (*kmsapi.Empty, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	if in.Tags == nil {
		v.add("null", "tags", "Member must not be null")
	}
	v.tags(in.Tags)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	given := func(c *policy.Context) { setRequestTags(c, in.Tags) }
	return s.retag(caller, in.KeyID, kmsapi.OpTagResource, given, func(k *key) ([]kmsapi.Tag, error) {
		tags := slices.Clone(k.record.Tags)
		for _, t := range in.Tags {
			if i := slices.IndexFunc(tags, func(old kmsapi.Tag) bool { return old.TagKey == t.TagKey }); i >= 0 {
				tags[i] = t
			} else {
				tags = append(tags, t)
			}
		}
		if len(tags) > kmsapi.MaxTagsPerKey {
			return nil, errorf(kmsapi.CodeLimitExceeded, "The number of tags for key %s would exceed its limit of %d.", k.arn, kmsapi.MaxTagsPerKey)
		}
		return tags, nil
	})
}

// UntagResource removes tags from a key. One that the key has not is no error.
func (s *Service) UntagResource(_ context.Context, caller Caller, in *kmsapi.UntagResourceInput) (*kmsapi.Empty, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	if in.TagKeys == nil {
		v.add("null", "tagKeys", "Member must not be null")
	}
	for _, name := range in.TagKeys {
		if n := utf8.RuneCountInString(name); n < 1 || n > 128 {
			v.add("'["+strings.Join(in.TagKeys, ", ")+"]'", "tagKeys",
				"Member must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]")
			break
		}
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	for _, name := range in.TagKeys {
		if err := checkTagKey(name); err != nil {
			return nil, err
		}
	}
	given := func(c *policy.Context) { c.SetList("aws:TagKeys", in.TagKeys) }
	return s.retag(caller, in.KeyID, kmsapi.OpUntagResource, given, func(k *key) ([]kmsapi.Tag, error) {
		return slices.DeleteFunc(slices.Clone(k.record.Tags), func(t kmsapi.Tag) bool { return slices.Contains(in.TagKeys, t.TagKey) }), nil
	})
}

// retag gives a key the tags that change returns.
func (s *Service) retag(caller Caller, keyID, action string, conditions func(*policy.Context), change func(*key) ([]kmsapi.Tag, error)) (*kmsapi.Empty, error) {
	err := s.changeKeyIf(caller, keyID, action, conditions, func(k *key) error {
		tags, err := change(k)
		if err != nil || slices.Equal(tags, k.record.Tags) {
			return err
		}
		r := k.record
		r.Tags = tags
		return s.replaceKey(k, r)
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.Empty{}, nil
}

// ListResourceTags returns a page of a key's tags, in the order of their keys.
func (s *Service) ListResourceTags(_ context.Context, caller Caller, in *kmsapi.ListResourceTagsInput) (*kmsapi.ListResourceTagsOutput, error) {
	var v violations
	v.text(in.KeyID, "keyId", kmsapi.MaxKeyID)
	v.number(in.Limit, "limit", 1, 50)
	v.optionalText(in.Marker, "marker", 1024)
	if err := v.err(); err != nil {
		return nil, err
	}
	out := new(kmsapi.ListResourceTagsOutput)
	err := s.readKey(caller, in.KeyID, kmsapi.OpListResourceTags, func(k *key) error {
		name := func(t kmsapi.Tag) string { return t.TagKey }
		tags := slices.SortedFunc(slices.Values(k.record.Tags), func(a, b kmsapi.Tag) int { return strings.Compare(a.TagKey, b.TagKey) })
		list, next, err := page(tags, name, in.Limit, 50, in.Marker)
		if err != nil {
			return err
		}
		out.Tags = append([]kmsapi.Tag{}, list...)
		out.NextMarker, out.Truncated = next, next != ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
