package policy

import "strings"

// Kind is what a policy is attached to, which decides what it may say.
type Kind int

const (
	// KeyPolicy is a KMS key's: every statement has a Principal or NotPrincipal. A
	// statement without Action or Resource is accepted and has no effect, as in AWS.
	KeyPolicy Kind = iota
	// IdentityPolicy is a user's or a role's, a permissions boundary or a session
	// policy: no principals.
	IdentityPolicy
	// TrustPolicy is a role's AssumeRolePolicyDocument: principals and sts: actions,
	// no resources.
	TrustPolicy
)

func (k Kind) String() string {
	return [...]string{"key policy", "identity-based policy", "role trust policy"}[k]
}

// A Document is a policy, ready to be evaluated. It does not change.
type Document struct {
	kind       Kind
	text       string
	version    string
	id         string
	statements []Statement
	asks       keySet // the keys that conditions and policy variables name
	coverage   *coverage
}

// The versions of the policy language. Without a Version a policy is of the first.
const (
	Version2008 = "2008-10-17"
	Version2012 = "2012-10-17" // has policy variables
)

// Kind is what the policy was parsed as.
func (d *Document) Kind() Kind { return d.kind }

// Text is the policy as it was given, byte for byte.
func (d *Document) Text() string { return d.text }

// Version is the language's version, [Version2008] or [Version2012].
func (d *Document) Version() string { return d.version }

// ID is the policy's Id, often empty.
func (d *Document) ID() string { return d.id }

// Statements are in the order of the text.
func (d *Document) Statements() []Statement { return d.statements }

// Parse reads a policy and prepares it for evaluation ("Grammar of the IAM JSON
// policy language"; "Creating a key policy" for key policies). The caller bounds its
// size.
//
// It is strict: what AWS would ignore, read in two ways or never match is a fault,
// because whoever wrote it meant something. The error is [Faults], with all
// faults that could be told; what is not JSON, or has characters that no policy may
// have, has one.
func Parse(kind Kind, text []byte) (*Document, error) {
	faults := &faultList{text: string(text)}
	if !checkCharacters(faults) {
		return nil, faults.err()
	}
	root := readJSON(faults.text, faults)
	if root == nil {
		return nil, faults.err()
	}
	r := &reader{kind: kind, faults: faults}
	d := r.document(root)
	if err := faults.err(); err != nil {
		return nil, err
	}
	return d, nil
}

// checkCharacters allows what the API's type of policies allows: tab, line feed,
// carriage return and U+0020 to U+00FF. Other characters can be written as \uXXXX.
func checkCharacters(faults *faultList) bool {
	for i, c := range faults.text {
		if c > 0xff || c < ' ' && strings.IndexByte("\t\n\r", byte(c)) < 0 {
			faults.add(i, "a policy has no such character: write it as a \\u escape")
			return false
		}
	}
	return true
}

// reader turns JSON into a Document.
type reader struct {
	kind   Kind
	faults *faultList
	syntax syntax // of the values in this policy
	sids   map[string]bool
}

func (r *reader) document(n *node) *Document {
	d := &Document{kind: r.kind, text: r.faults.text, version: Version2008, coverage: new(coverage)}
	if n.kind != objectNode {
		r.faults.add(n.off, "a policy is an object, not %s", n.kind)
		return nil
	}
	var statement *node
	for _, m := range n.members {
		switch m.name {
		case "Version":
			if s, ok := r.string(m.value, "Version"); ok {
				if d.version = s; s != Version2008 && s != Version2012 {
					r.faults.add(m.value.off, "unknown Version %s: there are 2012-10-17 and 2008-10-17", quote(s))
				}
			}
		case "Id":
			d.id, _ = r.string(m.value, "Id")
			if r.kind == IdentityPolicy {
				r.faults.add(m.off, "an identity-based policy has no Id")
			}
		case "Statement":
			statement = m.value
		default:
			r.faults.add(m.off, "unknown element %s: a policy has Version, Id and Statement", quote(m.name))
		}
	}
	r.syntax = syntax{policy: d, variables: d.version == Version2012}
	r.sids = map[string]bool{}
	if statement == nil {
		r.faults.add(n.off, "the policy has no Statement")
		return nil
	}
	for _, item := range r.list(statement) {
		if item.kind != objectNode {
			r.faults.add(item.off, "a statement is an object, not %s", item.kind)
			continue
		}
		d.statements = append(d.statements, r.statement(item))
	}
	if len(d.statements) == 0 {
		r.faults.add(statement.off, "the policy has no statement")
	}
	return d
}

// list is an array's items, or the one value.
func (r *reader) list(n *node) []*node {
	if n.kind == arrayNode {
		return n.items
	}
	return []*node{n}
}

func (r *reader) string(n *node, element string) (string, bool) {
	if n.kind != stringNode {
		r.faults.add(n.off, "%s is a string, not %s", element, n.kind)
		return "", false
	}
	return n.text, true
}

// strings are one string or an array of at least one.
func (r *reader) strings(n *node, element string) []*node {
	var out []*node
	for _, item := range r.list(n) {
		if _, ok := r.string(item, element); ok {
			out = append(out, item)
		}
	}
	if n.kind == arrayNode && len(n.items) == 0 {
		r.faults.add(n.off, "an empty list of %ss", element)
	}
	return out
}

// A Resolver gives the unique id of a principal that a policy names: AIDA... of a user,
// AROA... of a role, AROA...:SESSION of a session. An empty id keeps the comparison by
// name. Not ok means that there is no such principal.
type Resolver func(p NamedPrincipal) (id string, ok bool)

// Principals are the entries of all Principal and NotPrincipal elements, in the
// order of the text.
func (d *Document) Principals() []NamedPrincipal {
	var out []NamedPrincipal
	for i := range d.statements {
		for _, p := range d.statements[i].principals {
			out = append(out, p.NamedPrincipal)
		}
	}
	return out
}

// Bind is the policy with its principals replaced by their unique ids, as IAM does when
// a policy is saved ("AWS JSON policy elements: Principal"): from then on names do not
// count. The service binds a policy when it is put, keeps the ids beside the text,
// and binds to those whenever it loads the policy. The resolver is asked about
// every entry but "*". The error is [Faults], one for each that is not ok.
func (d *Document) Bind(resolve Resolver) (*Document, error) {
	faults := &faultList{text: d.text}
	bound := *d
	bound.coverage = new(coverage) // other principals than those of d
	bound.statements = make([]Statement, len(d.statements))
	for i, s := range d.statements {
		s.principals = append([]principal(nil), s.principals...)
		for j := range s.principals {
			p := &s.principals[j]
			if p.Kind == AnyPrincipal {
				continue
			}
			var ok bool
			if p.id, ok = resolve(p.NamedPrincipal); !ok {
				faults.add(p.off, "there is no principal %s", quote(p.Value))
			}
		}
		bound.statements[i] = s
	}
	if err := faults.err(); err != nil {
		return nil, err
	}
	return &bound, nil
}
