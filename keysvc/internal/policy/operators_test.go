package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// TestOperators is every operator with a value that matches, one that does not, none,
// and several; plain, with IfExists, ForAllValues and ForAnyValue. The expectations are the
// rules of the IAM User Guide:
//
//	                  match  mismatch  missing  both  two matches  two mismatches
//	plain             yes    no        no       (1)   yes          no
//	plain, negated    no     yes       yes      (1)   no           yes
//	IfExists          as plain, but missing yes
//	ForAllValues      yes    no        yes      no    yes          no
//	ForAllValues, neg no     yes       yes      no    no           yes
//	ForAnyValue       yes    no        no       yes   yes          no
//	ForAnyValue, neg  no     yes       no       yes   no           yes
//
// (1) AWS wants a set operator there. An Allow then holds for all values only, a Deny for
// any of them, whether negated or not.
func TestOperators(t *testing.T) {
	for _, o := range []struct {
		op, want, match, mismatch string
	}{
		{"StringEquals", "Alpha", "Alpha", "alpha"},
		{"StringNotEquals", "Alpha", "Alpha", "alpha"},
		{"StringEqualsIgnoreCase", "Alpha", "aLPHA", "Alph"},
		{"StringNotEqualsIgnoreCase", "Alpha", "aLPHA", "Alph"},
		{"StringLike", "Al*", "Alpha", "alpha"},
		{"StringNotLike", "Al*", "Alpha", "alpha"},
		{"NumericEquals", "10", "10.0", "11"},
		{"NumericNotEquals", "10", "10.0", "11"},
		{"NumericLessThan", "10", "9.99", "10"},
		{"NumericLessThanEquals", "10", "10", "10.01"},
		{"NumericGreaterThan", "10", "10.01", "10"},
		{"NumericGreaterThanEquals", "10", "10", "9.99"},
		{"DateEquals", "2026-01-02T03:04:05Z", "1767323045", "2026-01-02T03:04:06Z"},
		{"DateNotEquals", "2026-01-02T03:04:05Z", "1767323045", "2026-01-02T03:04:06Z"},
		{"DateLessThan", "2026-01-02", "2026-01-01T23:59:59Z", "2026-01-02T00:00:00Z"},
		{"DateLessThanEquals", "2026-01-02", "2026-01-02T00:00:00Z", "2026-01-02T00:00:01Z"},
		{"DateGreaterThan", "2026-01-02", "2026-01-02T00:00:01Z", "2026-01-02T00:00:00Z"},
		{"DateGreaterThanEquals", "2026-01-02", "2026-01-02T00:00:00Z", "2026-01-01T23:59:59Z"},
		{"Bool", "true", "true", "false"},
		{"BinaryEquals", "QmluYXJ5VmFsdWVJbkJhc2U2NA==", "QmluYXJ5VmFsdWVJbkJhc2U2NA==", "QmluYXJ5"},
		{"IpAddress", "203.0.113.0/24", "203.0.113.255", "203.0.114.0"},
		{"NotIpAddress", "203.0.113.0/24", "203.0.113.255", "203.0.114.0"},
		{"ArnEquals", "arn:aws:kms:*:111122223333:key/k*", keyARN, aliceARN},
		{"ArnLike", "arn:aws:kms:*:111122223333:key/k*", keyARN, aliceARN},
		{"ArnNotEquals", "arn:aws:kms:*:111122223333:key/k*", keyARN, aliceARN},
		{"ArnNotLike", "arn:aws:kms:*:111122223333:key/k*", keyARN, aliceARN},
	} {
		for _, set := range []string{"", "ForAllValues:", "ForAnyValue:"} {
			for _, ifExists := range []string{"", "IfExists"} {
				for _, effect := range []string{"Allow", "Deny"} {
					negated := strings.Contains(o.op, "Not")
					any := set == "ForAnyValue:" || set == "" && effect == "Deny"
					holds := map[string]bool{
						"match": !negated, "mismatch": negated,
						"missing": ifExists != "" || set == "ForAllValues:" || set == "" && negated,
						"both":    any, "two matches": !negated, "two mismatches": negated,
					}
					t.Run(fmt.Sprintf("%s %s%s%s", effect, set, o.op, ifExists), func(t *testing.T) {
						condition := fmt.Sprintf(`"Action": "kms:Decrypt", "Resource": "*", "Condition": {"%s%s%s": {"kms:Test": %q}}}`, set, o.op, ifExists, o.want)
						statement := `{"Effect": "` + effect + `", ` + condition
						if effect == "Deny" {
							statement += "," + allowDecrypt
						}
						w := given(t, policies{identity: []string{statement}})
						for name, facts := range map[string]with{
							"match": {"kms:Test": o.match}, "mismatch": {"KMS:TEST": o.mismatch}, "missing": {"kms:Tests": o.match},
							"both": {"kms:test": []string{o.mismatch, o.match}}, "two matches": {"kms:Test": []string{o.match, o.match}},
							"two mismatches": {"kms:Test": []string{o.mismatch, o.mismatch}},
						} {
							facts["account"] = ""
							switch {
							case effect == "Deny" && holds[name]:
								w.forbid("alice", "kms:Decrypt", facts)
							case holds[name] == (effect == "Allow"):
								w.allow("alice", "kms:Decrypt", facts)
							default:
								w.deny("alice", "kms:Decrypt", facts)
							}
						}
					})
				}
			}
		}
	}
}

// TestManyValues of a condition are alternatives; of a negated one none may match.
func TestManyValues(t *testing.T) {
	w := given(t, policies{identity: []string{
		`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"StringEquals": {"kms:Stage": ["Test", "Beta"]}}}`,
		`{"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*", "Condition": {"StringNotEquals": {"kms:Stage": ["Test", "Beta"]}}}`,
	}})
	w.allow("alice", "kms:Decrypt", with{"kms:Stage": "Test"})
	w.allow("alice", "kms:Decrypt", with{"kms:Stage": "Beta"})
	w.deny("alice", "kms:Decrypt", with{"kms:Stage": "Live"})
	w.deny("alice", "kms:Encrypt", with{"kms:Stage": "Test"})
	w.deny("alice", "kms:Encrypt", with{"kms:Stage": "Beta"})
	w.allow("alice", "kms:Encrypt", with{"kms:Stage": "Live"})
	// An empty list of a multivalued key is a missing key.
	w.deny("alice", "kms:Decrypt", with{"kms:Stage": []string{}})
	w.allow("alice", "kms:Encrypt", with{"kms:Stage": []string{}})
}

func TestNull(t *testing.T) {
	w := given(t, policies{identity: []string{
		`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"Null": {"aws:TokenIssueTime": "true"}}}`,
		`{"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*", "Condition": {"Null": {"aws:TokenIssueTime": false}}}`,
		`{"Effect": "Allow", "Action": "kms:Sign", "Resource": "*", "Condition": {"Null": {"aws:TokenIssueTime": ["True", "FALSE"]}}}`,
	}})
	w.allow("alice", "kms:Decrypt")
	w.deny("alice", "kms:Encrypt")
	w.deny("alice", "kms:Decrypt", with{"aws:TokenIssueTime": ""})
	w.allow("alice", "kms:Encrypt", with{"aws:TokenIssueTime": ""})
	w.allow("alice", "kms:Decrypt", with{"aws:TokenIssueTime": []string{}})
	w.deny("alice", "kms:Encrypt", with{"aws:TokenIssueTime": []string{}})
	w.allow("alice", "kms:Encrypt", with{"aws:TokenIssueTime": []string{"a", "b"}})
	w.allow("alice", "kms:Sign")
	w.allow("alice", "kms:Sign", with{"aws:TokenIssueTime": "x"})
}

// TestAllConditions must hold: all operators and all their keys.
func TestAllConditions(t *testing.T) {
	w := given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*",
		"Condition": {"StringEquals": {"kms:A": "1", "kms:B": "2"}, "Bool": {"kms:C": true}, "NumericLessThan": {"kms:D": 3}}}`}})
	w.allow("alice", "kms:Decrypt", with{"kms:A": "1", "kms:B": "2", "kms:C": "true", "kms:D": "2"})
	w.deny("alice", "kms:Decrypt", with{"kms:A": "0", "kms:B": "2", "kms:C": "true", "kms:D": "2"})
	w.deny("alice", "kms:Decrypt", with{"kms:A": "1", "kms:B": "0", "kms:C": "true", "kms:D": "2"})
	w.deny("alice", "kms:Decrypt", with{"kms:A": "1", "kms:B": "2", "kms:C": "false", "kms:D": "2"})
	w.deny("alice", "kms:Decrypt", with{"kms:A": "1", "kms:B": "2", "kms:C": "true", "kms:D": "3"})
	w = given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": {}}`,
		`{"Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*", "Condition": {"StringEquals": {}}}`}})
	w.allow("alice", "kms:Decrypt")
	w.allow("alice", "kms:Encrypt")
}

// holds evaluates one condition against one value of kms:Test.
func holds(t *testing.T, version, op, want, value string) bool {
	t.Helper()
	text := fmt.Sprintf(`{"Version": %q, "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {%q: {"kms:Test": %+q}}}}`, version, op, want)
	d, err := policy.Parse(policy.IdentityPolicy, []byte(text))
	if err != nil {
		t.Fatalf("%s %s: %v", op, want, err)
	}
	alice := people["alice"]
	r := policy.Request{Principal: alice, Action: "kms:Decrypt", Resource: "*"}
	r.Context.SetPrincipal(&alice)
	r.Context.Set("kms:Test", value)
	return policy.Evaluate(&r, &policy.Policies{Identity: []*policy.Document{d}}).Allowed()
}

// TestComparisons are single comparisons at the edges of each type.
func TestComparisons(t *testing.T) {
	for _, c := range []struct {
		op, want, value string
		holds           bool
	}{
		{"StringEquals", "", "", true},
		{"StringEquals", "~a~", "~a~", true},
		{"StringLike", "~a~", "~a~", true},
		{"StringEquals", "*", "a", false},
		{"StringEquals", "*", "*", true},
		{"StringEquals", "a?", "ab", false},
		{"StringEquals", "é", "É", false},
		{"StringEqualsIgnoreCase", "é", "É", true},
		{"StringEqualsIgnoreCase", "straße", "STRASSE", false},
		{"StringEqualsIgnoreCase", "k", "\u212a", true}, // the Kelvin sign, as in Java and Unicode
		{"StringEqualsIgnoreCase", "a*", "AB", false},
		{"StringEqualsIgnoreCase", "ab", "abc", false},
		{"StringEqualsIgnoreCase", "abc", "ab", false},
		{"StringEqualsIgnoreCase", "", "", true},
		{"StringEqualsIgnoreCase", "AZ@[`{", "az@[`{", true},
		{"StringEqualsIgnoreCase", "@", "`", false},
		{"StringEqualsIgnoreCase", "[", "{", false},
		{"StringEqualsIgnoreCase", "\u0080", "\x80", false},
		{"StringEqualsIgnoreCase", "\u00c0", "\u00e0", true},

		{"NumericLessThanEquals", "10", "9", true},
		{"NumericGreaterThanEquals", "10", "11", true},
		{"DateLessThanEquals", "2026-01-02", "2026-01-01", true},
		{"DateGreaterThanEquals", "2026-01-02", "2026-01-03", true},
		{"NumericEquals", "0", "-0", true},
		{"NumericEquals", "10", "1e1", true},
		{"NumericEquals", "1e1", "10", true},
		{"NumericEquals", "10", "010", true},
		{"NumericEquals", "1.5e-1", "0.15", true},
		{"NumericEquals", "9007199254740993", "9007199254740992", false}, // beyond a float64
		{"NumericLessThan", "9223372036854775807", "9223372036854775806", true},
		{"NumericEquals", "100000000000000000000", "1e20", true}, // beyond an int64
		{"NumericLessThan", "0", "-1", true},
		{"NumericGreaterThan", "-1", "0", true},
		{"NumericEquals", "1", "", false},
		{"NumericEquals", "9", "09.90e-1", false},
		{"NumericEquals", "9", "0.9e1", true},
		{"NumericEquals", "1", "1.", false},
		{"NumericEquals", "1", "+1", false},
		{"NumericEquals", "1", " 1", false},
		{"NumericEquals", "1", "0x1", false},
		{"NumericEquals", "1", "1e", false},
		{"NumericEquals", "1", "1e400", false},
		{"NumericEquals", "1", "-", false},
		{"NumericEquals", "0.5", ".5", false},
		{"NumericEquals", "100", "1e+2", true},
		{"NumericEquals", "100", "1E2", true},
		{"NumericEquals", "1", "one", false},
		{"NumericNotEquals", "1", "one", true}, // as for a missing key
		{"NumericLessThan", "1", "-", false},
		{"NumericGreaterThan", "1", "", false},

		{"DateEquals", "2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", true},
		{"DateEquals", "2026-01-02T03:04:05.5Z", "1767323045.5", true},
		{"DateEquals", "2026-01-02T03:04Z", "2026-01-02T03:04:00Z", true},
		{"DateEquals", "2026-01", "2026-01-01T00:00:00Z", true},
		{"DateEquals", "1767323045", "2026-01-02T03:04:05Z", true},
		{"DateEquals", "10000", "1970-01-01T02:46:40Z", true},
		{"DateEquals", "999999999999", "999999999999", true},
		{"DateEquals", "999999999999", "9999999999999", false},
		{"DateLessThan", "2027-01-01", "9999", false},
		{"DateEquals", "1767323045.123456789", "1767323045.1234567899", true}, // to the nanosecond
		{"DateEquals", "1767323045.12345678", "1767323045.123456789", false},
		{"DateEquals", "1767323045", "-1767323045", false},
		{"DateEquals", "1767323045", "1767323045.", false},
		{"DateEquals", "1767323045", "1767323045.x", false},
		{"DateEquals", "2026-01-02", "2026-01-02T3:04:05Z", false},
		{"DateLessThan", "2027-01-01", "2026-01-02T03:04:05,5Z", false},
		{"DateLessThan", "2027-01-01", "2026", false},
		{"DateLessThan", "2027-01-01", "2026-02-30", false},
		{"DateLessThan", "2027-01-01", "2026-01-02T03:04:05", false}, // no time zone
		{"DateLessThan", "2027-01-01", "", false},
		{"DateLessThan", "2027-01-01", "99999999999999999999", false},
		{"DateGreaterThan", "2026-01-01", "yesterday", false},
		{"DateNotEquals", "2026-01-01", "yesterday", true},

		{"Bool", "true", "TRUE", true},
		{"Bool", "False", "false", true},
		{"Bool", "false", "0", false},
		{"Bool", "false", "", false},

		{"BinaryEquals", "AA==", "AA==", true},
		{"BinaryEquals", "AA==", "AAA=", false},
		{"BinaryEquals", "AA==", "AB==", false}, // stray bits
		{"BinaryEquals", "AA==", "AA", false},
		{"BinaryEquals", "AA==", "AA==\n", false},
		{"BinaryEquals", "", "", true},
		{"BinaryEquals", "", "?", false},

		{"IpAddress", "203.0.113.9", "203.0.113.9", true},
		{"IpAddress", "203.0.113.9", "203.0.113.8", false},
		{"IpAddress", "203.0.113.9/24", "203.0.113.1", true},
		{"IpAddress", "0.0.0.0/0", "255.255.255.255", true},
		{"IpAddress", "0.0.0.0/0", "2001:db8::1", false},
		{"IpAddress", "::/0", "2001:db8::1", true},
		{"IpAddress", "::/0", "203.0.113.9", false},
		{"IpAddress", "2001:DB8:1234:5678::/64", "2001:db8:1234:5678:ffff::1", true},
		{"IpAddress", "2001:DB8:1234:5678::/64", "2001:db8:1234:5679::1", false},
		{"IpAddress", "2001:db8::1", "2001:0db8:0:0::1", true},
		{"IpAddress", "203.0.113.0/24", "::ffff:203.0.113.7", true},
		{"IpAddress", "::ffff:203.0.113.7", "203.0.113.7", true},
		{"IpAddress", "fe80::/10", "fe80::1%eth0", true},
		{"IpAddress", "127.0.0.1", "127.0.0.1:443", false},
		{"IpAddress", "127.0.0.1", "localhost", false},
		{"NotIpAddress", "127.0.0.1", "localhost", true},
		{"NotIpAddress", "127.0.0.1", "", true},

		{"ArnLike", "arn:aws:someservice:*:111122223333:finance/*", "arn:aws:someservice:us-east-2:111122223333:finance/document.txt", true},
		{"ArnLike", "arn:aws:someservice:*:111122223333:finance/*", "arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt", false},
		{"StringLike", "arn:aws:someservice:*:111122223333:finance/*", "arn:aws:someservice:us-east-2:999999999999:store/abc:111122223333:finance/document.txt", true},
		{"ArnLike", "arn:aws:s3:::b/*", "arn:aws:s3:::b/c:d:e", true},
		{"ArnLike", "arn:*:s3:::b", "arn:aws-cn:s3:::b", true},
		{"ArnLike", "arn:aws:~:~:~:~", "arn:aws:~:~:~:~", true},
		{"ArnLike", "arn:aws:s3:~::b", "arn:aws:s3:::b", false},
		{"ArnLike", "arn:aws:s?:::b", "arn:aws:s3:::b", true},
		{"ArnEquals", "arn:aws:s3:::B", "arn:aws:s3:::b", false},
		{"ArnEquals", "arn:aws:s3:::*", "arn:aws:s3::", false},
		{"ArnEquals", "arn:aws:*:*:*:*", "", false},
		{"ArnNotEquals", "arn:aws:*:*:*:*", "no ARN", true},
		{"ArnEquals", "arn:aws:s3:::*", "arx:aws:s3:::b", false},
		{"ArnEquals", "arn:aws:iam::1:user/${aws:username}", "arn:aws:iam::1:user/alice", true},
	} {
		if got := holds(t, policy.Version2012, c.op, c.want, c.value); got != c.holds {
			t.Errorf("%s %q holds for %q: %v", c.op, c.want, c.value, got)
		}
	}
}
