package policy_test

import (
	"encoding/json"
	"strings"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// dice make choices out of bytes, as long as there are any; then the first choice. Every
// choice is from a small vocabulary, so that policies and requests often meet.
type dice struct{ bytes []byte }

func (d *dice) roll(n int) int {
	if len(d.bytes) == 0 {
		return 0
	}
	b := d.bytes[0]
	d.bytes = d.bytes[1:]
	return int(b) % n
}

func (d *dice) once(n int) bool { return d.roll(n) == n-1 }

func pick[T any](d *dice, list ...T) T { return list[d.roll(len(list))] }

const (
	ours   = "111122223333"
	theirs = "444455556666"
	thirds = "999999999999"

	aliceARN   = "arn:aws:iam::111122223333:user/local/alice"
	malloryARN = "arn:aws:iam::111122223333:user/mallory"
	bobARN     = "arn:aws:iam::444455556666:user/bob"
	roleARN    = "arn:aws:iam::111122223333:role/app/Engineering"
	sessionARN = "arn:aws:sts::111122223333:assumed-role/Engineering/carol"
	keyARN     = "arn:aws:kms:us-east-1:111122223333:key/key1"
	otherKey   = "arn:aws:kms:us-east-1:111122223333:key/alice"
)

// people are the callers there are.
var people = map[string]policy.Principal{
	"root":    {Type: policy.Account, ARN: "arn:aws:iam::111122223333:root", Account: ours},
	"alice":   {Type: policy.User, ARN: aliceARN, Account: ours, UniqueID: "AIDAALICEALICEALICE1", Username: "alice", Tags: map[string]string{"team": "key1"}},
	"mallory": {Type: policy.User, ARN: malloryARN, Account: ours, UniqueID: "AIDAMALLORYMALLORY11", Username: "mal*"},
	"carol": {
		Type: policy.AssumedRole, ARN: sessionARN, Account: ours, UniqueID: "AROAENGINEERING12345:carol",
		RoleARN: roleARN, RoleID: "AROAENGINEERING12345", Tags: map[string]string{"Team": "*", "empty": ""},
	},
	"dave": {
		Type: policy.AssumedRole, ARN: "arn:aws:sts::111122223333:assumed-role/Engineering/dave", Account: ours,
		UniqueID: "AROAENGINEERING12345:dave", RoleARN: roleARN, RoleID: "AROAENGINEERING12345",
	},
	"bob":      {Type: policy.User, ARN: bobARN, Account: theirs, UniqueID: "AIDABOBBOBBOBBOBBOB1", Username: "bob", Tags: map[string]string{"team": "a/b"}},
	"theirs":   {Type: policy.Account, ARN: "arn:aws:iam::444455556666:root", Account: theirs},
	"frank":    {Type: policy.FederatedUser, ARN: "arn:aws:sts::111122223333:federated-user/frank", Account: ours, UniqueID: "111122223333:frank"},
	"ec2":      {Type: policy.Service, ARN: "ec2.amazonaws.com"},
	"stranger": {},
}

var names = []string{"alice", "carol", "root", "mallory", "dave", "bob", "theirs", "frank", "ec2", "stranger"}

// uniqueIDs are what principals may be bound to: one user was created again.
var uniqueIDs = map[string]string{
	aliceARN: "AIDAALICEALICEALICE1", malloryARN: "AIDAMALLORYTHEOLDER1", bobARN: "AIDABOBBOBBOBBOBBOB1",
	roleARN: "AROAENGINEERING12345", sessionARN: "AROAENGINEERING12345:carol",
}

// principalContext is the table "Principal key values" of the IAM User Guide, and the
// global keys of principals.
func principalContext(p policy.Principal) []pair {
	one := func(key, value string) pair { return pair{key, []string{value}} }
	var out []pair
	switch p.Type {
	case policy.Service:
		return []pair{one("aws:PrincipalIsAWSService", "true"), one("aws:PrincipalServiceName", p.ARN)}
	case policy.Anonymous:
		return []pair{one("aws:PrincipalType", "Anonymous"), one("aws:userid", "anonymous"), one("aws:PrincipalIsAWSService", "false")}
	case policy.Account:
		out = []pair{one("aws:PrincipalArn", p.ARN), one("aws:userid", p.Account), one("aws:PrincipalType", "Account")}
	case policy.User:
		out = []pair{one("aws:PrincipalArn", p.ARN), one("aws:userid", p.UniqueID), one("aws:PrincipalType", "User"), one("aws:username", p.Username)}
	case policy.AssumedRole:
		out = []pair{one("aws:PrincipalArn", p.RoleARN), one("aws:userid", p.UniqueID), one("aws:PrincipalType", "AssumedRole")}
	case policy.FederatedUser:
		out = []pair{one("aws:PrincipalArn", p.ARN), one("aws:userid", p.UniqueID), one("aws:PrincipalType", "FederatedUser")}
	}
	out = append(out, one("aws:PrincipalAccount", p.Account), one("aws:PrincipalIsAWSService", "false"))
	for k, v := range p.Tags {
		out = append(out, one("aws:PrincipalTag/"+k, v))
	}
	return out
}

// request makes one twice: for the package and for the reference.
func (d *dice) request() (*policy.Request, *refRequest) {
	who := people[pick(d, names...)]
	ref := &refRequest{
		who:      who,
		action:   pick(d, "kms:Decrypt", "kms:ReEncryptFrom", "KMS:decrypt", "kms:GenerateDataKey", "sts:AssumeRole"),
		resource: pick(d, keyARN, otherKey, "*", "arn:aws:kms:eu-west-1:111122223333:key/key1:x"),
		account:  pick(d, ours, ours, ours, theirs, ""),
		context:  principalContext(who),
	}
	r := &policy.Request{Principal: who, Action: ref.action, Resource: ref.resource, ResourceAccount: ref.account}
	r.Context.SetPrincipal(&who)
	for range d.roll(8) {
		k := pick(d, keys...)
		name := pick(d, k.name, k.name, k.name, strings.ToUpper(k.name))
		switch n := d.roll(8); {
		case n == 0:
			r.Context.SetList(name, nil)
		case n <= 4:
			value := d.value(k)
			r.Context.Set(name, value)
			ref.context = append(ref.context, pair{name, []string{value}})
		default:
			values := []string{d.value(k), d.value(k)}
			r.Context.SetList(name, values)
			ref.context = append(ref.context, pair{name, values})
		}
	}
	return r, ref
}

// A key of the vocabulary, the operators it is used with and values for both sides.
type contextKey struct {
	name   string
	ops    []string
	values []string // nil for text over a small alphabet
}

var (
	stringOps  = []string{"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"}
	numericOps = []string{"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals"}
	dateOps    = []string{"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"}
	arnOps     = []string{"ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"}
)

var keys = []contextKey{
	{"kms:EncryptionContext:path", stringOps, nil},
	{"kms:EncryptionContextKeys", stringOps, nil},
	{"aws:ResourceTag/team", stringOps, nil},
	{"kms:ResourceAliases", stringOps, nil},
	{"aws:PrincipalTag/team", stringOps, nil},
	{"aws:username", stringOps, nil},
	{"kms:ValidTo", numericOps, []string{"10", "10.0", "-3", "1e1", "9.5", "007", "0.1", "9007199254740993", "9007199254740992"}},
	{"aws:CurrentTime", dateOps, []string{
		"2026-01-02T03:04:05Z", "2026-01-02", "2026-01", "1767323045", "2026-01-02T04:04:05+01:00", "2026-01-02T03:04Z", "1767323045.5", "2026-01-02T03:04:05.5Z",
	}},
	{"aws:SecureTransport", []string{"Bool"}, []string{"true", "false", "True"}},
	{"kms:Nonce", []string{"BinaryEquals"}, []string{"AA==", "QmluYXJ5", "AAA="}},
	{"aws:SourceIp", []string{"IpAddress", "NotIpAddress"}, []string{"203.0.113.9", "203.0.113.0/24", "203.0.113.77/28", "2001:db8::1", "2001:DB8::/32", "::ffff:203.0.113.9", "10.0.0.0/8"}},
	{"aws:SourceArn", arnOps, []string{
		keyARN, "arn:aws:kms:*:111122223333:key/*", "arn:*:kms:us-east-?:*:key/${aws:username}", "arn:aws:kms:*:key/x:y:z", "${aws:PrincipalArn}", aliceARN, "arn:aws:kms:us-east-1:${aws:PrincipalAccount}:key/key1", "arn:aws:sqs:a:b:c:d*:e",
	}},
	{"aws:PrincipalArn", arnOps, []string{aliceARN, roleARN, "arn:aws:iam::111122223333:*", "arn:aws:iam::*:user/*", sessionARN}},
}

// text is a short string over an alphabet in which patterns, variables and
// letter cases meet.
func (d *dice) text(policySide bool) string {
	chars := []string{"a", "b", "A", "/", "é", "É"}
	if policySide {
		chars = append(chars, "*", "*", "?", "${aws:username}", "${*}", "${?}", "${$}", "$", "${AWS:principaltag/TEAM, 'ab'}", "${aws:PrincipalTag/empty}", "${kms:EncryptionContext:path}")
	} else {
		chars = append(chars, "*", "?", "$", "alice", "mal*", "K")
	}
	var b strings.Builder
	for range d.roll(6) {
		b.WriteString(pick(d, chars...))
	}
	return b.String()
}

// value is one of a request, now and then malformed.
func (d *dice) value(k contextKey) string {
	switch {
	case k.values == nil:
		return d.text(false)
	case d.once(16):
		return pick(d, "", "x", "arn:aws:kms", "2030", "1.", "::x", "AA", "yes")
	}
	return pick(d, k.values...)
}

func (d *dice) conditions() map[string]any {
	out := map[string]any{}
	for range d.roll(3) {
		k := pick(d, keys...)
		op := pick(d, k.ops...)
		op = pick(d, "", "", "ForAllValues:", "ForAnyValue:") + op + pick(d, "", "", "IfExists")
		var values []any
		for range 1 + d.roll(3) {
			if k.values == nil {
				values = append(values, d.text(true))
			} else {
				values = append(values, pick(d, k.values...))
			}
		}
		if d.once(8) {
			op, values = "Null", []any{pick[any](d, true, false, "true")}
		}
		keys, _ := out[op].(map[string]any)
		if keys == nil {
			keys = map[string]any{}
		}
		keys[pick(d, k.name, k.name, strings.ToLower(k.name))] = d.oneOrList(values)
		out[op] = keys
	}
	return out
}

func (d *dice) oneOrList(values []any) any {
	if len(values) == 1 && !d.once(2) {
		return values[0]
	}
	return values
}

func (d *dice) list(vocabulary ...string) any {
	var values []any
	for range 1 + d.roll(3) {
		values = append(values, pick(d, vocabulary...))
	}
	return d.oneOrList(values)
}

// document is a policy's JSON. Most are valid; the others Parse refuses.
func (d *dice) document(kind policy.Kind) string {
	var statements []any
	for range 1 + d.roll(3) {
		s := map[string]any{"Effect": pick(d, "Allow", "Allow", "Deny")}
		not := func(name string, n int) string {
			if d.once(n) {
				return "Not" + name
			}
			return name
		}
		if kind != policy.IdentityPolicy {
			name := "Principal"
			if s["Effect"] == "Deny" && kind == policy.KeyPolicy {
				name = not(name, 2)
			}
			s[name] = pick[any](d, "*",
				map[string]any{"AWS": d.list(aliceARN, ours, roleARN, sessionARN, "*", "arn:aws:iam::111122223333:root", malloryARN, theirs, bobARN,
					"AIDAALICEALICEALICE1", "AROAENGINEERING12345", thirds, "arn:aws:sts::111122223333:federated-user/frank")},
				map[string]any{"AWS": d.list(aliceARN, ours, roleARN, sessionARN), "Service": d.list("ec2.amazonaws.com", "rds.amazonaws.com")},
				map[string]any{"Federated": "accounts.google.com"})
		}
		if kind == policy.TrustPolicy {
			s["Action"] = d.list("sts:AssumeRole", "sts:*", "STS:TagSession")
		} else {
			if !d.once(16) || kind != policy.KeyPolicy {
				s[not("Action", 6)] = d.list("kms:*", "*", "kms:Decrypt", "kms:ReEncrypt*", "KMS:DE?RYPT", "kms:*crypt*", "*:decrypt", "kms:Encrypt", "sts:*", "kms:?*?*y")
			}
			if !d.once(16) || kind != policy.KeyPolicy {
				s[not("Resource", 6)] = d.list("*", "*", keyARN, "arn:aws:kms:*:111122223333:key/*", "arn:aws:kms:us-east-1:11112222????:key/${aws:username}",
					"arn:aws:kms:us-*:*:key/${aws:PrincipalTag/team, 'key1'}", "arn:aws:kms:*:*:*", "arn:aws:kms:us-east-1:*:key/*e*", "arn:aws:kms:*:*:key/${aws:PrincipalTag/empty}*")
			}
		}
		if d.once(2) {
			s["Condition"] = d.conditions()
		}
		statements = append(statements, s)
	}
	doc := map[string]any{"Statement": d.oneOrList(statements)}
	if v := pick(d, "2012-10-17", "2012-10-17", "2012-10-17", "2008-10-17", ""); v != "" {
		doc["Version"] = v
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (d *dice) policies() *refPolicies {
	p := &refPolicies{kind: pick(d, policy.KeyPolicy, policy.KeyPolicy, policy.KeyPolicy, policy.TrustPolicy)}
	if !d.once(6) {
		p.resource = d.document(p.kind)
	}
	for range d.roll(3) {
		p.identity = append(p.identity, d.document(policy.IdentityPolicy))
	}
	if d.once(4) {
		p.boundary = d.document(policy.IdentityPolicy)
	}
	if d.once(4) {
		for range 1 + d.roll(2) {
			p.session = append(p.session, d.document(policy.IdentityPolicy))
		}
	}
	if d.once(2) {
		p.ids = uniqueIDs
	}
	p.grant = pick(d, policy.NoGrant, policy.NoGrant, policy.NoGrant, policy.GrantToAccount, policy.GrantToRole, policy.GrantToPrincipal)
	return p
}
