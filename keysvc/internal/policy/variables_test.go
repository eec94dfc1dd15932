package policy_test

import (
	"fmt"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// TestVariables compares with the value of kms:Test; the caller is alice, whose tag team
// is key1.
func TestVariables(t *testing.T) {
	const v1, v2 = policy.Version2008, policy.Version2012
	for _, c := range []struct {
		version, op, want, value string
		holds                    bool
	}{
		{v2, "StringEquals", "${aws:username}", "alice", true},
		{v2, "StringEquals", "${AWS:UserName}", "alice", true},
		{v2, "StringEquals", "${aws:username}", "bob", false},
		{v2, "StringEquals", "/home/${aws:username}/${aws:PrincipalTag/team}", "/home/alice/key1", true},
		{v2, "StringLike", "/home/${aws:username}/*", "/home/alice/x", true},
		{v2, "StringLike", "/home/${aws:username}/*", "/home/bob/x", false},
		{v2, "StringLike", "*/${aws:username}/*", "/home/alice/x", true},
		{v2, "StringLike", "*/${aws:username}", "/home/alice", true},
		{v2, "StringLike", "*/${aws:username}?/*", "/home/alice1/x", true},
		{v2, "StringLike", "*/${aws:username}?/*", "/home/alice/x", false},
		{v2, "StringEqualsIgnoreCase", "x${aws:username}x", "XALICEX", true},
		{v2, "ArnLike", "arn:aws:iam::${aws:PrincipalAccount}:user/*", aliceARN, true},
		{v2, "ArnLike", "arn:aws:iam::${kms:None, '1:2'}:user/x", "arn:aws:iam::1:2:user/x", false}, // a colon in a default separates nothing
		{v2, "ArnLike", "arn:aws:iam::1:${kms:None, '1:2'}", "arn:aws:iam::1:1:2", true},
		{v2, "ArnLike", "arn:aws:iam::1:a${kms:None, '1'}:b", "arn:aws:iam::1:a1:b", true},
		{v2, "ArnEquals", "${aws:PrincipalArn}", aliceARN, true},
		{v2, "ArnEquals", "${aws:PrincipalArn}", malloryARN, false},
		{v2, "ArnEquals", "${aws:username}", "alice", false}, // no ARN
		{v2, "Bool", "${kms:Test}", "true", true},
		{v2, "Bool", "${kms:Test}", "yes", false},

		// The first version has none.
		{v1, "StringEquals", "${aws:username}", "alice", false},
		{v1, "StringEquals", "${aws:username}", "${aws:username}", true},
		{v1, "StringLike", "${*}", "${anything}", true},
		{v1, "StringEquals", "${", "${", true},

		// Escapes and lone dollars.
		{v2, "StringLike", "a${*}c", "a*c", true},
		{v2, "StringLike", "a${*}c", "abc", false},
		{v2, "StringLike", "a${?}c", "a?c", true},
		{v2, "StringLike", "a${?}c", "abc", false},
		{v2, "StringEquals", "${$}{aws:username}", "${aws:username}", true},
		{v2, "StringEquals", "5$", "5$", true},
		{v2, "StringEquals", "$$x", "$$x", true},

		// Defaults.
		{v2, "StringEquals", "${aws:PrincipalTag/dept, 'none'}", "none", true},
		{v2, "StringEquals", "${aws:username, 'none'}", "alice", true},
		{v2, "StringEquals", "${aws:username, 'none'}", "none", false},
		{v2, "StringEquals", "${aws:PrincipalTag/dept, ''}", "", true},
		{v2, "StringEquals", "${aws:PrincipalTag/dept, 'a}, b'}!", "a}, b!", true},
		{v2, "StringEquals", "${aws:PrincipalTag/dept, '~'}", "~", true},

		// Without a value.
		{v2, "StringEquals", "${aws:PrincipalTag/dept}", "", false},
		{v2, "StringLike", "${aws:PrincipalTag/dept}*", "x", false},
		{v2, "StringLike", "*${aws:PrincipalTag/dept}", "x", false},
		{v2, "StringLike", "*${aws:PrincipalTag/dept}*", "x", false},
		{v2, "StringLike", "*${aws:PrincipalTag/dept}?*", "xx", false},
		{v2, "StringLike", "*?${aws:PrincipalTag/dept}*", "xx", false},
		{v2, "StringLike", "*?${aws:username}*", "x-alice-", true},
		{v2, "StringEqualsIgnoreCase", "${aws:PrincipalTag/dept}", "", false},
		{v2, "StringNotEquals", "${aws:PrincipalTag/dept}", "x", true},
		{v2, "StringNotLike", "*${aws:PrincipalTag/dept}*", "x", true},
		{v2, "ArnEquals", "${aws:PrincipalTag/dept}", keyARN, false},
		{v2, "ArnNotEquals", "arn:aws:s3:::${aws:PrincipalTag/dept}*", "arn:aws:s3:::x", true},
		{v2, "Bool", "${aws:PrincipalTag/dept}", "true", false},
	} {
		if got := holds(t, c.version, c.op, c.want, c.value); got != c.holds {
			t.Errorf("%s: %s %q holds for %q: %v", c.version, c.op, c.want, c.value, got)
		}
	}
}

// TestVariableInjection: what a variable stands for is text, whoever chose it.
func TestVariableInjection(t *testing.T) {
	path := func(value string) string {
		return `{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"StringLike": {"kms:EncryptionContext:kmsfs:path": "` + value + `"}}}`
	}
	w := given(t, policies{identity: []string{path("/home/${aws:username}/*")}})
	w.allow("mallory", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/home/mal*/x", "account": ""}) // her name is mal*
	w.deny("mallory", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/home/malice/x", "account": ""})
	w.deny("carol", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/home//x", "account": ""}) // a role has no name

	// carol's tag Team is *, her tag empty is empty.
	w = given(t, policies{identity: []string{path("/team/${aws:PrincipalTag/team}/*")}})
	w.deny("carol", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/team/red/x", "account": ""})
	w.allow("carol", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/team/*/x", "account": ""})
	w = given(t, policies{identity: []string{path("${aws:PrincipalTag/empty}*")}})
	w.deny("carol", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/x", "account": ""})
	w = given(t, policies{identity: []string{path("/${aws:PrincipalTag/empty, 'none'}")}})
	w.allow("carol", "kms:Decrypt", with{"kms:EncryptionContext:kmsfs:path": "/none", "account": ""})

	// Values that are not UTF-8 equal only themselves.
	for _, op := range []string{"StringEquals", "StringEqualsIgnoreCase", "StringLike"} {
		w = given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"` + op + `": {"kms:Test": "a${kms:Other}"}}}`}})
		for value, allowed := range map[string]bool{"a\xff": true, "a\xfe": false, "a\ufffd": false, "a\u00ff": false, "a\xff\xff": false} {
			r := policy.Request{Principal: people["alice"], Action: "kms:Decrypt", Resource: "*"}
			r.Context.Set("kms:Other", "\xff")
			r.Context.Set("kms:Test", value)
			if policy.Evaluate(&r, w.p).Allowed() != allowed {
				t.Errorf("%s: %q is allowed: %v", op, value, !allowed)
			}
		}
	}

	// They are bytes, and a * stands for any number of those: also for half a character.
	for pattern, half := range map[string]string{"${kms:Other}*": "\xc3", "*${kms:Other}": "\xa9", "*${kms:Other}*": "\xc3"} {
		w = given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"StringLike": {"kms:Test": "` + pattern + `"}}}`}})
		for value, allowed := range map[string]bool{"é": true, "e": false} {
			r := policy.Request{Principal: people["alice"], Action: "kms:Decrypt", Resource: "*"}
			r.Context.Set("kms:Other", half)
			r.Context.Set("kms:Test", value)
			if policy.Evaluate(&r, w.p).Allowed() != allowed {
				t.Errorf("%s with %q: %q is allowed: %v", pattern, half, value, !allowed)
			}
		}
	}

	// Values are not expanded again.
	w = given(t, policies{identity: []string{path("${kms:Test}")}})
	w.allow("alice", "kms:Decrypt", with{"kms:Test": "${aws:username}", "kms:EncryptionContext:kmsfs:path": "${aws:username}", "account": ""})
	w.deny("alice", "kms:Decrypt", with{"kms:Test": "${aws:username}", "kms:EncryptionContext:kmsfs:path": "alice", "account": ""})

	// A multivalued key is no variable, nor is one that is set twice.
	w.deny("alice", "kms:Decrypt", with{"kms:Test": []string{"a", "a"}, "kms:EncryptionContext:kmsfs:path": "a", "account": ""})
	w.deny("alice", "kms:Decrypt", with{"kms:Test": "a", "kms:TEST": "a", "kms:EncryptionContext:kmsfs:path": "a", "account": ""})
	w.allow("alice", "kms:Decrypt", with{"kms:Test": []string{"a"}, "kms:EncryptionContext:kmsfs:path": "a", "account": ""})

	// A value with colons stays in its part of an ARN.
	w = given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*",
		"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:kms:${kms:Region}:111122223333:key/*"}}}`}})
	w.allow("alice", "kms:Decrypt", with{"kms:Region": "us-east-1", "aws:SourceArn": keyARN, "account": ""})
	w.deny("alice", "kms:Decrypt", with{"kms:Region": "us-east-1:999999999999:key/x", "aws:SourceArn": "arn:aws:kms:us-east-1:999999999999:key/x:111122223333:key/y", "account": ""})
	w.deny("alice", "kms:Decrypt", with{"kms:Region": "*", "aws:SourceArn": keyARN, "account": ""})
}

// TestVariablesInResource are the examples of the IAM User Guide.
func TestVariablesInResource(t *testing.T) {
	w := given(t, policies{identity: []string{
		`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "arn:aws:kms:us-east-1:111122223333:key/${aws:username}"}`,
		`{"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "arn:aws:kms:us-east-1:111122223333:key/${aws:PrincipalTag/team, 'company-wide'}"}`,
		`{"Effect": "Allow", "Action": "kms:Sign", "NotResource": "arn:aws:kms:us-east-1:111122223333:key/${aws:username}"}`,
	}})
	w.allow("alice", "kms:Decrypt", with{"resource": otherKey})
	w.deny("alice", "kms:Decrypt", with{"resource": keyARN})
	w.deny("carol", "kms:Decrypt", with{"resource": "arn:aws:kms:us-east-1:111122223333:key/"})
	w.allow("alice", "kms:Encrypt", with{"resource": keyARN})
	w.allow("dave", "kms:Encrypt", with{"resource": "arn:aws:kms:us-east-1:111122223333:key/company-wide"})
	w.deny("alice", "kms:Encrypt", with{"resource": "arn:aws:kms:us-east-1:111122223333:key/company-wide"})
	// A NotResource whose variable has no value excludes nothing.
	w.deny("alice", "kms:Sign", with{"resource": otherKey})
	w.allow("alice", "kms:Sign", with{"resource": keyARN})
	w.allow("carol", "kms:Sign", with{"resource": keyARN})
}

// TestContext is about letter case, and keys with one name.
func TestContext(t *testing.T) {
	one := func(effect, op, value string) string {
		return `{"Effect": "` + effect + `", "Action": "kms:*", "Resource": "*", "Condition": {"` + op + `": {"kms:EncryptionContext:AppName": "` + value + `"}}}`
	}
	w := given(t, policies{identity: []string{one("Allow", "StringEquals", "Example")}})
	for _, key := range []string{"kms:EncryptionContext:AppName", "kms:EncryptionContext:appname", "KMS:ENCRYPTIONCONTEXT:APPNAME"} {
		w.allow("alice", "kms:Decrypt", with{key: "Example", "account": ""})
		w.deny("alice", "kms:Decrypt", with{key: "example", "account": ""})
	}
	w.deny("alice", "kms:Decrypt", with{"kms:EncryptionContext:AppNam": "Example", "kms:EncryptionContext:AppNames": "Example", "EncryptionContext:AppName": "Example", "account": ""})
	// Under two spellings, all values count: "your access might be unexpectedly denied".
	two := with{"kms:EncryptionContext:AppName": "Example", "kms:EncryptionContext:appname": "Other", "account": ""}
	w.deny("alice", "kms:Decrypt", two)
	given(t, policies{identity: []string{one("Allow", "StringLike", "*")}}).allow("alice", "kms:Decrypt", two)
	given(t, policies{identity: []string{allowDecrypt, one("Deny", "StringEquals", "Other")}}).forbid("alice", "kms:Decrypt", two)
	given(t, policies{identity: []string{allowDecrypt, one("Deny", "StringNotEquals", "Example")}}).forbid("alice", "kms:Decrypt", two)

	d, err := policy.Parse(policy.IdentityPolicy, []byte(whole(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kms:encryptioncontext:gRÖßE": "1"}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	r := policy.Request{Principal: people["alice"], Action: "kms:Decrypt", Resource: "*"}
	allowed := func() bool { return policy.Evaluate(&r, &policy.Policies{Identity: []*policy.Document{d}}).Allowed() }
	r.Context.Set("kms:EncryptionContext:Größe", "1")
	if !allowed() {
		t.Error("a key with umlauts is not found in another case")
	}
	r.Context.Reset()
	if allowed() {
		t.Error("a key is found in an empty context")
	}
	// Bytes that are not UTF-8 equal only themselves.
	r.Context.Set("kms:EncryptionContext:Gr\xc3\xc3e", "1")
	r.Context.Set("kms:EncryptionContext:Gr\xd6\xdfe", "1")
	if allowed() {
		t.Error("a malformed key is taken for another")
	}
}

// TestKeysOfOneHash are names that only a comparison of the names can tell apart: they end
// alike.
func TestKeysOfOneHash(t *testing.T) {
	for _, pair := range [][2]string{{"kms:a:namesake", "kms:b:namesake"}, {"kms:other-namesake", "kms:namesake"}} {
		for i, key := range pair {
			w := given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"` + key + `": "x"}}}`}})
			w.allow("alice", "kms:Decrypt", with{key: "x", "account": ""})
			w.deny("alice", "kms:Decrypt", with{pair[1-i]: "x", "account": ""})
			w.allow("alice", "kms:Decrypt", with{pair[1-i]: "y", key: "x", "account": ""})
		}
	}
}

// curious describes a request with nothing, and counts the keys that it would be asked for.
type curious struct{ asked, not int }

func (d *curious) Describe(c *policy.Context) {
	for i := range 640 {
		if c.Asks(fmt.Sprint("kms:Key", i)) {
			d.asked++
		} else {
			d.not++
		}
	}
}

// TestAsksForLittle: a policy with one condition asks for one key, and seems to ask for one
// in 64 of the others. A context for any policies asks for all.
func TestAsksForLittle(t *testing.T) {
	doc, err := policy.Parse(policy.IdentityPolicy, []byte(whole(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Null": {"kms:Key7": "true"}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	p := &policy.Policies{Identity: []*policy.Document{doc}}
	r := policy.Request{Principal: people["alice"], Action: "kms:Decrypt", Resource: "*"}
	var d curious
	r.Context.DescribedBy(&d, p)
	if !policy.Evaluate(&r, p).Allowed() || d.asked < 1 || d.asked > 640/16 {
		t.Errorf("of 640 keys it asks for %d", d.asked)
	}
	r.Context.Reset()
	d = curious{}
	if d.Describe(&r.Context); d.not > 0 {
		t.Errorf("an empty context asks for %d keys, and for %d not", d.asked, d.not)
	}
}

// TestSpellingsOfKeys: a key is found in every spelling, whether it is short or long, and of
// as many bytes in one as in the other or not. Two characters beyond ASCII are letters of it in
// another case: the Kelvin sign and the long s.
func TestSpellingsOfKeys(t *testing.T) {
	for _, pair := range [][2]string{
		{"kms:EncryptionContext:Kelvin", "kms:EncryptionContext:\u212aELVIN"}, {"kms:k", "kms:\u212a"}, {"kms:S", "kms:\u017f"}, {"kms:stra\u00dfe", "KMS:STRA\u1e9eE"},
		{"kms:EncryptionContext:ÄÖÜÄ", "kms:EncryptionContext:äöüä"},         // the last eight bytes are of letters beyond ASCII
		{"kms:EncryptionContext:Àbcdefgh", "kms:EncryptionContext:àBCDEFGH"}, // of the eight last bytes the first is half a letter
	} {
		for i, key := range pair {
			doc, err := policy.Parse(policy.IdentityPolicy, []byte(whole(fmt.Sprintf(`{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {%+q: "x"}}}`, key))))
			if err != nil {
				t.Fatal(err)
			}
			p := &policy.Policies{Identity: []*policy.Document{doc}}
			r := policy.Request{Principal: people["alice"], Action: "kms:Decrypt", Resource: "*"}
			r.Context.Set(pair[1-i], "x")
			if !policy.Evaluate(&r, p).Allowed() {
				t.Errorf("%s is not found as %s", pair[1-i], key)
			}
			r.Context.DescribedBy(spelled(pair[1-i]), p)
			if !policy.Evaluate(&r, p).Allowed() {
				t.Errorf("%s of a described request is not found as %s", pair[1-i], key)
			}
		}
	}
}

// spelled describes a request with one key.
type spelled string

func (key spelled) Describe(c *policy.Context) { c.Set(string(key), "x") }

// TestSetPrincipal is the table "Principal key values" of the IAM User Guide.
func TestSetPrincipal(t *testing.T) {
	for _, who := range names {
		facts := principalContext(people[who])
		want := map[string]string{}
		for _, f := range facts {
			want[f.key] = f.values[0]
		}
		for _, key := range []string{
			"aws:PrincipalArn", "aws:PrincipalAccount", "aws:PrincipalType", "aws:PrincipalIsAWSService", "aws:PrincipalServiceName",
			"aws:userid", "aws:username", "aws:PrincipalTag/team",
		} {
			value, present := want[key]
			if key == "aws:PrincipalTag/team" && who == "carol" {
				value, present = "*", true // hers is spelled Team
			}
			condition := `{"Null": {"` + key + `": true}}`
			if present {
				condition = `{"StringEquals": {"` + key + `": "` + value + `"}}`
			}
			text := `{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": ` + condition + `}}`
			d, err := policy.Parse(policy.IdentityPolicy, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			p := people[who]
			r := policy.Request{Principal: p, Action: "kms:Decrypt", Resource: "*"}
			r.Context.SetPrincipal(&p)
			root := policy.Principal{Type: policy.User, Account: ours}
			r.Principal = root // whom the policy is attached to does not matter here
			if !policy.Evaluate(&r, &policy.Policies{Identity: []*policy.Document{d}}).Allowed() {
				t.Errorf("%s: %s is not %q (present: %v)", who, key, value, present)
			}
		}
	}
}

// described counts how often it is asked.
type described struct{ asked int }

func (d *described) Describe(c *policy.Context) {
	d.asked++
	c.Set("kms:KeySpec", "SYMMETRIC_DEFAULT")
}

// TestDescribedBy: a request is described when a policy asks what it is like, and once.
func TestDescribedBy(t *testing.T) {
	const key = "arn:aws:kms:us-east-1:000000000000:key/"
	for _, c := range []struct {
		resource, condition string
		asked               int
		allowed             bool
	}{
		{"*", `{}`, 0, true},
		{"*", `{"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}}`, 1, true},
		{"*", `{"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}, "Null": {"kms:ViaService": "true"}}`, 1, true},
		{"*", `{"StringLike": {"kms:KeySpec": "${kms:KeySpec}*"}}`, 1, true},
		{"*", `{"StringEquals": {"kms:ResourceAliases": "alias/a"}}`, 1, false},
		{key + "SYMMETRIC_DEFAULT", `{}`, 0, true},
		{key + "${kms:KeySpec}", `{}`, 1, true},
		{key + "other", `{"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT"}}`, 0, false},
	} {
		doc, err := policy.Parse(policy.IdentityPolicy, []byte(whole(`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "`+c.resource+`", "Condition": `+c.condition+`}`)))
		if err != nil {
			t.Fatal(err)
		}
		r := policy.Request{Action: "kms:Decrypt", Resource: key + "SYMMETRIC_DEFAULT", Principal: people["alice"], ResourceAccount: people["alice"].Account}
		p := &policy.Policies{Identity: []*policy.Document{doc}}
		var d described
		r.Context.Set("kms:KeySpec", "left from another request")
		r.Context.DescribedBy(&d, p)
		for range 2 {
			if policy.Evaluate(&r, p).Allowed() != c.allowed {
				t.Errorf("%s if %s: not %v", c.resource, c.condition, c.allowed)
			}
		}
		if d.asked != c.asked {
			t.Errorf("%s if %s: described %d times, not %d", c.resource, c.condition, d.asked, c.asked)
		}
		r.Context.DescribedBy(&d, p)
		r.Context.Reset()
		policy.Evaluate(&r, p)
		if d.asked != c.asked {
			t.Errorf("%s if %s: an empty context is described", c.resource, c.condition)
		}
	}
}

// everything is what a request could be asked for.
type everything struct{ keys []string }

func (e everything) Describe(c *policy.Context) {
	for _, key := range e.keys {
		c.Set(key, "value of "+key)
	}
}

// TestAsks: of a request that is described a policy gets what its conditions and
// variables ask for, in any spelling, whichever of the policies asks; and a request that
// is not described for these policies keeps all that it is given.
func TestAsks(t *testing.T) {
	request := everything{[]string{"kms:ViaService", "kms:EncryptionContext:stra\u00dfe", "kms:EncryptionContext:STRA\u1e9eE", "aws:username", "aws:PrincipalTag/team"}}
	statement := func(condition string) string {
		return whole(`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": ` + condition + `}`)
	}
	never := statement(`{"Null": {"aws:MultiFactorAuthAge": "false"}}`)
	for _, c := range []struct {
		condition string
		allowed   bool
	}{
		{`{"StringEquals": {"KMS:viaservice": "value of kms:ViaService"}}`, true},
		{`{"StringNotEquals": {"kms:ViaService": "value of kms:ViaService"}}`, false},
		{`{"Null": {"kms:ViaService": "true"}}`, false},
		{`{"StringEquals": {"kms:EncryptionContext:STRAßE": ["value of kms:EncryptionContext:straße", "value of kms:EncryptionContext:STRA\u1e9eE"]}}`, true},
		{`{"StringEquals": {"kms:EncryptionContext:STRAßE": "value of kms:EncryptionContext:straße"}}`, false}, // not both of them
		{`{"StringEquals": {"kms:ViaService": "value of ${kms:viaService}"}}`, false},
		{`{"StringLike": {"aws:username": "*${aws:principaltag/TEAM}"}}`, false},
		{`{"StringLike": {"aws:PrincipalTag/team": "value of *", "aws:username": "value of *"}}`, true},
		{`{"StringEquals": {"aws:userid": "${aws:none, 'nobody'}"}}`, false},
		{`{"StringEqualsIfExists": {"aws:userid": "nobody"}}`, true},
	} {
		doc, err := policy.Parse(policy.IdentityPolicy, []byte(statement(c.condition)))
		if err != nil {
			t.Fatal(err)
		}
		other, err := policy.Parse(policy.IdentityPolicy, []byte(never))
		if err != nil {
			t.Fatal(err)
		}
		all, err := policy.Parse(policy.IdentityPolicy, []byte(statement(`{}`)))
		if err != nil {
			t.Fatal(err)
		}
		for name, p := range map[string]*policy.Policies{
			"identity":      {Identity: []*policy.Document{doc}},
			"second of two": {Identity: []*policy.Document{other, doc}},
			"boundary":      {Identity: []*policy.Document{all}, Boundary: doc},
			"session":       {Identity: []*policy.Document{all}, Session: []*policy.Document{other, doc}},
		} {
			r := policy.Request{Action: "kms:Decrypt", Resource: "arn:aws:kms:us-east-1:000000000000:key/k", Principal: people["alice"], ResourceAccount: people["alice"].Account}
			r.Context.DescribedBy(request, p)
			if policy.Evaluate(&r, p).Allowed() != c.allowed {
				t.Errorf("%s as %s: not %v", c.condition, name, c.allowed)
			}
			r.Context.Reset()
			request.Describe(&r.Context)
			if policy.Evaluate(&r, p).Allowed() != c.allowed {
				t.Errorf("%s as %s, not described: not %v", c.condition, name, c.allowed)
			}
			for i := range 1000 {
				if key := fmt.Sprint("aws:key", i); !r.Context.Asks(key) {
					t.Fatalf("%s as %s: a context for any policies does not ask for %s", c.condition, name, key)
				}
			}
		}
	}
}
