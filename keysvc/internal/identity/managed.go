package identity

import (
	"slices"
	"strconv"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Policy is a customer managed policy, as it is stored.
type Policy struct {
	Schema      int
	ID          string
	Account     string
	Path        string
	Name        string
	Description string `json:",omitempty"`
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Tags        []Tag     `json:",omitempty"`
	Default     string    // the version that counts
	Last        int       // the number of the newest version that there ever was
	Versions    []Version // oldest first
}

// Version is a version of a managed policy. It does not change.
type Version struct {
	ID        string // v1
	Text      string
	CreatedAt time.Time
}

// ARN is the policy's: arn:aws:iam::ACCOUNT:policy/PATH/NAME.
func (p *Policy) ARN() string { return PolicyARN(p.Account, p.Path, p.Name) }

// PolicyARN is what a managed policy is called.
func PolicyARN(account, path, name string) string { return ARN(account, "policy"+path+name) }

// Version finds a version by its id.
func (p *Policy) Version(id string) (Version, bool) {
	i := slices.IndexFunc(p.Versions, func(v Version) bool { return v.ID == id })
	if i < 0 {
		return Version{}, false
	}
	return p.Versions[i], true
}

// compile parses the default version.
func (p *Policy) compile() (*policy.Document, error) {
	v, _ := p.Version(p.Default) // none does not parse
	return policy.Parse(policy.IdentityPolicy, []byte(v.Text))
}

// NewPolicy returns a managed policy with a new unique id and one version. The caller has
// checked the names, and that the text is a policy.
func NewPolicy(account, path, name, text string, now time.Time) (*Policy, error) {
	p := &Policy{ID: newID(policyIDPrefix, entityIDRandom), Account: account, Path: path, Name: name, CreatedAt: now}
	return p.WithVersion(text, true, now)
}

// WithVersion is the policy with one more version.
func (p *Policy) WithVersion(text string, asDefault bool, now time.Time) (*Policy, error) {
	if size(text) > MaxPolicySize {
		return nil, quota("PolicySize", MaxPolicySize)
	}
	if len(p.Versions) >= MaxVersions {
		return nil, errorf(kmsapi.CodeEntityLimitExceeded,
			"A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", MaxVersions)
	}
	c := *p
	c.Last++
	v := Version{ID: "v" + strconv.Itoa(c.Last), Text: text, CreatedAt: now}
	c.Versions = append(slices.Clone(p.Versions), v)
	c.UpdatedAt = now
	if asDefault {
		c.Default = v.ID
	}
	return &c, nil
}

// WithDefault is the policy with another default version.
func (p *Policy) WithDefault(id string, now time.Time) (*Policy, error) {
	if _, ok := p.Version(id); !ok {
		return nil, p.noSuchVersion(id)
	}
	c := *p
	c.Default, c.UpdatedAt = id, now
	return &c, nil
}

// WithoutVersion is the policy without one of its versions.
func (p *Policy) WithoutVersion(id string, now time.Time) (*Policy, error) {
	if _, ok := p.Version(id); !ok {
		return nil, p.noSuchVersion(id)
	}
	if id == p.Default {
		return nil, errorf(kmsapi.CodeDeleteConflict, "Cannot delete the default version of a policy.")
	}
	c := *p
	c.UpdatedAt = now
	c.Versions = slices.DeleteFunc(slices.Clone(p.Versions), func(v Version) bool { return v.ID == id })
	return &c, nil
}

// NamedVersion is Version with IAM's refusal.
func (p *Policy) NamedVersion(id string) (Version, error) {
	v, ok := p.Version(id)
	if !ok {
		return v, p.noSuchVersion(id)
	}
	return v, nil
}

func (p *Policy) noSuchVersion(id string) error {
	return errorf(kmsapi.CodeNoSuchEntity, "Policy %s version %s does not exist or is not attachable.", p.ARN(), id)
}

// Deletable refuses to delete a policy that has more than its default version.
func (p *Policy) Deletable() error {
	if len(p.Versions) > 1 {
		return errorf(kmsapi.CodeDeleteConflict,
			"This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
	}
	return nil
}
