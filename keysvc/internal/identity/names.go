package identity

import "strings"

const (
	digits    = "0123456789"
	letters   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	nameChars = letters + digits + "_+=,.@-"
)

// IsName accepts what the names of users, roles and policies are made of. Their
// length is for the caller to check.
func IsName(s string) bool { return only(s, nameChars) }

// IsPath accepts a path: it begins and ends with a slash, and what is between is made
// of the characters of names. Of users' and roles' paths IAM allows more; a policy's
// wildcards, or two slashes, could not be named in a policy.
func IsPath(s string) bool {
	return s == "/" || len(s) > 2 && s[0] == '/' && s[len(s)-1] == '/' &&
		only(s, nameChars+"/") && !strings.Contains(s, "//")
}

// IsPathPrefix accepts the beginning of a path.
func IsPathPrefix(s string) bool { return strings.HasPrefix(s, "/") && only(s, nameChars+"/") }

// IsAccount accepts an account's number.
func IsAccount(s string) bool { return len(s) == 12 && only(s, digits) }

// only tells whether s is not empty and made of chars.
func only(s, chars string) bool { return s != "" && strings.Trim(s, chars) == "" }

// NameIn is the name in an ARN of an entity or a policy.
func NameIn(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// AccountIn is the account in an ARN of an entity or a policy.
func AccountIn(arn string) string {
	rest, _ := strings.CutPrefix(arn, "arn:aws:iam::")
	account, _, _ := strings.Cut(rest, ":")
	return account
}
