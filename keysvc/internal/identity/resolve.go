package identity

import (
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// Resolve gives the unique id of a principal that a policy names, and says whether
// there is such a principal. It is a policy.Resolver.
func (d *Directory) Resolve(p policy.NamedPrincipal) (id string, ok bool) {
	switch p.Kind {
	case policy.AnyPrincipal:
		return "", true
	case policy.AccountPrincipal:
		return "", true // every account exists, with its root user at least
	case policy.UserPrincipal:
		return d.named(User, p)
	case policy.RolePrincipal:
		return d.named(Role, p)
	case policy.SessionPrincipal:
		return d.session(p)
	case policy.FederatedUserPrincipal:
		return "", true // exists once somebody asks for it
	case policy.UniqueIDPrincipal:
		return p.Value, d.WithID(p.Value) != nil
	case policy.ServicePrincipal:
		return "", strings.HasSuffix(p.Value, ".amazonaws.com")
	}
	return "", false // identity providers and S3's canonical users: there are none
}

// named finds an entity by its ARN: the path must be the right one, too.
func (d *Directory) named(kind Kind, p policy.NamedPrincipal) (string, bool) {
	e := d.Find(kind, p.Account, NameIn(p.Value))
	if e == nil || e.ARN() != p.Value {
		return "", false
	}
	return e.ID, true
}

// session is of a role that exists: arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION.
func (d *Directory) session(p policy.NamedPrincipal) (string, bool) {
	_, names, _ := strings.Cut(p.Value, "/")
	role, session, _ := strings.Cut(names, "/")
	e := d.Find(Role, p.Account, role)
	if e == nil || e.Name != role {
		return "", false
	}
	return e.ID + ":" + session, true
}
