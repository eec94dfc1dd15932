package keysvc

import (
	"fmt"
	"regexp"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/keysvc/internal/identity"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// What IAM's model says of the members of its actions.
const (
	maxPolicyText = 131072
	maxARN        = 2048
	maxIAMItems   = 1000
	iamItems      = 100 // a page, if the request does not say
	maxMarker     = 1024
)

// madeOf adds IAM's complaint about a member whose characters are wrong.
func (v *violations) madeOf(ok bool, member, chars string) {
	if !ok {
		*v = append(*v, fmt.Sprintf("The specified value for %s is invalid. It must %s", member, chars))
	}
}

const nameRule = "contain only alphanumeric characters and/or the following: +=,.@_-"

// iamName checks a required name.
func (v *violations) iamName(value, member string, limit int) {
	v.text(value, member, limit)
	if value != "" {
		v.madeOf(identity.IsName(value), member, nameRule)
	}
}

func (v *violations) entityName(kind identity.Kind, name string) {
	v.iamName(name, string(kind)+"Name", identity.MaxName)
}

func (v *violations) iamPolicyName(name string) {
	v.iamName(name, "policyName", identity.MaxPolicyName)
}

func (v *violations) policyARN(arn, member string) {
	v.text(arn, member, maxARN)
	if n := utf8.RuneCountInString(arn); n > 0 && n < 20 {
		v.add(quoted(arn), member, "Member must have length greater than or equal to 20")
	}
}

func (v *violations) optionalPolicyARN(arn *string, member string) {
	if arn != nil {
		v.policyARN(*arn, member)
	}
}

func (v *violations) path(path *string) {
	v.optionalText(path, "path", identity.MaxPath)
	if path != nil && *path != "" {
		v.madeOf(identity.IsPath(*path), "path", "begin and end with / and "+nameRule)
	}
}

// paging checks what the actions that list have in common.
func (v *violations) paging(marker *string, items *int) {
	v.optionalText(marker, "marker", maxMarker)
	v.number(items, "maxItems", 1, maxIAMItems)
}

func (v *violations) pathPrefix(prefix *string) {
	v.optionalText(prefix, "pathPrefix", identity.MaxPath)
	if prefix != nil && *prefix != "" {
		v.madeOf(identity.IsPathPrefix(*prefix), "pathPrefix", "begin with / and "+nameRule)
	}
}

var tagPattern = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

func (v *violations) entityTags(tags []kmsapi.EntityTag) {
	if len(tags) > identity.MaxTags {
		v.add(fmt.Sprintf("'[%d tags]'", len(tags)), "tags", fmt.Sprintf("Member must have length less than or equal to %d", identity.MaxTags))
	}
	for i, t := range tags {
		v.text(t.TagKey, fmt.Sprintf("tags.%d.member.key", i+1), 128)
		v.longText(t.TagValue, fmt.Sprintf("tags.%d.member.value", i+1), 256)
		for _, s := range []string{t.TagKey, t.TagValue} {
			if !tagPattern.MatchString(s) {
				v.add(quoted(s), fmt.Sprintf("tags.%d.member", i+1), "Member must satisfy regular expression pattern: "+tagPattern.String())
			}
		}
	}
}

// tagsOf are the tags of a request in the model's terms.
func tagsOf(in []kmsapi.EntityTag) ([]identity.Tag, error) {
	tags := make([]identity.Tag, 0, len(in))
	for _, t := range in {
		tags = append(tags, identity.Tag{Key: t.TagKey, Value: t.TagValue})
	}
	return tags, identity.CheckTags(tags)
}

func showTags(tags []identity.Tag) []kmsapi.EntityTag {
	out := make([]kmsapi.EntityTag, 0, len(tags))
	for _, t := range tags {
		out = append(out, kmsapi.EntityTag{TagKey: t.Key, TagValue: t.Value})
	}
	return out
}

func (v *violations) accessKeyID(id string) {
	v.text(id, "accessKeyId", 128)
	if n := len(id); n > 0 && n < 16 {
		v.add(quoted(id), "accessKeyId", "Member must have length greater than or equal to 16")
	}
}
