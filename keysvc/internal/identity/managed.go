package identity

import (
	"slices"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
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
func PolicyARN(account, path, name string) string { return arn(account, "policy"+path+name) }

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
