package policy_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// policies are the texts that a test's sentences are about. A text that begins with a
// statement is a policy of version 2012-10-17 with these statements.
type policies struct {
	key, trust string
	identity   []string
	boundary   string
	session    []string
	grant      policy.Grant
	ids        map[string]string // unique ids of principals, to bind the key policy to
}

func whole(text string) string {
	if text == "" || strings.Contains(text, `"Statement"`) {
		return text
	}
	return `{"Version": "2012-10-17", "Statement": [` + text + `]}`
}

func wholes(texts []string) (out []string) {
	for _, text := range texts {
		out = append(out, whole(text))
	}
	return out
}

// with are a request's facts: condition keys with a string or a []string, and
// "resource" and "account" of the resource when it is not keyARN.
type with map[string]any

// world is policies and what they are expected to say.
type world struct {
	t   *testing.T
	ref *refPolicies
	p   *policy.Policies
}

func given(t *testing.T, p policies) *world {
	t.Helper()
	ref := &refPolicies{
		resource: whole(p.key), ids: p.ids, identity: wholes(p.identity), boundary: whole(p.boundary), session: wholes(p.session), grant: p.grant,
	}
	if p.trust != "" {
		ref.kind, ref.resource = policy.TrustPolicy, whole(p.trust)
	}
	compiled := ref.compile()
	if compiled == nil {
		for kind, texts := range map[policy.Kind][]string{ref.kind: {ref.resource}, policy.IdentityPolicy: slices.Concat(ref.identity, ref.session, []string{ref.boundary})} {
			for _, text := range texts {
				if _, err := policy.Parse(kind, []byte(text)); err != nil && text != "" {
					t.Errorf("%v\n%s", err, text)
				}
			}
		}
		t.FailNow()
	}
	return &world{t, ref, compiled}
}

func (w *world) allow(who, action string, facts ...with) {
	w.t.Helper()
	w.expect(policy.Allowed, "", who, action, facts)
}

func (w *world) deny(who, action string, facts ...with) {
	w.t.Helper()
	w.expect(policy.ImplicitDeny, "", who, action, facts)
}

// forbid expects an explicit deny.
func (w *world) forbid(who, action string, facts ...with) {
	w.t.Helper()
	w.expect(policy.ExplicitDeny, "", who, action, facts)
}

// because expects a denial whose message ends so.
func (w *world) because(reason, who, action string, facts ...with) {
	w.t.Helper()
	outcome := policy.ImplicitDeny
	if strings.Contains(reason, "explicit deny") {
		outcome = policy.ExplicitDeny
	}
	w.expect(outcome, reason, who, action, facts)
}

func (w *world) expect(want policy.Outcome, reason, who, action string, facts []with) {
	w.t.Helper()
	caller, ok := people[who]
	if !ok {
		w.t.Fatalf("nobody is called %s", who)
	}
	r := &policy.Request{Principal: caller, Action: action, Resource: keyARN, ResourceAccount: ours}
	r.Context.SetPrincipal(&caller)
	ref := &refRequest{who: caller, action: action, context: principalContext(caller)}
	for _, f := range facts {
		for _, key := range slices.Sorted(maps.Keys(f)) {
			switch value := f[key].(type) {
			case string:
				switch key {
				case "resource":
					r.Resource = value
				case "account":
					r.ResourceAccount = value
				default:
					r.Context.Set(key, value)
					ref.context = append(ref.context, pair{key, []string{value}})
				}
			case []string:
				r.Context.SetList(key, value)
				ref.context = append(ref.context, pair{key, value})
			}
		}
	}
	ref.resource, ref.account = r.Resource, r.ResourceAccount

	sentence := fmt.Sprintf("%s: %s %v", who, action, facts)
	d := policy.Evaluate(r, w.p)
	if d.Outcome != want || d.Allowed() != (want == policy.Allowed) {
		w.t.Errorf("%s is answered with %v, want %v", sentence, d.Outcome, want)
	}
	if !strings.HasSuffix(d.Message(r), reason) {
		w.t.Errorf("%s is answered with %q, want ...%q", sentence, d.Message(r), reason)
	}
	if got := refDecide(w.t, ref, w.ref); got != want {
		w.t.Errorf("%s: the reference says %v, want %v", sentence, got, want)
	}
}

// compile is nil if Parse refuses any of them.
func (p *refPolicies) compile() *policy.Policies {
	out := &policy.Policies{Grant: p.grant}
	failed := false
	parse := func(kind policy.Kind, text string) *policy.Document {
		if text == "" {
			return nil
		}
		d, err := policy.Parse(kind, []byte(text))
		failed = failed || err != nil
		return d
	}
	out.Resource = parse(p.kind, p.resource)
	if out.Resource != nil && p.ids != nil {
		var err error
		out.Resource, err = out.Resource.Bind(func(n policy.NamedPrincipal) (string, bool) { return p.ids[n.Value], true })
		failed = failed || err != nil
	}
	for _, text := range p.identity {
		out.Identity = append(out.Identity, parse(policy.IdentityPolicy, text))
	}
	out.Boundary = parse(policy.IdentityPolicy, p.boundary)
	for _, text := range p.session {
		out.Session = append(out.Session, parse(policy.IdentityPolicy, text))
	}
	if failed {
		return nil
	}
	return out
}
