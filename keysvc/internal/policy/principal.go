package policy

import "strings"

// A NamedPrincipal is an entry of a Principal or NotPrincipal element.
type NamedPrincipal struct {
	Kind PrincipalKind
	// Value is the entry as written: an ARN, an account's number, a unique id, a service
	// principal, "*".
	Value string
	// Account is the account of an account, a user, a role or a session.
	Account string
	// Line and Column are where it stands, from 1.
	Line, Column int
}

// PrincipalKind is what an entry names ("AWS JSON policy elements: Principal").
type PrincipalKind int

const (
	AnyPrincipal           PrincipalKind = iota // *
	AccountPrincipal                            // 111122223333, arn:aws:iam::111122223333:root
	UserPrincipal                               // arn:aws:iam::111122223333:user/path/name
	RolePrincipal                               // arn:aws:iam::111122223333:role/path/name
	SessionPrincipal                            // arn:aws:sts::111122223333:assumed-role/role/session
	FederatedUserPrincipal                      // arn:aws:sts::111122223333:federated-user/name
	UniqueIDPrincipal                           // AIDA... or AROA..., a user or role of old
	ServicePrincipal                            // ec2.amazonaws.com
	FederatedPrincipal                          // an identity provider; matches nobody here
	CanonicalUserPrincipal                      // of Amazon S3; matches nobody here
)

// principal is a NamedPrincipal and whom it stood for when the policy was bound.
type principal struct {
	NamedPrincipal
	off int
	// id is what it is bound to, or empty: then names are compared.
	id string
}

// reach is how a Principal element covers a caller. It decides which other policies
// limit what a statement allows ("How AWS enforcement code logic evaluates requests").
type reach int

const (
	none      reach = iota
	byAccount       // the caller's account: IAM policies of the account decide
	byRole          // the caller's role: boundary and session policies limit it
	direct          // the caller itself, or everybody
)

func (p *principal) reach(c *Principal) reach {
	switch p.Kind {
	case AnyPrincipal:
		return direct
	case AccountPrincipal:
		switch {
		case c.Account != p.Account:
			return none
		case c.Type == Account:
			return direct
		}
		return byAccount
	case RolePrincipal:
		if p.is(c.RoleARN, c.RoleID) {
			return byRole
		}
	case UserPrincipal, SessionPrincipal, FederatedUserPrincipal:
		if p.is(c.ARN, c.UniqueID) {
			return direct
		}
	case UniqueIDPrincipal:
		switch p.Value {
		case c.UniqueID:
			return direct
		case c.RoleID:
			return byRole
		}
	case ServicePrincipal:
		if c.Type == Service && c.ARN == p.Value {
			return direct
		}
	}
	return none
}

// is compares ids if the policy is bound, names if it is not.
func (p *principal) is(arn, id string) bool {
	if p.id != "" {
		return p.id == id
	}
	return p.Value == arn
}

// principalReach is the farthest reach of a list, for Principal.
func principalReach(list []principal, c *Principal) reach {
	best := none
	for i := range list {
		best = max(best, list[i].reach(c))
	}
	return best
}

// excepts is for NotPrincipal with Deny. AWS "might validate the account first, then the
// role, and then the assumed-role user" ("AWS JSON policy elements: NotPrincipal"), so
// a caller is an exception only if the list has it and all that it belongs to:
// the account of a user, the account and the role of a session.
func excepts(list []principal, c *Principal) bool {
	var found [direct + 1]bool
	for i := range list {
		if list[i].Kind == AnyPrincipal {
			return true
		}
		found[list[i].reach(c)] = true
	}
	switch c.Type {
	case User, FederatedUser:
		return found[direct] && found[byAccount]
	case AssumedRole:
		return found[direct] && found[byRole] && found[byAccount]
	}
	return found[direct]
}

// readPrincipals reads "*" or {"AWS": ..., "Service": ...}.
func (r *reader) readPrincipals(n *node) []principal {
	if n.text == "*" {
		return []principal{r.principal(n, AnyPrincipal, "")}
	}
	if n.kind != objectNode {
		r.faults.add(n.off, `a principal is "*" or an object such as {"AWS": "arn:aws:iam::111122223333:user/alice"}`)
		return nil
	}
	if len(n.members) == 0 {
		r.faults.add(n.off, "the principal names nobody")
	}
	var list []principal
	for _, m := range n.members {
		read, ok := map[string]func(*node) (principal, bool){
			"AWS": r.readAWSPrincipal, "Service": r.readService, "Federated": r.readFederated, "CanonicalUser": r.readCanonicalUser,
		}[m.name]
		if !ok {
			r.faults.add(m.off, "unknown kind of principal %s: there are AWS, Service, Federated and CanonicalUser", quote(m.name))
			continue
		}
		for _, item := range r.strings(m.value, "principal") {
			p, ok := read(item)
			if !ok {
				r.faults.add(item.off, "invalid principal %s", quote(item.text))
			}
			list = append(list, p)
		}
	}
	return list
}

func (r *reader) principal(n *node, kind PrincipalKind, account string) principal {
	p := principal{NamedPrincipal: NamedPrincipal{Kind: kind, Value: n.text, Account: account}, off: n.off}
	p.Line, p.Column = position(r.faults.text, n.off)
	return p
}

func (r *reader) readAWSPrincipal(n *node) (principal, bool) {
	kind, account, ok := awsPrincipal(n.text)
	return r.principal(n, kind, account), ok
}

// awsPrincipal tells what an entry below "AWS" names.
func awsPrincipal(text string) (kind PrincipalKind, account string, ok bool) {
	switch {
	case text == "*":
		return AnyPrincipal, "", true
	case isAccount(text):
		return AccountPrincipal, text, true
	case isUniqueID(text):
		return UniqueIDPrincipal, "", true
	}
	var parts [6]string
	if !cutARN(text, &parts) || parts[0] != "arn" || !isPartition(parts[1]) || parts[3] != "" || !isAccount(parts[4]) {
		return 0, "", false
	}
	account, resource := parts[4], parts[5]
	first, name, _ := strings.Cut(resource, "/")
	switch parts[2] + ":" + first {
	case "iam:root":
		return AccountPrincipal, account, resource == "root"
	case "iam:user":
		return UserPrincipal, account, isPathAndName(name)
	case "iam:role":
		return RolePrincipal, account, isPathAndName(name)
	case "sts:assumed-role":
		role, session, _ := strings.Cut(name, "/")
		return SessionPrincipal, account, isName(role) && isName(session)
	case "sts:federated-user":
		return FederatedUserPrincipal, account, isName(name)
	}
	return 0, "", false
}

// ParsePrincipal reads a principal that stands alone, as a grant has it: what may stand
// below "AWS" in a policy, except "*", or the name of a service.
func ParsePrincipal(text string) (NamedPrincipal, bool) {
	kind, account, ok := awsPrincipal(text)
	if isService(text) { // which none of the others is
		kind, ok = ServicePrincipal, true
	}
	return NamedPrincipal{Kind: kind, Value: text, Account: account}, ok && kind != AnyPrincipal
}

const (
	digits    = "0123456789"
	letters   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	nameChars = letters + digits + "_+=,.@-"
)

// readService reads the name of a service, as in ec2.amazonaws.com.
func (r *reader) readService(n *node) (principal, bool) {
	return r.principal(n, ServicePrincipal, ""), isService(n.text)
}

func isService(text string) bool {
	labels := strings.Split(text, ".")
	ok := len(labels) > 1
	for _, l := range labels {
		ok = ok && only(l, letters+digits+"-")
	}
	return ok
}

func (r *reader) readFederated(n *node) (principal, bool) {
	return r.principal(n, FederatedPrincipal, ""), only(n.text, nameChars+":/")
}

func (r *reader) readCanonicalUser(n *node) (principal, bool) {
	return r.principal(n, CanonicalUserPrincipal, ""), len(n.text) == 64 && only(n.text, digits+"abcdef")
}

func isAccount(s string) bool { return len(s) == 12 && only(s, digits) }

// isUniqueID knows users' and roles' ids ("IAM identifiers", unique identifiers); the
// API allows 16 to 128 characters.
func isUniqueID(s string) bool {
	return (strings.HasPrefix(s, "AIDA") || strings.HasPrefix(s, "AROA")) && 16 <= len(s) && len(s) <= 128 && only(s, letters[:26]+digits)
}

// isName accepts the names of users, roles and sessions: 1 to 64 characters.
func isName(s string) bool { return len(s) <= 64 && only(s, nameChars) }

// isPathAndName accepts a name after a path: printable ASCII, at most 512 characters.
func isPathAndName(s string) bool {
	i := strings.LastIndexByte(s, '/') + 1
	path := s[:i]
	if len(path) > 511 || strings.Contains("/"+path, "//") || strings.ContainsAny(path, "*?") {
		return false
	}
	for _, c := range []byte(path) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return isName(s[i:])
}

// WithIDs is the policy's text with the unique id in the place of each principal that a
// name does not stand for any more, as AWS shows a policy whose user or role was
// deleted. The resolver says whom names stand for now.
func (d *Document) WithIDs(resolve Resolver) string {
	var out strings.Builder
	rest := 0
	for i := range d.statements {
		for j := range d.statements[i].principals {
			p := &d.statements[i].principals[j]
			if p.id == "" {
				continue
			}
			if id, ok := resolve(p.NamedPrincipal); ok && id == p.id {
				continue
			}
			out.WriteString(d.text[rest:p.off])
			out.WriteString(`"` + p.id + `"`)
			rest = p.off + stringLen(d.text[p.off:])
		}
	}
	out.WriteString(d.text[rest:])
	return out.String()
}

// stringLen is the length of the JSON string that text begins with.
func stringLen(text string) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}
