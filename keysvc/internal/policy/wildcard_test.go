package policy_test

import (
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		pattern      string
		matches, not []string
	}{
		{"", []string{""}, []string{"a"}},
		{"*", []string{"", "a", "a/b", "\n", "*"}, nil},
		{"**", []string{"", "ab"}, nil},
		{"?", []string{"a", "é", "日", "*"}, []string{"", "ab"}},
		{"a*", []string{"a", "ab", "a*"}, []string{"", "ba", "A"}},
		{"*a", []string{"a", "ba", "aa"}, []string{"", "ab"}},
		{"a*b", []string{"ab", "axb", "abab"}, []string{"a", "b", "aba", "xab"}},
		{"a*a", []string{"aa", "aba"}, []string{"a", "ab"}},
		{"*a*", []string{"a", "bab"}, []string{"", "b"}},
		{"a*b*c", []string{"abc", "axbxc", "abbcc", "abcbc"}, []string{"acb", "ab", "abcx"}},
		{"*ab*ab*", []string{"abab", "xabxabx"}, []string{"ab", "aba", "abxa"}},
		{"*aba", []string{"aba", "ababa"}, []string{"abab"}},
		{"a?c", []string{"abc", "a?c", "aéc"}, []string{"ac", "abbc"}},
		{"??", []string{"ab", "éé"}, []string{"a", "abc", "é"}},
		{"*?", []string{"a", "ab", "é"}, []string{""}},
		{"?*", []string{"a", "ab"}, []string{""}},
		{"*??", []string{"ab", "日本"}, []string{"a", "日"}},
		{"*?a", []string{"ba", "bba", "éa"}, []string{"a", "ab"}},
		{"*?b*", []string{"ab", "aab", "bb", "xxabx"}, []string{"b", "ba", ""}},
		{"*a?c*", []string{"abc", "xxaxcx", "aabc", "aaacc"}, []string{"ac", "abd", "abxc"}},
		{"*a?c*d*", []string{"abcd", "xabcxdx", "abcabcd"}, []string{"abc", "dabc", "abd"}},
		{"*?*?*", []string{"ab", "éé"}, []string{"", "a", "é"}},
		{"*??*", []string{"ab", "abc"}, []string{"", "a", "é"}},
		{"*a?b*", []string{"a\ufffdb", "a\xffb", "a日b"}, []string{"a\xff\xffb"}},
		{"*\ufffd?b*", []string{"\ufffdxb"}, []string{"\xffxb", "xb"}},
		{"*é?日*", []string{"éx日", "aéé日b"}, []string{"é日", "éxx日"}},
		{"a*?*b", []string{"axb", "axxb"}, []string{"ab"}},
		{"x*a?*?b", []string{"xaccb", "xacb" + "b"}, []string{"xacb", "xab"}},
		{"/public/*", []string{"/public/", "/public/a/b"}, []string{"/public", "/publicx", "/private/public/"}},
		{"/a/../*", []string{"/a/../b"}, []string{"/b"}},
		{"*" + strings.Repeat("a", 70) + "?b*", []string{strings.Repeat("a", 71) + "b", strings.Repeat("a", 90) + "xb."}, []string{strings.Repeat("a", 70) + "b", strings.Repeat("a", 69) + "xb"}},
		{"*" + strings.Repeat("?", 64) + "*", []string{strings.Repeat("x", 64)}, []string{strings.Repeat("x", 63)}},
		{"*a" + strings.Repeat("?", 63) + "b*", []string{"a" + strings.Repeat("x", 63) + "b"}, []string{"a" + strings.Repeat("x", 62) + "b", "a" + strings.Repeat("x", 64) + "b"}},
		{"*" + strings.Repeat("a?", 100) + "*", []string{strings.Repeat("a", 200), "b" + strings.Repeat("ab", 100)}, []string{strings.Repeat("a", 199), strings.Repeat("ba", 100)}},
	} {
		for _, text := range c.matches {
			if !holds(t, policy.Version2012, "StringLike", c.pattern, text) {
				t.Errorf("%q does not match %q", c.pattern, text)
			}
		}
		for _, text := range c.not {
			if holds(t, policy.Version2012, "StringLike", c.pattern, text) {
				t.Errorf("%q matches %q", c.pattern, text)
			}
		}
	}
}

// TestResourceWildcards is the example of the IAM User Guide's page on Resource.
func TestResourceWildcards(t *testing.T) {
	w := given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::amzn-s3-demo-bucket/*/test/*"}`}})
	for _, object := range []string{"1/test/object.jpg", "1/2/test/object.jpg", "1/2/test/3/object.jpg", "1/2/3/test/4/object.jpg", "1///test///object.jpg", "1/test/.jpg", "/test/object.jpg", "1/test/"} {
		w.allow("alice", "s3:GetObject", with{"resource": "arn:aws:s3:::amzn-s3-demo-bucket/" + object, "account": ""})
	}
	for _, object := range []string{"1-test/object.jpg", "test/object.jpg", "1/2/test.jpg"} {
		w.deny("alice", "s3:GetObject", with{"resource": "arn:aws:s3:::amzn-s3-demo-bucket/" + object, "account": ""})
	}
}

func TestActions(t *testing.T) {
	for _, c := range []struct {
		pattern      string
		matches, not []string
	}{
		{"kms:Decrypt", []string{"kms:Decrypt", "KMS:DECRYPT"}, []string{"kms:Encrypt", "kms:DecryptX", "s3:Decrypt"}},
		{"KMS:decrypt", []string{"kms:Decrypt"}, nil},
		{"kms:AZ", []string{"kms:az", "kms:AZ", "KMS:aZ"}, nil},
		{"kms:az", []string{"kms:az", "kms:AZ"}, nil},
		{"kms:GenerateDataKey*", []string{"kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"}, []string{"kms:GenerateMac"}},
		{"kms:*", []string{"kms:Decrypt"}, []string{"kmsfs:ActAs"}},
		{"kms:?ncrypt", []string{"kms:Encrypt"}, []string{"kms:Decrypt", "kms:ncrypt"}},
		{"*", []string{"kms:Decrypt", "kmsfs:ActAs"}, nil},
		{"*:Decrypt", []string{"kms:Decrypt"}, []string{"kms:Encrypt"}},
		{"kmsfs:ActAs", []string{"kmsfs:ActAs"}, []string{"kms:ActAs"}},
	} {
		yes := given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "` + c.pattern + `", "Resource": "*"}`}})
		no := given(t, policies{identity: []string{`{"Effect": "Allow", "NotAction": ["s3:x", "` + c.pattern + `"], "Resource": "*"}`}})
		for _, action := range c.matches {
			yes.allow("alice", action)
			no.deny("alice", action)
		}
		for _, action := range c.not {
			yes.deny("alice", action)
			no.allow("alice", action)
		}
	}
}

func TestNotResource(t *testing.T) {
	w := given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "kms:*", "NotResource": ["` + keyARN + `", "arn:aws:kms:eu-*:*:*"]}`}})
	w.deny("alice", "kms:Decrypt")
	w.deny("alice", "kms:Decrypt", with{"resource": "arn:aws:kms:eu-west-1:111122223333:key/x"})
	w.allow("alice", "kms:Decrypt", with{"resource": otherKey})
	w.allow("alice", "kms:ListKeys", with{"resource": "*"})
	given(t, policies{identity: []string{`{"Effect": "Allow", "Action": "kms:*", "NotResource": "*"}`}}).deny("alice", "kms:ListKeys", with{"resource": "*"})
}

// TestNoBlowUp bounds the time of the patterns that make backtracking matchers hang, at
// the sizes of the largest key policy and of a long value.
func TestNoBlowUp(t *testing.T) {
	value := strings.Repeat("a", 8<<10)
	start := time.Now()
	for _, pattern := range []string{
		strings.Repeat("*a", 8<<10) + "b",
		"*" + strings.Repeat("a?", 8<<10) + "b*",
		strings.Repeat("*a?", 4<<10) + "b",
		"*" + strings.Repeat("a", 4<<10) + "b*",
		"*" + strings.Repeat("?", 16<<10) + "*",
		strings.Repeat("*a*?", 4<<10) + "b",
	} {
		if holds(t, policy.Version2012, "StringLike", pattern, value) {
			t.Errorf("%.20s... matches", pattern)
		}
	}
	d, err := policy.Parse(policy.IdentityPolicy, []byte(whole(`{"Effect": "Allow", "Action": "kms:`+strings.Repeat("*a", 8<<10)+`b", "Resource": "*"}`)))
	if err != nil {
		t.Fatal(err)
	}
	r := policy.Request{Action: "kms:" + value, Resource: "*"}
	if policy.Evaluate(&r, &policy.Policies{Identity: []*policy.Document{d}}).Allowed() {
		t.Error("kms:*a*a...b matches")
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("matching took %v", d)
	}
}
