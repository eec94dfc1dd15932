package policy

import "strings"

// Effect is what a statement that applies does.
type Effect int

const (
	Deny Effect = iota
	Allow
)

func (e Effect) String() string { return [...]string{"Deny", "Allow"}[e] }

// A Statement says who may do what, on what, when.
type Statement struct {
	// Sid is the statement's name, often empty.
	Sid    string
	Effect Effect
	// Line and Column are where the statement starts, from 1.
	Line, Column int

	principals   []principal
	notPrincipal bool // the principals are exceptions
	actions      []pattern
	notAction    bool
	resources    []arnPattern
	notResource  bool
	conditions   []condition
	// noResource is a key policy's statement without Resource, which has no effect;
	// without Action it covers none.
	noResource bool
}

// covers is how the statement reaches a caller who does something, if it applies:
// none if it does not whatever the resource and the conditions. action is in lower case. A
// boundary is a permissions boundary that the caller has.
func (s *Statement) covers(c *Principal, action string, boundary bool) reach {
	if s.noResource || s.matchesAction(action) == s.notAction {
		return none
	}
	switch {
	case s.notPrincipal:
		// AWS: Deny with NotPrincipal "will always deny any IAM principal that has
		// a permissions boundary policy attached".
		if !boundary && excepts(s.principals, c) {
			return none
		}
	case s.principals != nil:
		return principalReach(s.principals, c)
	}
	return direct
}

// applies tells whether a statement that covers the request is about its resource,
// and whether its conditions hold.
func (s *Statement) applies(r *Request) bool {
	if s.resources != nil && s.matchesResource(r) == s.notResource {
		return false
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(&r.Context, s.Effect) {
			return false
		}
	}
	return true
}

func (s *Statement) matchesAction(action string) bool {
	for i := range s.actions {
		if s.actions[i].matches(action, nil) {
			return true
		}
	}
	return false
}

func (s *Statement) matchesResource(r *Request) bool {
	for i := range s.resources {
		if s.resources[i].matches(r.Resource, &r.Context) {
			return true
		}
	}
	return false
}

// statement reads one. What is missing is reported at its start.
func (r *reader) statement(n *node) Statement {
	var s Statement
	s.Line, s.Column = position(r.faults.text, n.off)
	given := map[string]bool{}
	for _, m := range n.members {
		given[m.name] = true
		switch m.name {
		case "Sid":
			s.Sid = r.sid(m.value)
		case "Effect":
			s.Effect = r.effect(m.value)
		case "Principal", "NotPrincipal":
			s.notPrincipal = m.name == "NotPrincipal"
			if r.kind == IdentityPolicy {
				r.faults.add(m.off, "an identity-based policy has no %s: it applies to whom it is attached to", m.name)
			} else {
				s.principals = r.readPrincipals(m.value)
			}
		case "Action", "NotAction":
			s.notAction = m.name == "NotAction"
			s.actions = r.actions(m.value)
		case "Resource", "NotResource":
			s.notResource = m.name == "NotResource"
			if r.kind == TrustPolicy {
				r.faults.add(m.off, "a role trust policy has no %s: it applies to the role", m.name)
			} else {
				s.resources = r.resources(m.value)
			}
		case "Condition":
			s.conditions = r.conditions(m.value)
		default:
			r.faults.add(m.off, "unknown element %s of a statement", quote(m.name))
		}
	}
	r.checkElements(n, given, &s)
	return s
}

func (r *reader) checkElements(n *node, given map[string]bool, s *Statement) {
	for _, name := range []string{"Principal", "Action", "Resource"} {
		if given[name] && given["Not"+name] {
			r.faults.add(n.off, "a statement has either %s or Not%s", name, name)
		}
	}
	if !given["Effect"] {
		r.faults.add(n.off, "the statement has no Effect")
	}
	if r.kind != IdentityPolicy && !given["Principal"] && !given["NotPrincipal"] {
		r.faults.add(n.off, "the statement has no Principal")
	}
	if given["NotPrincipal"] && r.kind == TrustPolicy {
		r.faults.add(n.off, "a role trust policy has no NotPrincipal")
	} else if given["NotPrincipal"] && s.Effect == Allow {
		r.faults.add(n.off, "NotPrincipal goes with Deny only: use Principal, or a condition on aws:PrincipalArn")
	}
	noAction := !given["Action"] && !given["NotAction"]
	noResource := r.kind != TrustPolicy && !given["Resource"] && !given["NotResource"]
	switch {
	case r.kind == KeyPolicy:
		s.noResource = noResource
	case noAction:
		r.faults.add(n.off, "the statement has no Action")
	case noResource:
		r.faults.add(n.off, "the statement has no Resource")
	}
}

// sid reads a Sid: letters and digits, and once in a policy, except in key policies.
func (r *reader) sid(n *node) string {
	sid, _ := r.string(n, "Sid")
	if sid == "" || r.kind == KeyPolicy {
		return sid
	}
	if !only(sid, letters+digits) {
		r.faults.add(n.off, "a Sid has letters and digits only")
	}
	if r.sids[sid] {
		r.faults.add(n.off, "Sid %s is given twice", quote(sid))
	}
	r.sids[sid] = true
	return sid
}

func (r *reader) effect(n *node) Effect {
	switch n.text {
	case "Allow":
		return Allow
	case "Deny":
		return Deny
	}
	r.faults.add(n.off, "Effect is \"Allow\" or \"Deny\"")
	return Deny
}

// actions reads patterns as in "kms:Describe*", or "*". They are kept in lower case.
func (r *reader) actions(n *node) []pattern {
	var out []pattern
	for _, item := range r.strings(n, "action") {
		if wrong := r.checkAction(item.text); wrong != "" {
			r.faults.add(item.off, "action %s %s", quote(item.text), wrong)
		}
		pieces, _ := syntax{wildcards: true}.split(lower(item.text))
		out = append(out, newPattern(pieces))
	}
	return out
}

func (r *reader) checkAction(action string) (wrong string) {
	if action == "*" && r.kind != TrustPolicy {
		return ""
	}
	service, name, ok := strings.Cut(action, ":")
	switch {
	case !ok:
		return "must begin with a service, as in kms:Decrypt"
	case service != "*" && !only(service, letters+digits+"-."):
		return "has a malformed service"
	case !only(name, letters+digits+"-_*?"):
		return "has a malformed name: letters and the wildcards * and ?"
	case r.kind == TrustPolicy && !strings.EqualFold(service, "sts"):
		return "is not an sts: action, as all of a role trust policy are"
	}
	return ""
}

func (r *reader) resources(n *node) []arnPattern {
	x := r.syntax
	x.wildcards = true
	var out []arnPattern
	for _, item := range r.strings(n, "resource") {
		p, wrong := newResource(item.text, x)
		if wrong != "" {
			r.faults.add(item.off, "%s", wrong)
		}
		out = append(out, p)
	}
	return out
}
