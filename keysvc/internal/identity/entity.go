package identity

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// Kind tells users from roles, in the words of their ARNs.
type Kind string

const (
	User Kind = "user"
	Role Kind = "role"
)

// Entity is a user or a role, as it is stored.
type Entity struct {
	Schema      int
	Kind        Kind
	ID          string
	Account     string
	Path        string // begins and ends with /
	Name        string
	Description string `json:",omitempty"` // of a role
	CreatedAt   time.Time
	Tags        []Tag       `json:",omitempty"`
	Inline      []Inline    `json:",omitempty"` // by name
	Attached    []string    `json:",omitempty"` // ARNs of managed policies, by ARN
	Boundary    string      `json:",omitempty"` // ARN of a managed policy
	AccessKeys  []AccessKey `json:",omitempty"` // of a user, oldest first

	// Of a role: who may assume it, and for how many seconds.
	Trust      *Bound `json:",omitempty"`
	MaxSession int    `json:",omitempty"`
}

// Tag is a user's or a role's tag. Keys differ in more than letter case.
type Tag struct{ Key, Value string }

// Inline is a policy that is a part of an entity.
type Inline struct{ Name, Text string }

// AccessKey is what is known of an access key, without its secret.
type AccessKey struct {
	ID        string
	Active    bool
	CreatedAt time.Time
}

// NewEntity returns a user or a role with a new unique id. The caller has checked
// the names.
func NewEntity(kind Kind, account, path, name string, now time.Time) *Entity {
	prefix := userIDPrefix
	if kind == Role {
		prefix = roleIDPrefix
	}
	return &Entity{Kind: kind, ID: newID(prefix, entityIDRandom), Account: account, Path: path, Name: name, CreatedAt: now}
}

// ARN is the entity's: arn:aws:iam::ACCOUNT:user/PATH/NAME.
func (e *Entity) ARN() string { return ARN(e.Account, string(e.Kind)+e.Path+e.Name) }

// ARN is what IAM calls resource, which begins with its kind.
func ARN(account, resource string) string { return "arn:aws:iam::" + account + ":" + resource }

// Principal is the caller that a user is.
func (e *Entity) Principal() policy.Principal {
	return policy.Principal{
		Type: policy.User, ARN: e.ARN(), Account: e.Account,
		UniqueID: e.ID, Username: e.Name, Tags: e.tags(),
	}
}

// tags are as a policy.Principal has them: nil without any.
func (e *Entity) tags() map[string]string {
	if len(e.Tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(e.Tags))
	for _, t := range e.Tags {
		m[t.Key] = t.Value
	}
	return m
}

// clone is a copy whose lists may be changed.
func (e *Entity) clone() *Entity {
	c := *e
	c.Tags, c.Inline = slices.Clone(e.Tags), slices.Clone(e.Inline)
	c.Attached, c.AccessKeys = slices.Clone(e.Attached), slices.Clone(e.AccessKeys)
	return &c
}

// uses tells whether the entity has the managed policy, attached or as boundary.
func (e *Entity) uses(policyARN string) bool {
	return e.Boundary == policyARN || slices.Contains(e.Attached, policyARN)
}

// Bound is a policy that names principals, and the unique ids that these had when
// it was put. A name that is given again later is somebody else's.
type Bound struct {
	Text string
	IDs  map[string]string `json:",omitempty"` // of the principals as written; "" is compared by name
}

// Bind ties a parsed policy to the principals that there are. The error is
// policy.Faults, one for each that does not exist.
func Bind(d *policy.Document, resolve policy.Resolver) (*policy.Document, Bound, error) {
	b := Bound{Text: d.Text(), IDs: map[string]string{}}
	bound, err := d.Bind(func(p policy.NamedPrincipal) (string, bool) {
		id, ok := resolve(p)
		b.IDs[p.Value] = id
		return id, ok
	})
	if err != nil {
		return nil, Bound{}, err
	}
	if len(b.IDs) == 0 {
		b.IDs = nil // as it will be read again
	}
	return bound, b, nil
}

// Load is the policy as it was bound, whoever exists now.
func (b Bound) Load(kind policy.Kind) (*policy.Document, error) {
	d, err := policy.Parse(kind, []byte(b.Text))
	if err != nil {
		return nil, err
	}
	return d.Bind(func(p policy.NamedPrincipal) (string, bool) {
		id, ok := b.IDs[p.Value]
		return id, ok
	})
}

// compile parses the entity's own policies.
func (e *Entity) compile() ([]*policy.Document, error) {
	docs := make([]*policy.Document, 0, len(e.Inline)+len(e.Attached))
	for _, p := range e.Inline {
		d, err := policy.Parse(policy.IdentityPolicy, []byte(p.Text))
		if err != nil {
			return nil, fmt.Errorf("inline policy %s of %s: %w", p.Name, e.ARN(), err)
		}
		docs = append(docs, d)
	}
	return docs, nil
}

// sameName compares names as IAM keeps them apart: not by letter case.
func sameName(a, b string) bool { return strings.EqualFold(a, b) }
