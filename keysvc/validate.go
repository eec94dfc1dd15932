package keysvc

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

func errorf(code, format string, args ...any) error {
	return &kmsapi.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// violations collects what a request's members violate. AWS reports all at
// once and checks them before anything else.
type violations []string

func (v *violations) add(value, member, constraint string) {
	*v = append(*v, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", value, member, constraint))
}

func (v violations) err() error {
	switch len(v) {
	case 0:
		return nil
	case 1:
		return errorf(kmsapi.CodeValidation, "1 validation error detected: %s", v[0])
	}
	return errorf(kmsapi.CodeValidation, "%d validation errors detected: %s", len(v), strings.Join(v, "; "))
}

func quoted(s string) string { return "'" + s + "'" }

// text checks a required string of 1 to limit characters.
func (v *violations) text(value, member string, limit int) {
	switch {
	case value == "":
		v.add("null", member, "Member must not be null")
	case utf8.RuneCountInString(value) > limit:
		v.add(quoted(value), member, fmt.Sprintf("Member must have length less than or equal to %d", limit))
	}
}

// optionalText is text for a member that may be absent.
func (v *violations) optionalText(value *string, member string, limit int) {
	if value == nil {
		return
	}
	if *value == "" {
		v.add("''", member, "Member must have length greater than or equal to 1")
		return
	}
	v.text(*value, member, limit)
}

// longText checks a string that may be empty.
func (v *violations) longText(value, member string, limit int) {
	if utf8.RuneCountInString(value) > limit {
		v.add(quoted(value), member, fmt.Sprintf("Member must have length less than or equal to %d", limit))
	}
}

// description checks a key's description.
func (v *violations) description(value string) {
	v.longText(value, "description", kmsapi.MaxDescription)
}

// number checks an optional number.
func (v *violations) number(value *int, member string, low, high int) {
	switch {
	case value == nil:
	case *value < low:
		v.add(quoted(strconv.Itoa(*value)), member, fmt.Sprintf("Member must have value greater than or equal to %d", low))
	case *value > high:
		v.add(quoted(strconv.Itoa(*value)), member, fmt.Sprintf("Member must have value less than or equal to %d", high))
	}
}

// oneOf checks an optional enumeration.
func (v *violations) oneOf(value *string, member string, allowed []string) {
	if value != nil && !slices.Contains(allowed, *value) {
		v.add(quoted(*value), member, "Member must satisfy enum value set: ["+strings.Join(allowed, ", ")+"]")
	}
}

// blob checks a blob of 1 to limit bytes. AWS does not print its content.
func (v *violations) blob(value []byte, member string, limit int) {
	const hidden = "'java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]'"
	switch {
	case value == nil:
		v.add("null", member, "Member must not be null")
	case len(value) == 0:
		v.add(fmt.Sprintf(hidden, 0, 0), member, "Member must have length greater than or equal to 1")
	case len(value) > limit:
		v.add(fmt.Sprintf(hidden, len(value), len(value)), member, fmt.Sprintf("Member must have length less than or equal to %d", limit))
	}
}

// tokens checks the number of grant tokens.
func (v *violations) tokens(tokens []string) {
	if len(tokens) > kmsapi.MaxGrantTokens {
		v.add("'["+strings.Join(tokens, ", ")+"]'", "grantTokens",
			fmt.Sprintf("Member must have length less than or equal to %d", kmsapi.MaxGrantTokens))
	}
}

var aliasPattern = regexp.MustCompile(`^[a-zA-Z0-9:/_-]+$`)

// aliasName checks the shape of an alias's name as the API's model has it.
func (v *violations) aliasName(name string) {
	v.text(name, "aliasName", kmsapi.MaxAliasName)
	if name != "" && !aliasPattern.MatchString(name) {
		v.add(quoted(name), "aliasName", "Member must satisfy regular expression pattern: "+aliasPattern.String())
	}
}

var encryptionAlgorithms = []string{"SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"}

// algorithmFits refuses an algorithm of other kinds of keys.
func algorithmFits(algorithm *string, k *key) error {
	if algorithm != nil && *algorithm != k.record.Spec {
		return errorf(kmsapi.CodeInvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", *algorithm, k.record.Spec)
	}
	return nil
}

// dryRun is the answer to a request that would have succeeded.
func dryRun() error {
	return &kmsapi.Error{
		Code:    kmsapi.CodeDryRunOperation,
		Message: "The request would have succeeded, but the DryRun option is set.",
	}
}

// noRecipient refuses to encrypt a plaintext to an enclave. Ignoring the wish
// would hand the plaintext to the caller.
func noRecipient(r kmsapi.Recipient) error {
	if len(r) > 0 && string(r) != "null" {
		return &kmsapi.Error{Code: kmsapi.CodeUnsupportedOperation, Message: "Recipient is not supported: this service does not verify attestation documents."}
	}
	return nil
}
