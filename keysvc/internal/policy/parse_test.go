package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// statement is a valid key policy's statement with some members replaced.
func statement(members ...string) string {
	parts := map[string]string{"Effect": `"Effect": "Allow"`, "Principal": `"Principal": "*"`, "Action": `"Action": "kms:*"`, "Resource": `"Resource": "*"`}
	order := []string{"Effect", "Principal", "Action", "Resource"}
	for _, m := range members {
		name := strings.TrimPrefix(strings.Split(m, `"`)[1], "Not")
		if parts[name] == "" {
			order = append(order, name)
		}
		parts[name] = m
	}
	var out []string
	for _, name := range order {
		if parts[name] != "-" {
			out = append(out, parts[name])
		}
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// without is a statement that lacks a member.
func without(name string, members ...string) string {
	s := statement(members...)
	for _, m := range []string{`"Effect": "Allow"`, `"Principal": "*"`, `"Action": "kms:*"`, `"Resource": "*"`} {
		if strings.HasPrefix(m, `"`+name) {
			s = strings.Replace(strings.Replace(strings.Replace(s, ", "+m, "", 1), m+", ", "", 1), m, "", 1)
		}
	}
	return s
}

func v2012(statement string) string {
	return `{"Version": "2012-10-17", "Statement": ` + statement + `}`
}

func condition(op, key, value string) string {
	return statement(fmt.Sprintf(`"Condition": {%q: {%q: %s}}`, op, key, value))
}

// TestFaults has one fault per policy: where ^ is.
func TestFaults(t *testing.T) {
	key, identity, trust := policy.KeyPolicy, policy.IdentityPolicy, policy.TrustPolicy
	for _, c := range []struct {
		kind policy.Kind
		text string
		want string // a part of the message; ^ in text marks the place
	}{
		// JSON.
		{key, "^", "the text ends"},
		{key, " \n ^", "the text ends"},
		{key, "^nonsense", "expected a value"},
		{key, "^~{}", "expected a value"},
		{key, `{"a": "^\~"}`, "malformed escape"},
		{key, "{^", "expected a name"},
		{key, `{"Version"^`, "expected :"},
		{key, `{^"Vers`, "the string does not end"},
		{key, `{"Vers^\x": 1}`, "malformed escape"},
		{key, `{"Version": ^`, "the text ends"},
		{key, `{"Version": "2012-10-17"^`, "expected , or }"},
		{key, `{"Version": "2012-10-17",^}`, "expected a name"},
		{key, `{"Version": ^"2012`, "the string does not end"},
		{key, `{"Statement": [1^`, "expected , or ]"},
		{key, `{"Statement": [1,^]}`, "expected a value"},
		{key, `{"Statement": [1 ^2]}`, "expected , or ]"},
		{key, `{"Statement": [^tru]}`, "expected a value"},
		{key, `{} ^{}`, "more text"},
		{key, `{"a": "x^` + "\n" + `"}`, "control character"},
		{key, `{"a": "^\x"}`, "malformed escape"},
		{key, `{"a": "^\u12"}`, "malformed escape"},
		{key, `{"a": "^\u12g4"}`, "malformed escape"},
		{key, `{"a": "^\u12`, "malformed escape"},
		{key, `{"a": "^\u004`, "malformed escape"},
		{key, `{"a": ^"\u0041`, "the string does not end"},
		{key, `{"a": "^\ud83d/.de00"}`, "malformed escape"},
		{key, `{"a": "^\ud83d\n"}`, "malformed escape"},
		{key, `{"a": "^\ud800"}`, "malformed escape"},
		{key, `{"a": "^\ud800\u0041"}`, "malformed escape"},
		{key, `{"a": "^\udc00\ud800"}`, "malformed escape"},
		{key, `{"a": "^\`, "malformed escape"},
		{key, `{"a": ^01}`, "malformed number"},
		{key, `{"a": ^-}`, "malformed number"},
		{key, `{"a": ^-.5}`, "malformed number"},
		{key, `{"a": ^1.}`, "malformed number"},
		{key, `{"a": ^1.e5}`, "malformed number"},
		{key, `{"a": ^1e}`, "malformed number"},
		{key, `{"a": ^1e+}`, "malformed number"},
		{key, `{"a": ^+1}`, "expected a value"},
		{key, `{"a": ^.5}`, "expected a value"},
		{key, `{"a": [[[[[[[^[]]]]]]]]}`, "nested too deeply"},
		{key, `{"a": ^` + "\x00" + `}`, "no such character"},
		{key, "^\ufeff{}", "no such character"},
		{key, `{"Id": "caf^` + "\u0142" + `"}`, "no such character"},
		{key, `{"Id": "ÿ^` + "\u0100" + `"}`, "no such character"},
		{key, "{\"Id\": \"^\xff\"}", "no such character"},
		{key, "{\"Id\": \"\x7f^\x1f\"}", "no such character"},

		// The document.
		{key, "^[]", "a policy is an object, not an array"},
		{key, `^"x"`, "not a string"},
		{key, "^null", "not null"},
		{key, "^{}", "no Statement"},
		{key, `{"Version": ^"2013-10-17", "Statement": ` + statement() + `}`, `unknown Version "2013-10-17"`},
		{key, `{"Version": ^20121017, "Statement": ` + statement() + `}`, "Version is a string, not a number"},
		{key, `{"Id": ^true, "Statement": ` + statement() + `}`, "Id is a string, not a boolean"},
		{key, `{^"version": "2012-10-17", "Statement": ` + statement() + `}`, `unknown element "version"`},
		{key, `{"Statement": ` + statement() + `, ^"Statement": ` + statement() + `}`, `"Statement" is given twice`},
		{key, `{"Statement": ^[]}`, "no statement"},
		{key, `{"Statement": [^1, ` + statement() + `]}`, "a statement is an object, not a number"},
		{key, `{"Statement": [^[], ` + statement() + `]}`, "a statement is an object, not an array"},
		{identity, `{^"Id": "x", "Statement": ` + without("Principal") + `}`, "has no Id"},

		// Statements.
		{key, v2012(`^{"Principal": "*", "Action": "kms:*", "Resource": "*"}`), "no Effect"},
		{key, v2012(`{"Effect": ^"allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}`), `Effect is "Allow" or "Deny"`},
		{key, v2012(`{"Effect": ^["Allow"], "Principal": "*", "Action": "kms:*", "Resource": "*"}`), `Effect is "Allow" or "Deny"`},
		{key, v2012(`^{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}`), "no Principal"},
		{key, v2012(`{"Effect": "Allow", ^"Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*"}`), `"Effect" is given twice`},
		{key, v2012(`{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*", ^"Actions": "x"}`), `unknown element "Actions" of a statement`},
		{key, v2012(`^{"Effect": "Deny", "Principal": "*", "NotPrincipal": "*", "Action": "kms:*", "Resource": "*"}`), "either Principal or NotPrincipal"},
		{key, v2012(`^{"Effect": "Deny", "Principal": "*", "Action": "kms:*", "NotAction": "kms:*", "Resource": "*"}`), "either Action or NotAction"},
		{key, v2012(`^{"Effect": "Deny", "Principal": "*", "Action": "kms:*", "NotResource": "*", "Resource": "*"}`), "either Resource or NotResource"},
		{key, v2012(`^{"Effect": "Allow", "NotPrincipal": "*", "Action": "kms:*", "Resource": "*"}`), "NotPrincipal goes with Deny only"},
		{identity, v2012(`{"Effect": "Allow", ^"Principal": "*", "Action": "kms:*", "Resource": "*"}`), "an identity-based policy has no Principal"},
		{identity, v2012(`{"Effect": "Deny", ^"NotPrincipal": "*", "Action": "kms:*", "Resource": "*"}`), "an identity-based policy has no NotPrincipal"},
		{identity, v2012(`^{"Effect": "Allow", "Resource": "*"}`), "no Action"},
		{identity, v2012(`^{"Effect": "Allow", "Action": "*"}`), "no Resource"},
		{trust, v2012(`{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole", ^"Resource": "*"}`), "a role trust policy has no Resource"},
		{trust, v2012(`{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole", ^"NotResource": "*"}`), "a role trust policy has no NotResource"},
		{trust, v2012(`^{"Effect": "Allow", "Principal": "*"}`), "no Action"},
		{trust, v2012(`^{"Effect": "Allow", "Action": "sts:AssumeRole"}`), "no Principal"},
		{trust, v2012(`^{"Effect": "Deny", "NotPrincipal": "*", "Action": "sts:AssumeRole"}`), "a role trust policy has no NotPrincipal"},

		// Sid.
		{key, v2012(`{"Sid": ^7, "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}`), "Sid is a string, not a number"},
		{identity, v2012(`{"Sid": ^7, "Effect": "Allow", "Action": "kms:*", "Resource": "*"}`), "Sid is a string, not a number"},
		{identity, v2012(`{"Sid": ^"two words", "Effect": "Allow", "Action": "kms:*", "Resource": "*"}`), "letters and digits"},
		{identity, v2012(`[{"Sid": "a", "Effect": "Allow", "Action": "kms:*", "Resource": "*"}, {"Sid": ^"a", "Effect": "Allow", "Action": "kms:*", "Resource": "*"}]`), `Sid "a" is given twice`},
		{trust, v2012(`{"Sid": ^"a-b", "Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}`), "letters and digits"},

		// Actions.
		{key, v2012(statement(`"Action": ^"Decrypt"`)), `action "Decrypt" must begin with a service`},
		{key, v2012(statement(`"Action": ^""`)), "must begin with a service"},
		{key, v2012(statement(`"Action": ^"kms:"`)), "malformed name"},
		{key, v2012(statement(`"Action": ^":Decrypt"`)), "malformed service"},
		{key, v2012(statement(`"Action": ^"k*s:Decrypt"`)), "malformed service"},
		{key, v2012(statement(`"Action": ^"kms:De crypt"`)), "malformed name"},
		{key, v2012(statement(`"Action": ^"kms:Decrypt~"`)), "malformed name"},
		{key, v2012(statement(`"Action": ^"kms~:Decrypt"`)), "malformed service"},
		{key, v2012(statement(`"Action": ^"kms:a:b"`)), "malformed name"},
		{key, v2012(statement(`"Action": ^"kms:${aws:username}"`)), "malformed name"},
		{key, v2012(statement(`"Action": ["kms:Decrypt", ^"x"]`)), "must begin with a service"},
		{key, v2012(statement(`"Action": ^[]`)), "an empty list of actions"},
		{key, v2012(statement(`"Action": ^null`)), "action is a string, not null"},
		{key, v2012(statement(`"Action": [^7]`)), "action is a string, not a number"},
		{key, v2012(statement(`"Action": ^{}`)), "action is a string, not an object"},
		{key, v2012(statement(`"Action": [^["kms:*"]]`)), "action is a string, not an array"},
		{trust, v2012(`{"Effect": "Allow", "Principal": "*", "Action": ^"kms:Decrypt"}`), "not an sts: action"},
		{trust, v2012(`{"Effect": "Allow", "Principal": "*", "Action": ^"*"}`), "must begin with a service"},
		{trust, v2012(`{"Effect": "Allow", "Principal": "*", "Action": ^"*:*"}`), "not an sts: action"},

		// Resources.
		{key, v2012(statement(`"Resource": ^"key/x"`)), `resource "key/x" must be an ARN or "*"`},
		{key, v2012(statement(`"Resource": ^""`)), `must be an ARN or "*"`},
		{key, v2012(statement(`"Resource": ^"**"`)), `must be an ARN or "*"`},
		{key, v2012(statement(`"Resource": ^"arn:aws:kms:us-east-1:111122223333"`)), "is not an ARN"},
		{key, v2012(statement(`"Resource": ^"arn:aws:kms:us-east-1:111122223333:"`)), "is not an ARN"},
		{key, v2012(statement(`"Resource": ^"arn:*:kms:us-east-1:111122223333:key/x"`)), "must name its partition"},
		{key, v2012(statement(`"Resource": ^"arn::kms:us-east-1:111122223333:key/x"`)), "must name its partition"},
		{key, v2012(statement(`"Resource": ^"arn:-cn:kms:us-east-1:111122223333:key/x"`)), "must name its partition"},
		{key, v2012(statement(`"Resource": ^"arn:awsxcn:kms:us-east-1:111122223333:key/x"`)), "must name its partition"},
		{key, v2012(statement(`"Resource": ^"arn:aws${aws:x}:kms:us-east-1:111122223333:key/x"`)), "must name its partition"},
		{key, v2012(statement(`"Resource": ^"arn:${aws:x, 'aws'}:kms:us-east-1:111122223333:key/x"`)), "must name its partition"},
		{key, v2012(statement(`"Resource": ^"arn:aws:${aws:x, 'kms'}:us-east-1:111122223333:key/x"`)), "must name its service"},
		{key, v2012(statement(`"Resource": ^"arn:aws:kms*:us-east-1:111122223333:key/x"`)), "must name its service"},
		{key, v2012(statement(`"Resource": ^"arn:aws:kms${aws:x}:us-east-1:111122223333:key/x"`)), "must name its service"},
		{key, v2012(statement(`"Resource": ^"arn:awsx:kms:us-east-1:111122223333:key/x"`)), "must name its partition"},
		{key, v2012(statement(`"Resource": ^"arn:aws-c~n:kms:us-east-1:111122223333:key/x"`)), "must name its partition"},
		{key, v2012(statement(`"Resource": ^"arn:aws-:kms:us-east-1:111122223333:key/x"`)), "must name its partition"},
		{key, v2012(statement(`"Resource": ^"arn:aws:k*:us-east-1:111122223333:key/x"`)), "must name its service"},
		{key, v2012(statement(`"Resource": ^"arn:aws::us-east-1:111122223333:key/x"`)), "must name its service"},
		{key, v2012(statement(`"Resource": ^"arn:aws:${aws:username}:us-east-1:111122223333:key/x"`)), "must name its service"},
		{key, v2012(statement(`"Resource": ^"arn:aws:kms:${aws:username}:111122223333:key/x"`)), "after the fifth colon only"},
		{key, v2012(statement(`"Resource": ^"arn:aws:kms:us-east-1:*${aws:username}:key/x"`)), "after the fifth colon only"},
		{key, v2012(statement(`"Resource": ^"${aws:PrincipalArn}"`)), "after the fifth colon only"},
		{key, v2012(statement(`"Resource": ^"arn:aws:s3:::${aws:username"`)), "does not end"},
		{key, v2012(statement(`"Resource": ^[]`)), "an empty list of resources"},
		{key, v2012(statement(`"Resource": ^7`)), "resource is a string, not a number"},

		// Variables.
		{key, v2012(condition("StringEquals", "kms:A", `^"${"`)), "does not end"},
		{key, v2012(condition("StringNotEqualsIgnoreCase", "kms:A", `^"${"`)), "does not end"},
		{key, v2012(condition("StringLike", "kms:A", `^"${"`)), "does not end"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${}"`)), "not a condition key"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${username}"`)), "not a condition key"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${a}"`)), "not a condition key"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${~}"`)), "malformed policy variable"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${aws:a\u202db}"`)), "malformed policy variable"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${:username}"`)), "not a condition key"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${aws:}"`)), "not a condition key"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${aws:user name}"`)), "malformed policy variable"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${aws:username,'x'}"`)), "malformed policy variable"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${aws:username, 'x' }"`)), "malformed policy variable"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${aws:username, 'x}"`)), "' is missing"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${aws:username, 'x*'}"`)), "may be meant as a wildcard"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${aws:${aws:username}}"`)), "malformed policy variable"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${**}"`)), "malformed policy variable"},
		{key, v2012(condition("StringEquals", "kms:A", `^"${*"`)), "malformed policy variable"},
		{key, v2012(statement(`"Condition": {"StringEquals": {^"kms:${aws:username}": "x"}}`)), "no policy variables"},

		// Conditions.
		{key, v2012(statement(`"Condition": ^[]`)), "Condition is an object, not an array"},
		{key, v2012(statement(`"Condition": {^"stringLike": {"kms:A": "x"}}`)), `unknown condition operator "stringLike": write StringLike`},
		{key, v2012(statement(`"Condition": {^"foranyvalue:StringLikeIfexists": {"kms:A": "x"}}`)), `: write ForAnyValue:StringLikeIfExists`},
		{key, v2012(statement(`"Condition": {^"StringMatches": {"kms:A": "x"}}`)), `unknown condition operator "StringMatches"`},
		{key, v2012(statement(`"Condition": {^"NullIfExists": {"kms:A": "true"}}`)), "unknown condition operator"},
		{key, v2012(statement(`"Condition": {^"ForAnyValue:Null": {"kms:A": "true"}}`)), "unknown condition operator"},
		{key, v2012(statement(`"Condition": {^"ForAllValues:Null": {"kms:A": "true"}}`)), "unknown condition operator"},
		{key, v2012(statement(`"Condition": {^"ForAnyValue:ForAllValues:Bool": {"kms:A": "true"}}`)), "unknown condition operator"},
		{key, v2012(statement(`"Condition": {^"BoolIfExistsIfExists": {"kms:A": "true"}}`)), "unknown condition operator"},
		{key, v2012(statement(`"Condition": {^"": {"kms:A": "true"}}`)), "unknown condition operator"},
		{key, v2012(statement(`"Condition": {"Bool": ^"true"}`)), "an object of keys, not a string"},
		{key, v2012(statement(`"Condition": {"Bool": {^"SecureTransport": "true"}}`)), "must begin with a service"},
		{key, v2012(statement(`"Condition": {"Bool": {^":x": "true"}}`)), "must begin with a service"},
		{key, v2012(statement(`"Condition": {"Bool": {^"aws:": "true"}}`)), "must begin with a service"},
		{key, v2012(statement(`"Condition": {"Bool": {"aws:A": "true", ^"AWS:a": "true"}}`)), "given twice: its case"},
		{key, v2012(statement(`"Condition": {"Bool": {"aws:A": "true", ^"aws:A": "true"}}`)), `"aws:A" is given twice`},
		{key, v2012(condition("Bool", "kms:A", "^null")), "a condition's value is a string, a number or a boolean, not null"},
		{key, v2012(condition("Bool", "kms:A", "^{}")), "not an object"},
		{key, v2012(condition("Bool", "kms:A", `["true", ^["true"]]`)), "not an array"},
		{key, v2012(condition("Bool", "kms:A", "^[]")), "an empty list of values"},
		{key, v2012(condition("Bool", "kms:A", `^"yes"`)), `Bool: "yes" is neither true nor false`},
		{key, v2012(condition("Bool", "kms:A", `^1`)), "neither true nor false"},
		{key, v2012(condition("Bool", "kms:A", `^""`)), "neither true nor false"},
		{key, v2012(condition("Bool", "kms:A", `^"${aws:username}x"`)), "neither true nor false"},
		{key, v2012(condition("Bool", "kms:A", `^"${aws:username"`)), "does not end"},
		{key, v2012(condition("Bool", "kms:A", `^"${*}"`)), "neither true nor false"},
		{key, v2012(condition("Bool", "kms:A", `^"x${aws:username}"`)), "neither true nor false"},
		{key, v2012(condition("Null", "kms:A", `^"no"`)), "Null has the value true or false"},
		{key, v2012(condition("Null", "kms:A", `[true, ^0]`)), "Null has the value true or false"},
		{key, v2012(condition("NumericEquals", "kms:A", `^"x"`)), `NumericEquals: "x" is not a number`},
		{key, v2012(condition("ForAnyValue:NumericLessThanIfExists", "kms:A", `[1, ^"1.", 2]`)), `NumericLessThan: "1." is not a number`},
		{key, v2012(condition("NumericEquals", "kms:A", `^"1e999"`)), "is not a number"},
		{key, v2012(condition("NumericEquals", "kms:A", `^true`)), "is not a number"},
		{key, v2012(condition("DateEquals", "kms:A", `^"2030"`)), "is not a date"},
		{key, v2012(condition("DateEquals", "kms:A", `^2030`)), "is not a date"},
		{key, v2012(condition("DateEquals", "kms:A", `^"tomorrow"`)), "is not a date"},
		{key, v2012(condition("BinaryEquals", "kms:A", `^"A"`)), "is not base64"},
		{key, v2012(condition("BinaryEquals", "kms:A", `^"AA\n=="`)), "is not base64"},
		{key, v2012(condition("IpAddress", "aws:SourceIp", `^"1.2.3"`)), "is not an IP address"},
		{key, v2012(condition("IpAddress", "aws:SourceIp", `^"1.2.3.4/33"`)), "is not an IP address"},
		{key, v2012(condition("IpAddress", "aws:SourceIp", `^"fe80::1%eth0"`)), "is not an IP address"},
		{key, v2012(condition("IpAddress", "aws:SourceIp", `^"::ffff:1.2.3.0/120"`)), "is not an IP address"},
		{key, v2012(condition("IpAddress", "aws:SourceIp", `^"*"`)), "is not an IP address"},
		{key, v2012(condition("ArnLike", "aws:SourceArn", `^"*"`)), "is not an ARN"},
		{key, v2012(condition("ArnLike", "aws:SourceArn", `^"*:aws:kms:x:y:z"`)), "is not an ARN"},
		{key, v2012(condition("ArnEquals", "aws:SourceArn", `^"x:aws:kms:x:y:z"`)), "is not an ARN"},
		{key, v2012(condition("ArnEquals", "aws:SourceArn", `^":aws:kms:x:y:z"`)), "is not an ARN"},
		{key, v2012(condition("ArnEquals", "aws:SourceArn", `^"arn*:aws:kms:x:y:z"`)), "is not an ARN"},
		{key, v2012(condition("ArnEquals", "aws:SourceArn", `^"${aws:x, 'arn'}:aws:kms:x:y:z"`)), "is not an ARN"},
		{key, v2012(condition("ArnEquals", "aws:SourceArn", `^"arn${aws:x}:aws:kms:x:y:z"`)), "is not an ARN"},
		{key, v2012(condition("ArnEquals", "aws:SourceArn", `^"arn:aws:kms:x:${aws:username}"`)), "is not an ARN"},
		{key, v2012(condition("ArnEquals", "aws:SourceArn", `^"arn:aws:s3:::${aws:x"`)), "does not end"},
		{key, v2012(statement(`"Condition": {"ForAllValues:StringEquals": {^"kms:EncryptionContext:AppName": "x"}}`)), "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key matches requests without the specified encryption context or with an unspecified encryption context. To fix, remove ForAllValues."},
		{key, v2012(statement(`"Condition": {"ForAllValues:StringLikeIfExists": {^"aws:requesttag/x": "x"}}`)), "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key matches requests without the specified tag or with an unspecified tag."},

		// Principals.
		{key, v2012(statement(`"Principal": ^"` + aliceARN + `"`)), `a principal is "*" or an object`},
		{key, v2012(statement(`"Principal": ^["*"]`)), `a principal is "*" or an object`},
		{key, v2012(statement(`"Principal": ^{}`)), "names nobody"},
		{key, v2012(statement(`"Principal": {^"aws": "*"}`)), `unknown kind of principal "aws"`},
		{key, v2012(statement(`"Principal": {"AWS": ^[]}`)), "an empty list of principals"},
		{key, v2012(statement(`"Principal": {"AWS": ^111122223333}`)), "principal is a string, not a number"},
		{key, v2012(statement(`"Principal": {"AWS": [^null]}`)), "principal is a string, not null"},
		{key, v2012(statement(`"Principal": {"AWS": ["*", ^"x"]}`)), `invalid principal "x"`},
	} {
		before, after, _ := strings.Cut(c.text, "^")
		text, line := before+after, 1+strings.Count(before, "\n")
		column := len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
		_, err := policy.Parse(c.kind, []byte(text))
		var faults policy.Faults
		if !errors.As(err, &faults) || len(faults) != 1 || faults[0].Line != line || faults[0].Column != column || !strings.Contains(faults[0].Message, c.want) {
			t.Errorf("%s\nwant %d:%d ...%s\ngot  %v", text, line, column, c.want, err)
		}
	}
}

// TestMessages are faults word by word.
func TestMessages(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:   "line 1, column 1: a policy is an object, not an array",
		`"x"`:  "line 1, column 1: a policy is an object, not a string",
		`1`:    "line 1, column 1: a policy is an object, not a number",
		`true`: "line 1, column 1: a policy is an object, not a boolean",
		`null`: "line 1, column 1: a policy is an object, not null",
		`{"Statement": [
			{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "key/x"}]}`: `line 2, column 73: resource "key/x" must be an ARN or "*"`,
		`{"Id": 1, "Statement": ` + statement() + `,
			"X": 1}`: "line 1, column 8: Id is a string, not a number\n" + `line 2, column 4: unknown element "X": a policy has Version, Id and Statement`,
		`{"` + strings.Repeat("x", 79) + `é": 1, "Statement": ` + statement() + `}`: `line 1, column 2: unknown element "` + strings.Repeat("x", 79) + `"...: a policy has Version, Id and Statement`,
	} {
		if _, err := policy.Parse(policy.KeyPolicy, []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s\n%v, not\n%s", text, err, want)
		}
	}
}

func TestPrincipalSyntax(t *testing.T) {
	long := strings.Repeat("n", 64)
	parse := func(kind, value string) (policy.NamedPrincipal, error) {
		d, err := policy.Parse(policy.KeyPolicy, []byte(v2012(statement(fmt.Sprintf(`"Principal": {%q: %+q}`, kind, value)))))
		if err != nil {
			return policy.NamedPrincipal{}, err
		}
		return d.Principals()[0], nil
	}
	for _, c := range []struct {
		kind, value string
		want        policy.PrincipalKind
		account     string
	}{
		{"AWS", "*", policy.AnyPrincipal, ""},
		{"AWS", ours, policy.AccountPrincipal, ours},
		{"AWS", "arn:aws:iam::111122223333:root", policy.AccountPrincipal, ours},
		{"AWS", "arn:aws-us-gov:iam::111122223333:root", policy.AccountPrincipal, ours},
		{"AWS", "arn:aws:iam::111122223333:user/alice", policy.UserPrincipal, ours},
		{"AWS", "arn:aws:iam::111122223333:user/local/1000", policy.UserPrincipal, ours},
		{"AWS", "arn:aws:iam::111122223333:user/a/b!/_+=,.@-9", policy.UserPrincipal, ours},
		{"AWS", "arn:aws:iam::111122223333:user/" + long, policy.UserPrincipal, ours},
		{"AWS", "arn:aws:iam::111122223333:user/" + strings.Repeat("p/", 254) + "p!/a", policy.UserPrincipal, ours},
		{"AWS", "arn:aws:iam::111122223333:user/~/a", policy.UserPrincipal, ours},
		{"AWS", "arn:aws:iam::111122223333:role/service-role/x", policy.RolePrincipal, ours},
		{"AWS", "arn:aws:sts::111122223333:assumed-role/role/session@x", policy.SessionPrincipal, ours},
		{"AWS", "arn:aws:sts::111122223333:federated-user/x", policy.FederatedUserPrincipal, ours},
		{"AWS", "AIDA" + strings.Repeat("A", 12), policy.UniqueIDPrincipal, ""},
		{"AWS", "AROA4KJY2TU23Y7NK62MV", policy.UniqueIDPrincipal, ""},
		{"AWS", "AROA" + strings.Repeat("A", 124), policy.UniqueIDPrincipal, ""},
		{"AWS", "AROAZZZZZZZZZZZZZZZZZ", policy.UniqueIDPrincipal, ""},
		{"Service", "kmsfs.local", policy.ServicePrincipal, ""},
		{"Service", "ec2.amazonaws.com", policy.ServicePrincipal, ""},
		{"Service", "logs.us-west-2.amazonaws.com", policy.ServicePrincipal, ""},
		{"Federated", "cognito-identity.amazonaws.com", policy.FederatedPrincipal, ""},
		{"Federated", "arn:aws:iam::111122223333:saml-provider/x", policy.FederatedPrincipal, ""},
		{"CanonicalUser", strings.Repeat("0123456789abcdef", 4), policy.CanonicalUserPrincipal, ""},
	} {
		got, err := parse(c.kind, c.value)
		if err != nil || got.Kind != c.want || got.Account != c.account || got.Value != c.value || got.Line != 1 || got.Column < 80 {
			t.Errorf("%s %s: %+v, %v", c.kind, c.value, got, err)
		}
	}
	for _, c := range [][2]string{
		{"AWS", ""}, {"AWS", "11112222333"}, {"AWS", "1111222233334"}, {"AWS", "11112222333x"}, {"AWS", "**"}, {"AWS", "alice"},
		{"AWS", "arn:aws:iam::111122223333:root/"}, {"AWS", "arn:aws:iam::111122223333:rootx"}, {"AWS", "arn:aws:iam::111122223333:Root"},
		{"AWS", "arn:aws:iam::111122223333:user/"}, {"AWS", "arn:aws:iam::111122223333:user"}, {"AWS", "arn:aws:iam::111122223333:user/*"},
		{"AWS", "arn:aws:iam::111122223333:user/a*"}, {"AWS", "arn:aws:iam::111122223333:user/?/a"}, {"AWS", "arn:aws:iam::111122223333:user//a"},
		{"AWS", "arn:aws:iam::111122223333:user/a//b"}, {"AWS", "arn:aws:iam::111122223333:user/a b"}, {"AWS", "arn:aws:iam::111122223333:user/a b/c"},
		{"AWS", "arn:aws:iam::111122223333:user/\u0080/c"}, {"AWS", "arn:aws:iam::111122223333:user/" + long + "n"},
		{"AWS", "arn:aws:iam::111122223333:user/" + strings.Repeat("p/", 256) + "a"},
		{"AWS", "arn:aws:iam::111122223333:group/x"}, {"AWS", "arn:aws:iam::111122223333:assumed-role/a/b"}, {"AWS", "arn:aws:sts::111122223333:user/a"},
		{"AWS", "arn:aws:sts::111122223333:assumed-role/role"}, {"AWS", "arn:aws:sts::111122223333:assumed-role/role/"},
		{"AWS", "arn:aws:sts::111122223333:assumed-role//x"}, {"AWS", "arn:aws:sts::111122223333:assumed-role/a/b/c"},
		{"AWS", "arn:aws:sts::111122223333:assumed-role/role/*"}, {"AWS", "arn:aws:sts::111122223333:federated-user/"},
		{"AWS", "arn:aws:iam:us-east-1:111122223333:root"}, {"AWS", "arn:aws:iam::1111:root"}, {"AWS", "arn:aws:iam::*:root"}, {"AWS", "arn:*:iam::111122223333:root"},
		{"AWS", "urn:aws:iam::111122223333:root"}, {"AWS", "arn:aws:s3::111122223333:root"}, {"AWS", "arn:aws:iam::111122223333"},
		{"AWS", "AIDA" + strings.Repeat("A", 11)}, {"AWS", "AROA" + strings.Repeat("A", 125)}, {"AWS", "AKIA" + strings.Repeat("A", 16)}, {"AWS", "AIDA" + strings.Repeat("a", 16)},
		{"AWS", "AROAENGINEERING12345:carol"},
		{"Service", "*"}, {"Service", "ec2"}, {"Service", "ec2."}, {"Service", ".com"}, {"Service", "ec2..com"}, {"Service", "ec2*.amazonaws.com"}, {"Service", "ec2~.amazonaws.com"}, {"Service", ""},
		{"Federated", "*"}, {"Federated", "a~b"}, {"CanonicalUser", strings.Repeat("0", 63) + "~"}, {"Federated", ""}, {"CanonicalUser", "abc"}, {"CanonicalUser", strings.Repeat("0123456789abcdeF", 4)}, {"CanonicalUser", strings.Repeat("0", 65)},
	} {
		if _, err := parse(c[0], c[1]); err == nil {
			t.Errorf("principal %s %q is accepted", c[0], c[1])
		}
	}
}

func TestDocument(t *testing.T) {
	text := ` { "Id" : "x y",
  "Version":"2012-10-17", "Statement" : [
	{"Sid":"first one","Effect":"Allow","Principal":{"AWS":["` + aliceARN + `",
		"*"],"Service":"ec2.amazonaws.com"},"Action":"kms:*","Resource":"*"},
  {"Effect":"Deny","NotPrincipal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*","Sid":"first one"} ] }` + "\r\n"
	d, err := policy.Parse(policy.KeyPolicy, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if d.Text() != text || d.ID() != "x y" || d.Version() != policy.Version2012 || d.Kind() != policy.KeyPolicy {
		t.Errorf("document %q %q %q %v", d.Text(), d.ID(), d.Version(), d.Kind())
	}
	s := d.Statements()
	if len(s) != 2 || s[0].Sid != "first one" || s[0].Effect != policy.Allow || s[0].Line != 3 || s[0].Column != 2 || s[1].Effect != policy.Deny || s[1].Line != 5 || s[1].Column != 3 {
		t.Errorf("statements %+v", s)
	}
	if policy.Allow.String() != "Allow" || policy.Deny.String() != "Deny" {
		t.Error("effects are called otherwise")
	}
	want := []policy.NamedPrincipal{
		{Kind: policy.UserPrincipal, Value: aliceARN, Account: ours, Line: 3, Column: 58},
		{Kind: policy.AnyPrincipal, Value: "*", Line: 4, Column: 3},
		{Kind: policy.ServicePrincipal, Value: "ec2.amazonaws.com", Line: 4, Column: 18},
		{Kind: policy.AccountPrincipal, Value: ours, Account: ours, Line: 5, Column: 42},
	}
	if got := d.Principals(); !reflect.DeepEqual(got, want) {
		t.Errorf("principals %+v", got)
	}

	// Bind asks for all but "*", and reports who does not exist.
	var asked []policy.NamedPrincipal
	bound, err := d.Bind(func(p policy.NamedPrincipal) (string, bool) {
		asked = append(asked, p)
		return "", true
	})
	if err != nil || len(asked) != 3 || bound.Text() != text || !reflect.DeepEqual(bound.Principals(), want) {
		t.Errorf("Bind: %v, asked for %v", err, asked)
	}
	_, err = d.Bind(func(p policy.NamedPrincipal) (string, bool) { return "", p.Kind == policy.ServicePrincipal })
	var faults policy.Faults
	if !errors.As(err, &faults) || len(faults) != 2 || faults[0].Line != 3 || faults[0].Column != 58 || faults[1].Line != 5 ||
		faults[0].Message != `there is no principal "`+aliceARN+`"` {
		t.Errorf("Bind: %v", err)
	}
	var fault policy.Fault
	if !errors.As(err, &fault) || fault != faults[0] || !strings.HasPrefix(err.Error(), `line 3, column 58: there is no`) || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("Bind's error %v", err)
	}
}

// TestBindLeaves the document as it was.
func TestBindLeaves(t *testing.T) {
	d, err := policy.Parse(policy.KeyPolicy, []byte(whole(to(aliceARN))))
	if err != nil {
		t.Fatal(err)
	}
	bound, err := d.Bind(func(policy.NamedPrincipal) (string, bool) { return "AIDASOMEBODYELSE1234", true })
	if err != nil {
		t.Fatal(err)
	}
	r := &policy.Request{Principal: people["alice"], Action: "kms:Decrypt", Resource: keyARN, ResourceAccount: ours}
	if !policy.Evaluate(r, &policy.Policies{Resource: d}).Allowed() || policy.Evaluate(r, &policy.Policies{Resource: bound}).Allowed() {
		t.Error("a document is bound in place")
	}
}

// TestSuggestions: a misspelt operator is put right, one that does not exist is not.
func TestSuggestions(t *testing.T) {
	for op, end := range map[string]string{
		"stringequals": ": write StringEquals", "FORANYVALUE:arnlikeifexists": ": write ForAnyValue:ArnLikeIfExists", "null": ": write Null", "forallvalues:StringLike": ": write ForAllValues:StringLike",
		"NullIfExists": `"NullIfExists"`, "ForAnyValue:Null": `"ForAnyValue:Null"`, "forallvalues:null": `"forallvalues:null"`, "StringIs": `"StringIs"`,
	} {
		_, err := policy.Parse(policy.KeyPolicy, []byte(v2012(condition(op, "kms:A", `"true"`))))
		if err == nil || !strings.HasSuffix(err.Error(), end) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// TestAccepted are policies at the edges of the language that are none of the faults.
func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		kind policy.Kind
		text string
	}{
		{policy.KeyPolicy, `{"Statement": ` + statement() + `}`},
		{policy.KeyPolicy, `{"Version": "2008-10-17", "Id": "", "Statement": [` + statement() + `]}`},
		{policy.KeyPolicy, "\t\r\n" + v2012(statement()) + " "},
		{policy.KeyPolicy, v2012("[" + statement(`"Sid": "same"`) + "," + statement(`"Sid": "same"`) + "]")},
		{policy.KeyPolicy, v2012(statement(`"Sid": "with spaces & ümlauts"`))},
		{policy.KeyPolicy, v2012(statement(`"Sid": "\u65e5\u672c \ud83d\ude00 \" \\ \/ \b\f\n\r\t"`))},
		{policy.KeyPolicy, v2012(statement(`"Effect": "Deny"`, `"NotPrincipal": {"AWS": "*"}`))},
		{policy.KeyPolicy, v2012(statement(`"NotAction": "kms:*"`, `"NotResource": "*"`))},
		{policy.KeyPolicy, v2012(statement(`"Action": ["kms:Decrypt", "kms:Decrypt"]`))},
		{policy.KeyPolicy, v2012(statement(`"Action": "*:*"`))},
		{policy.KeyPolicy, v2012(statement(`"Resource": ["*", "arn:aws-cn:kms:*:*:*", "arn:aws:s3:::a:b", "arn:aws:kms:${*}:1:x", "arn:aws:${$}:::x"]`))},
		{policy.KeyPolicy, v2012(condition("StringEquals", "kms:A", `["x", 1, -1.5e+3, 0, 1E5, 9.99e-9, true, false, ""]`))},
		{policy.KeyPolicy, v2012(condition("StringLike", "kms:A", `"$ $$ {} } ${$} ${aws:PrincipalTag/Größe_.:/=+-@0123456789}"`))},
		{policy.KeyPolicy, v2012(condition("Bool", "kms:A", `"${aws:SecureTransport}"`))},
		{policy.KeyPolicy, v2012(condition("ForAllValues:StringEquals", "kms:EncryptionContextKeys", `"x"`))},
		{policy.KeyPolicy, v2012(condition("ForAnyValue:StringEquals", "kms:EncryptionContext:x", `"x"`))},
		{policy.KeyPolicy, v2012(condition("ForAllValues:StringEquals", "aws:TagKeys", `"x"`))},
		{policy.KeyPolicy, `{"Version": "2008-10-17", "Statement": ` + condition("StringEquals", "kms:${x", `"${"`) + `}`},
		{policy.IdentityPolicy, `{"Statement": ` + without("Principal", `"Sid": ""`) + `}`},
		{policy.IdentityPolicy, v2012("[" + without("Principal", `"Sid": ""`) + "," + without("Principal", `"Sid": ""`) + "," + without("Principal", `"Sid": "a1"`) + "," + without("Principal", `"Sid": "A1"`) + "]")},
		{policy.IdentityPolicy, v2012(strings.Replace(without("Principal"), `"Resource"`, `"Condition": {"ForAllValues:StringEquals": {"kms:EncryptionContext:x": "x"}}, "Resource"`, 1))},
		{policy.TrustPolicy, `{"Id": "x", "Statement": {"Effect": "Allow", "Principal": {"Federated": "accounts.google.com"}, "Action": ["sts:AssumeRoleWithWebIdentity", "STS:*"]}}`},
		{policy.TrustPolicy, `{"Statement": {"Effect": "Deny", "Principal": "*", "NotAction": "sts:TagSession"}}`},
	} {
		d, err := policy.Parse(c.kind, []byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		} else if d.Text() != c.text || d.Kind() != c.kind {
			t.Errorf("%v %q is kept as %v %q", c.kind, c.text, d.Kind(), d.Text())
		}
	}
	d, err := policy.Parse(policy.KeyPolicy, []byte(v2012(statement(`"Sid": "\u65e5\ud83d\ude00\"\\\/\b\f\n\r\t\u00e9é"`))))
	if err != nil || d.Statements()[0].Sid != "日😀\"\\/\b\f\n\r\téé" {
		t.Errorf("escapes: %v", err)
	}
}

// TestInert: "A key policy statement without a Resource element doesn't apply to any KMS
// key", and KMS accepts it.
func TestInert(t *testing.T) {
	for _, s := range []string{
		`{"Effect": "Allow", "Principal": "*", "Action": "kms:*"}`,
		`{"Effect": "Allow", "Principal": "*", "Resource": "*"}`,
		`{"Effect": "Allow", "Principal": "*"}`,
		`{"Effect": "Allow", "Principal": "*", "NotAction": "kms:X"}`,
		`{"Effect": "Allow", "Principal": "*", "NotResource": "arn:aws:s3:::x"}`,
	} {
		given(t, policies{key: s}).deny("alice", "kms:Decrypt")
		given(t, policies{key: to("*") + "," + strings.Replace(s, "Allow", "Deny", 1)}).allow("alice", "kms:Decrypt")
	}
	given(t, policies{key: `{"Effect": "Allow", "Principal": "*", "NotAction": "kms:X", "NotResource": "arn:aws:s3:::x"}`}).allow("alice", "kms:Decrypt")
}

// TestManyFaults reports all, in the order of the text, up to a limit.
func TestManyFaults(t *testing.T) {
	_, err := policy.Parse(policy.KeyPolicy, []byte("{\"Id\": 1,\n\"Statement\": [\n{\"Effect\": \"x\", \"Principal\": {\"AWS\": \"y\"}, \"Action\": \"z\", \"Resource\": \"r\"}], \"Version\": \"v\", \"X\": 1}"))
	var faults policy.Faults
	if !errors.As(err, &faults) || len(faults) != 7 {
		t.Fatalf("%v", err)
	}
	for i := 1; i < len(faults); i++ {
		if a, b := faults[i-1], faults[i]; a.Line > b.Line || a.Line == b.Line && a.Column >= b.Column {
			t.Errorf("%v comes before %v", a, b)
		}
	}
	for n, want := range map[int]int{policy.MaxFaults - 1: policy.MaxFaults - 1, policy.MaxFaults: policy.MaxFaults, policy.MaxFaults + 1: policy.MaxFaults} {
		_, err := policy.Parse(policy.KeyPolicy, []byte(v2012(statement(`"Action": ["x"`+strings.Repeat(`, "x"`, n-1)+`]`))))
		if !errors.As(err, &faults) || len(faults) != want {
			t.Errorf("%d faults are reported as %d", n, len(faults))
		}
	}
	// Long parts are cut.
	for n, cut := range map[int]bool{80: false, 81: true} {
		_, err = policy.Parse(policy.KeyPolicy, []byte(v2012(statement(`"Action": "`+strings.Repeat("x", n)+`"`))))
		if strings.Contains(err.Error(), strings.Repeat("x", 80)+`"... `) != cut || strings.Contains(err.Error(), strings.Repeat("x", n)+`" `) == cut {
			t.Errorf("%d characters: %v", n, err)
		}
	}
}

func TestDepth(t *testing.T) {
	for n, ok := range map[int]bool{7: true, 8: false} {
		_, err := policy.Parse(policy.KeyPolicy, []byte(`{"a": `+strings.Repeat("[", n)+strings.Repeat("]", n)+`}`))
		if strings.Contains(err.Error(), "nested") == ok {
			t.Errorf("%d arrays in an object: %v", n, err)
		}
	}
	if _, err := policy.Parse(policy.KeyPolicy, []byte(strings.Repeat("[", 1<<20))); err == nil || !strings.Contains(err.Error(), "nested") {
		t.Error("a million brackets are accepted")
	}
}

func TestKinds(t *testing.T) {
	if policy.KeyPolicy.String() != "key policy" || policy.IdentityPolicy.String() != "identity-based policy" || policy.TrustPolicy.String() != "role trust policy" {
		t.Error("kinds are called otherwise")
	}
	for i, name := range []string{"Anonymous", "Account", "User", "AssumedRole", "FederatedUser", "AWSService"} {
		if policy.PrincipalType(i).String() != name {
			t.Errorf("%s is called %v", name, policy.PrincipalType(i))
		}
	}
	if !json.Valid([]byte(policy.DefaultKeyPolicy(ours))) {
		t.Error("the default key policy is no JSON")
	}
}

// TestWithIDs: only the principals that are gone are shown as ids, however their names
// are written.
func TestWithIDs(t *testing.T) {
	const text = `{"Statement": [{"Effect": "Deny", "NotPrincipal": {"AWS": ["arn:aws:iam::111122223333:user\/a", "arn:aws:iam::111122223333:user/\u0062",
		"111122223333"], "Service": "ec2.amazonaws.com"}, "Action": "kms:*", "Resource": "*"},
		{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}]}`
	d, err := policy.Parse(policy.KeyPolicy, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{"arn:aws:iam::111122223333:user/a": "AIDAONE", "arn:aws:iam::111122223333:user/b": "AIDATWO"}
	resolve := func(p policy.NamedPrincipal) (string, bool) {
		id, ok := ids[p.Value]
		return id, ok || p.Kind != policy.UserPrincipal
	}
	if d, err = d.Bind(resolve); err != nil {
		t.Fatal(err)
	}
	if got := d.WithIDs(resolve); got != text {
		t.Errorf("nobody is gone, and the text is\n%s", got)
	}
	delete(ids, "arn:aws:iam::111122223333:user/b")
	two := strings.Replace(text, `"arn:aws:iam::111122223333:user/\u0062"`, `"AIDATWO"`, 1)
	if got := d.WithIDs(resolve); got != two {
		t.Errorf("b is gone, and the text is\n%s", got)
	}
	ids["arn:aws:iam::111122223333:user/a"] = "AIDATHREE"
	one := strings.Replace(two, `"arn:aws:iam::111122223333:user\/a"`, `"AIDAONE"`, 1)
	if got := d.WithIDs(resolve); got != one {
		t.Errorf("a is somebody else, and the text is\n%s", got)
	}
	nobody := func(p policy.NamedPrincipal) (string, bool) { return "AIDAONE", false }
	if got := d.WithIDs(nobody); got != one {
		t.Errorf("all are gone, also who was not bound to an id, and the text is\n%s", got)
	}
}

// TestWithIDsInQuotes: a path may have quotes and backslashes, which are escaped in JSON.
func TestWithIDsInQuotes(t *testing.T) {
	for _, name := range []string{`user/a`, `user/\"/a`, `user/\\/a`, `user/\\\"/a`, `user/x\\/a`} {
		text := whole(to("arn:aws:iam::111122223333:" + name))
		d, err := policy.Parse(policy.KeyPolicy, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if d, err = d.Bind(func(policy.NamedPrincipal) (string, bool) { return "AIDAONE", true }); err != nil {
			t.Fatal(err)
		}
		got := d.WithIDs(func(policy.NamedPrincipal) (string, bool) { return "", false })
		if want := whole(to("AIDAONE")); got != want {
			t.Errorf("%s is gone, and the text is\n%s", name, got)
		}
	}
}
