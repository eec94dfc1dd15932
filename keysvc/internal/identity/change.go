package identity

import (
	"slices"
	"strings"
	"time"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// The methods of this file return a copy of the entity that is changed as IAM allows
// it, or IAM's refusal. A request that changes nothing returns the entity itself.

// WithInline adds an inline policy, or replaces the one of that name. The text is a
// valid policy.
func (e *Entity) WithInline(name, text string) (*Entity, error) {
	c := e.clone()
	at, found := slices.BinarySearchFunc(c.Inline, name, func(p Inline, name string) int { return strings.Compare(p.Name, name) })
	if found {
		c.Inline[at].Text = text
	} else {
		c.Inline = slices.Insert(c.Inline, at, Inline{name, text})
	}
	limit := MaxUserInlineSize
	if e.Kind == Role {
		limit = MaxRoleInlineSize
	}
	total := 0
	for _, p := range c.Inline {
		total += size(p.Text)
	}
	if total > limit {
		return nil, errorf(kmsapi.CodeEntityLimitExceeded, "Maximum policy size of %d bytes exceeded for %s %s", limit, e.Kind, e.Name)
	}
	return c, nil
}

// InlineNamed finds an inline policy.
func (e *Entity) InlineNamed(name string) (Inline, error) {
	i := slices.IndexFunc(e.Inline, func(p Inline) bool { return p.Name == name })
	if i < 0 {
		return Inline{}, errorf(kmsapi.CodeNoSuchEntity, "The %s policy with name %s cannot be found.", e.Kind, name)
	}
	return e.Inline[i], nil
}

// WithoutInline removes an inline policy.
func (e *Entity) WithoutInline(name string) (*Entity, error) {
	if _, err := e.InlineNamed(name); err != nil {
		return nil, err
	}
	c := e.clone()
	c.Inline = slices.DeleteFunc(c.Inline, func(p Inline) bool { return p.Name == name })
	return c, nil
}

// WithAttached attaches a managed policy.
func (e *Entity) WithAttached(arn string) (*Entity, error) {
	at, found := slices.BinarySearch(e.Attached, arn)
	if found {
		return e, nil
	}
	if len(e.Attached) >= MaxAttached {
		return nil, quota("PoliciesPer"+e.Kind.Title(), MaxAttached)
	}
	c := e.clone()
	c.Attached = slices.Insert(c.Attached, at, arn)
	return c, nil
}

// WithoutAttached detaches a managed policy.
func (e *Entity) WithoutAttached(arn string) (*Entity, error) {
	at, found := slices.BinarySearch(e.Attached, arn)
	if !found {
		return nil, NoSuchPolicy(arn)
	}
	c := e.clone()
	c.Attached = slices.Delete(c.Attached, at, at+1)
	return c, nil
}

// WithBoundary sets the permissions boundary. An empty one removes it.
func (e *Entity) WithBoundary(arn string) (*Entity, error) {
	if arn == "" && e.Boundary == "" {
		return nil, errorf(kmsapi.CodeNoSuchEntity, "%s %s does not have a permissions boundary.", e.Kind.Title(), e.Name)
	}
	c := e.clone()
	c.Boundary = arn
	return c, nil
}

// WithAccessKey adds a new, active access key.
func (e *Entity) WithAccessKey(now time.Time) (*Entity, AccessKey, error) {
	if len(e.AccessKeys) >= MaxAccessKeys {
		return nil, AccessKey{}, quota("AccessKeysPerUser", MaxAccessKeys)
	}
	c := e.clone()
	k := AccessKey{ID: newID(accessKeyIDPrefix, accessKeyIDRandom), Active: true, CreatedAt: now}
	c.AccessKeys = append(c.AccessKeys, k)
	return c, k, nil
}

// WithAccessKeyState switches an access key on or off.
func (e *Entity) WithAccessKeyState(id string, active bool) (*Entity, error) {
	i := e.accessKey(id)
	if i < 0 {
		return nil, NoSuchAccessKey(id)
	}
	c := e.clone()
	c.AccessKeys[i].Active = active
	return c, nil
}

// WithoutAccessKey removes an access key.
func (e *Entity) WithoutAccessKey(id string) (*Entity, error) {
	i := e.accessKey(id)
	if i < 0 {
		return nil, NoSuchAccessKey(id)
	}
	c := e.clone()
	c.AccessKeys = slices.Delete(c.AccessKeys, i, i+1)
	return c, nil
}

func (e *Entity) accessKey(id string) int {
	return slices.IndexFunc(e.AccessKeys, func(k AccessKey) bool { return k.ID == id })
}

// WithTags adds tags, and overwrites those that the entity has.
func (e *Entity) WithTags(tags []Tag) (*Entity, error) {
	merged := slices.Clone(e.Tags)
	for _, t := range tags {
		if i := slices.IndexFunc(merged, func(old Tag) bool { return sameName(old.Key, t.Key) }); i >= 0 {
			merged[i] = t
		} else {
			merged = append(merged, t)
		}
	}
	if len(merged) > MaxTags {
		return nil, quota("TagsPer"+e.Kind.Title(), MaxTags)
	}
	c := e.clone()
	c.Tags = merged
	return c, nil
}

// WithoutTags removes tags. One that the entity does not have is no error.
func (e *Entity) WithoutTags(keys []string) (*Entity, error) {
	c := e.clone()
	c.Tags = slices.DeleteFunc(c.Tags, func(t Tag) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return sameName(key, t.Key) })
	})
	return c, nil
}

// CheckTags applies IAM's rules to the tags of one request.
func CheckTags(tags []Tag) error {
	for i, t := range tags {
		if strings.HasPrefix(strings.ToLower(t.Key), "aws:") {
			return errorf(kmsapi.CodeInvalidInput, "Tag keys that begin with aws: are reserved.")
		}
		if slices.ContainsFunc(tags[:i], func(u Tag) bool { return sameName(t.Key, u.Key) }) {
			return errorf(kmsapi.CodeInvalidInput, "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
	}
	return nil
}

// WithTrust replaces a role's trust policy.
func (e *Entity) WithTrust(trust Bound) (*Entity, error) {
	if size(trust.Text) > MaxTrustSize {
		return nil, quota("ACLSizePerRole", MaxTrustSize)
	}
	c := e.clone()
	c.Trust = &trust
	return c, nil
}

// Deletable refuses to delete an entity that has something.
func (e *Entity) Deletable() error {
	conflict := func(what string) error {
		return errorf(kmsapi.CodeDeleteConflict, "Cannot delete entity, must %s first.", what)
	}
	switch {
	case len(e.AccessKeys) > 0:
		return conflict("delete access keys")
	case len(e.Attached) > 0:
		return conflict("detach all policies")
	case len(e.Inline) > 0:
		return conflict("delete policies")
	}
	return nil
}
