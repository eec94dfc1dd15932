package policy_test

import (
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// The reference evaluator: slow, and written from the documentation only. It reads
// the JSON anew for every request, expands everything into lists of characters, matches
// wildcards by recursion and decides by one formula. It shares no code with
// the package, and takes only policies that Parse accepts.

// refRequest is a request as the reference sees it: the context is a list of pairs.
type refRequest struct {
	who      policy.Principal
	action   string
	resource string
	account  string
	context  []pair
}

// Describe makes a refRequest a policy.Describer.
func (r *refRequest) Describe(c *policy.Context) {
	for _, p := range r.context {
		switch {
		case !c.Asks(p.key): // nor would c keep it
		case len(p.values) == 1:
			c.Set(p.key, p.values[0])
		default:
			c.SetList(p.key, p.values)
		}
	}
}

type pair struct {
	key    string
	values []string
}

type refPolicies struct {
	kind     policy.Kind // of resource
	resource string      // JSON, or empty
	ids      map[string]string
	identity []string
	boundary string
	session  []string
	grant    policy.Grant
}

// refDecide is "How AWS enforcement code logic evaluates requests" as a formula.
func refDecide(t testing.TB, r *refRequest, p *refPolicies) policy.Outcome {
	bounded := p.boundary != ""
	all := func(kind policy.Kind, texts ...string) (allows, denies map[string]bool) {
		allows, denies = map[string]bool{}, map[string]bool{}
		for _, text := range texts {
			if text == "" {
				continue
			}
			for _, s := range refStatements(t, text) {
				how := s.applies(kind, r, p.ids, bounded)
				if s.element["Effect"] == "Allow" {
					allows[how] = true
				} else {
					denies[how] = true
				}
			}
		}
		delete(allows, "")
		delete(denies, "")
		return allows, denies
	}
	resource, deny1 := all(p.kind, p.resource)
	identity, deny2 := all(policy.IdentityPolicy, p.identity...)
	boundary, deny3 := all(policy.IdentityPolicy, p.boundary)
	session, deny4 := all(policy.IdentityPolicy, p.session...)
	if len(deny1)+len(deny2)+len(deny3)+len(deny4) > 0 {
		return policy.ExplicitDeny
	}

	limited := (!bounded || len(boundary) > 0) && (len(p.session) == 0 || len(session) > 0)
	own := limited && (len(identity) > 0 || r.who.Type == policy.Account)
	same := r.who.Account != "" && r.who.Account == r.account || p.resource == "" && r.account == ""
	isService := r.who.Type == policy.Service

	var allowed bool
	switch {
	case p.resource == "":
		allowed = own && (same || isService)
	case isService:
		allowed = resource["direct"]
	case same:
		allowed = resource["direct"] || resource["role"] && limited || resource["account"] && own
	default:
		allowed = len(resource) > 0 && own
	}
	if allowed || p.grant == policy.GrantToPrincipal || p.grant == policy.GrantToRole && limited || p.grant == policy.GrantToAccount && own {
		return policy.Allowed
	}
	return policy.ImplicitDeny
}

type refStatement struct {
	element map[string]any
	version string
}

func refStatements(t testing.TB, text string) (out []refStatement) {
	var doc map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		t.Fatalf("the reference cannot read %s: %v", text, err)
	}
	version, _ := doc["Version"].(string)
	for _, s := range refList(doc["Statement"]) {
		out = append(out, refStatement{s.(map[string]any), version})
	}
	return out
}

// refList makes a list of a list or a single value.
func refList(v any) []any {
	if v == nil {
		return nil
	}
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

func refText(v any) string {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	}
	return v.(string)
}

// applies is "", or how the statement reaches the caller: direct, role or account.
func (s refStatement) applies(kind policy.Kind, r *refRequest, ids map[string]string, bounded bool) string {
	has := func(name string) bool { return s.element[name] != nil || s.element["Not"+name] != nil }
	if !has("Action") || kind == policy.KeyPolicy && !has("Resource") {
		return ""
	}
	action := func(v any) bool {
		return refGlob(s.chars(policy.TrustPolicy, strings.ToLower(refText(v)), "*?", nil), []rune(strings.ToLower(r.action)))
	}
	if s.element["Action"] != nil && !slices.ContainsFunc(refList(s.element["Action"]), action) ||
		s.element["NotAction"] != nil && slices.ContainsFunc(refList(s.element["NotAction"]), action) {
		return ""
	}
	resource := func(v any) bool {
		text := refText(v)
		return text == "*" || refARN(s.chars(kind, text, "*?", r), r.resource)
	}
	if s.element["Resource"] != nil && !slices.ContainsFunc(refList(s.element["Resource"]), resource) ||
		s.element["NotResource"] != nil && slices.ContainsFunc(refList(s.element["NotResource"]), resource) {
		return ""
	}
	conditions, _ := s.element["Condition"].(map[string]any)
	for op, keys := range conditions {
		for key, want := range keys.(map[string]any) {
			if !s.condition(kind, op, key, refList(want), r) {
				return ""
			}
		}
	}
	if kind == policy.IdentityPolicy {
		return "direct"
	}
	if s.element["NotPrincipal"] != nil {
		if !bounded && refExcepted(refReaches(s.element["NotPrincipal"], r.who, ids), r.who) {
			return ""
		}
		return "direct"
	}
	reaches := refReaches(s.element["Principal"], r.who, ids)
	for _, how := range []string{"direct", "role", "account"} {
		if reaches[how] {
			return how
		}
	}
	return ""
}

// refReaches is the ways in which a Principal element covers who; "everybody" is one
// besides direct.
func refReaches(element any, who policy.Principal, ids map[string]string) map[string]bool {
	reaches := map[string]bool{}
	if element == "*" {
		element = map[string]any{"AWS": "*"}
	}
	for kind, list := range element.(map[string]any) {
		for _, v := range refList(list) {
			named := v.(string)
			if kind == "Service" && who.Type == policy.Service && named == who.ARN {
				reaches["direct"] = true
			}
			if kind != "AWS" {
				continue
			}
			if id := ids[named]; id != "" {
				named = id // bound: the name does not count any more
			}
			switch {
			case named == "*":
				reaches["everybody"], reaches["direct"] = true, true
			case who.Account != "" && (named == who.Account || named == "arn:aws:iam::"+who.Account+":root"):
				if who.Type == policy.Account {
					reaches["direct"] = true
				} else {
					reaches["account"] = true
				}
			case named == who.RoleARN && !isID(named) || named == who.RoleID:
				reaches["role"] = true
			case named == who.ARN && !isID(named) || named == who.UniqueID:
				reaches["direct"] = true
			}
		}
	}
	return reaches
}

func isID(s string) bool { return !strings.HasPrefix(s, "arn:") }

func refExcepted(reaches map[string]bool, who policy.Principal) bool {
	needed := []string{"direct"}
	switch who.Type {
	case policy.User, policy.FederatedUser:
		needed = append(needed, "account")
	case policy.AssumedRole:
		needed = append(needed, "account", "role")
	}
	for _, how := range needed {
		if !reaches[how] && !reaches["everybody"] {
			return false
		}
	}
	return true
}

// A refChar is a character of a pattern. A wild one is a wildcard, a colon one separates
// the parts of an ARN; both only if the policy's author wrote it there.
type refChar struct {
	char        rune
	wild, colon bool
	absent      bool // stands for a variable without value: equals nothing
	variable    bool // comes from a variable
}

var refVariable = regexp.MustCompile(`^\$\{(?:([*?$])|([^},']+)(?:, '([^']*)')?)\}`)

// chars expands a value of a policy; r is for its variables.
func (s refStatement) chars(kind policy.Kind, text, wild string, r *refRequest) (out []refChar) {
	for text != "" {
		m := refVariable.FindStringSubmatch(text)
		if r == nil || s.version != "2012-10-17" || m == nil {
			c := []rune(text)[0]
			out = append(out, refChar{char: c, wild: strings.ContainsRune(wild, c), colon: c == ':'})
			text = strings.TrimPrefix(text, string(c))
			continue
		}
		text = strings.TrimPrefix(text, m[0])
		if m[1] != "" {
			out = append(out, refChar{char: []rune(m[1])[0]})
			continue
		}
		value := m[3]
		found := strings.Contains(m[0], "'")
		if values := refLookup(kind, m[2], r); len(values) == 1 && values[0] != "" {
			value, found = values[0], true
		}
		if !found {
			out = append(out, refChar{absent: true, variable: true})
		}
		for _, c := range value {
			out = append(out, refChar{char: c, variable: true})
		}
	}
	return out
}

// refLookup is all values of a key, whatever its case.
func refLookup(kind policy.Kind, key string, r *refRequest) (values []string) {
	folded := strings.ToLower(key)
	if kind == policy.KeyPolicy && (strings.HasPrefix(folded, "aws:resourcetag/") || folded == "kms:resourcealiases") {
		return nil
	}
	for _, p := range r.context {
		if strings.EqualFold(p.key, key) {
			values = append(values, p.values...)
		}
	}
	return values
}

// refGlob is the textbook's recursion.
func refGlob(pattern []refChar, text []rune) bool {
	if len(pattern) == 0 {
		return len(text) == 0
	}
	p := pattern[0]
	switch {
	case p.absent:
		return false
	case p.wild && p.char == '*':
		return refGlob(pattern[1:], text) || len(text) > 0 && refGlob(pattern, text[1:])
	case len(text) == 0:
		return false
	}
	return (p.wild || p.char == text[0]) && refGlob(pattern[1:], text[1:])
}

// refARN matches the six parts of an ARN, of which the last may have colons.
func refARN(pattern []refChar, text string) bool {
	parts := strings.SplitN(text, ":", 6)
	if len(parts) != 6 {
		return false
	}
	if !slices.ContainsFunc(pattern, func(c refChar) bool { return !c.variable }) {
		return refGlob(pattern, []rune(text)) // one variable alone
	}
	for _, part := range parts[:5] {
		i := slices.IndexFunc(pattern, func(c refChar) bool { return c.colon })
		if i < 0 || !refGlob(pattern[:i], []rune(part)) {
			return false
		}
		pattern = pattern[i+1:]
	}
	return refGlob(pattern, []rune(parts[5]))
}

// condition is one key of one operator.
func (s refStatement) condition(kind policy.Kind, op, key string, want []any, r *refRequest) bool {
	values := refLookup(kind, key, r)
	missing := len(values) == 0
	if op == "Null" {
		return slices.ContainsFunc(want, func(v any) bool {
			return strings.EqualFold(refText(v), strconv.FormatBool(missing))
		})
	}
	op, all := strings.CutPrefix(op, "ForAllValues:")
	op, some := strings.CutPrefix(op, "ForAnyValue:")
	op, ifExists := strings.CutSuffix(op, "IfExists")
	negated := strings.Contains(op, "Not")
	op = strings.Replace(op, "Not", "", 1)
	if missing {
		return ifExists || all || negated && !some
	}
	satisfied := func(value string) bool {
		matches := slices.ContainsFunc(want, func(v any) bool {
			return s.matches(kind, op, value, refText(v), r)
		})
		return matches != negated
	}
	violated := func(value string) bool { return !satisfied(value) }
	if some || !all && s.element["Effect"] == "Deny" {
		return slices.ContainsFunc(values, satisfied)
	}
	return !slices.ContainsFunc(values, violated)
}

// matches compares a value of the request with one of the policy.
func (s refStatement) matches(kind policy.Kind, op, value, want string, r *refRequest) bool {
	name, order := op, ""
	for _, suffix := range []string{"LessThanEquals", "GreaterThanEquals", "LessThan", "GreaterThan", "Equals"} {
		if base, ok := strings.CutSuffix(op, suffix); ok && (base == "Numeric" || base == "Date") {
			name, order = base, suffix
			break
		}
	}
	ordered := func(cmp int) bool {
		return cmp < 0 && strings.HasPrefix(order, "Less") || cmp > 0 && strings.HasPrefix(order, "Greater") || cmp == 0 && strings.HasSuffix(order, "Equals")
	}
	switch name {
	case "StringEquals":
		return refGlob(s.chars(kind, want, "", r), []rune(value))
	case "StringLike":
		return refGlob(s.chars(kind, want, "*?", r), []rune(value))
	case "StringEqualsIgnoreCase", "Bool":
		var b strings.Builder
		for _, c := range s.chars(kind, want, "", r) {
			if c.absent {
				return false
			}
			b.WriteRune(c.char)
		}
		return strings.EqualFold(b.String(), value) && (op != "Bool" || strings.EqualFold(value, "true") || strings.EqualFold(value, "false"))
	case "ArnEquals", "ArnLike":
		return refARN(s.chars(kind, want, "*?", r), value)
	case "Numeric":
		a, ok1 := new(big.Rat).SetString(value)
		b, ok2 := new(big.Rat).SetString(want)
		return ok1 && ok2 && refNumber.MatchString(value) && refNumber.MatchString(want) && ordered(a.Cmp(b))
	case "Date":
		a, ok1 := refDate(value)
		b, ok2 := refDate(want)
		return ok1 && ok2 && ordered(a.Cmp(b))
	case "BinaryEquals":
		a, err1 := base64.StdEncoding.Strict().DecodeString(value)
		b, err2 := base64.StdEncoding.Strict().DecodeString(want)
		return err1 == nil && err2 == nil && string(a) == string(b)
	case "IpAddress":
		if !strings.Contains(want, "/") {
			return net.ParseIP(value) != nil && net.ParseIP(value).Equal(net.ParseIP(want))
		}
		_, network, err := net.ParseCIDR(want)
		return err == nil && net.ParseIP(value) != nil && network.Contains(net.ParseIP(value))
	}
	panic("the reference does not know " + op)
}

var (
	refNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
	refEpoch  = regexp.MustCompile(`^[0-9]{5,}(\.[0-9]+)?$`)
	refW3C    = regexp.MustCompile(`^(\d{4})-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[-+]\d\d:\d\d))?)?$`)
)

// refDate is a date in seconds: Unix time, or one of the forms of W3C's note.
func refDate(s string) (*big.Rat, bool) {
	if refEpoch.MatchString(s) {
		return new(big.Rat).SetString(s)
	}
	m := refW3C.FindStringSubmatch(s)
	if m == nil {
		return nil, false
	}
	n := func(i, missing int) int {
		if v, err := strconv.Atoi(m[i]); err == nil {
			return v
		}
		return missing
	}
	day := time.Date(n(1, 0), time.Month(n(2, 0)), n(3, 1), n(4, 0), n(5, 0), n(6, 0), 0, time.UTC)
	if day.Day() != n(3, 1) || int(day.Month()) != n(2, 0) {
		return nil, false
	}
	seconds := big.NewRat(day.Unix(), 1)
	if m[7] != "" {
		fraction, _ := new(big.Rat).SetString("0" + m[7])
		seconds.Add(seconds, fraction)
	}
	if zone := m[8]; zone != "" && zone != "Z" {
		h, _ := strconv.Atoi(zone[1:3])
		min, _ := strconv.Atoi(zone[4:])
		offset := int64(h*3600 + min*60)
		if zone[0] == '-' {
			offset = -offset
		}
		seconds.Sub(seconds, big.NewRat(offset, 1))
	}
	return seconds, true
}
