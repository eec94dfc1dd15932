// Package strictjson reads JSON that a stranger wrote so that there is one way to
// read it.
//
// encoding/json takes the last of two members of one name, matches names in any
// letter case, and puts U+FFFD for what is not Unicode: two readers of one body may
// see two requests. [Decode] is json.Unmarshal for which a name means the member of
// exactly that name, and which refuses
//
//   - a name twice in one object, at any level, escapes resolved;
//   - two names that differ only by case in an object that becomes a struct. In one
//     that becomes a map they are two keys, as an encryption context may have;
//   - invalid UTF-8, and escapes of one half of a surrogate pair (RFC 8259, 8.2);
//   - numbers that no float64 can hold;
//   - more bytes, more nesting or more members than the limits allow;
//   - anything but one object, and anything behind it.
//
// Members that the target does not have are ignored, as AWS ignores them.
package strictjson

import (
	"bytes"
	stdjson "encoding/json"
	"reflect"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Error says what is wrong, in a sentence for the peer. It quotes nothing: the body
// may be a plaintext.
type Error string

func (e Error) Error() string { return string(e) }

// The errors of this package.
const (
	ErrTooLarge    Error = "The request is too large."
	ErrTooDeep     Error = "The request's JSON is nested too deeply."
	ErrTooMany     Error = "The request has too many members."
	ErrSyntax      Error = "The request is not valid JSON."
	ErrUnicode     Error = "The request has text that is not valid Unicode."
	ErrNumber      Error = "The request has a number that is out of range."
	ErrNotObject   Error = "The request is not a JSON object."
	ErrTrailing    Error = "There are bytes after the request's JSON object."
	ErrTwice       Error = "The request names a member twice."
	ErrCaseVariant Error = "The request names a member twice, in different letter case."
	ErrType        Error = "A member of the request has the wrong type."
)

// Limits bound a document. All count what is allowed.
type Limits struct {
	MaxBytes int
	// MaxDepth is how many objects and arrays may be inside one another. The
	// outermost object is the first.
	MaxDepth int
	// MaxMembers is how many members and elements all objects and arrays may have
	// together.
	MaxMembers int
}

// AWS is enough for every request of AWS's JSON protocols that this project
// answers: KMS's nest at most 4 deep, and IAM's and KMS's bodies end far below.
var AWS = Limits{MaxBytes: 1 << 20, MaxDepth: 16, MaxMembers: 10_000}

// Decode is json.Unmarshal for one who reads strictly, into a value that is new. No body
// at all is an empty object, as it is for AWS. The target is a pointer to a struct or
// a map; the error is an [Error], or json's for a target that is neither.
func Decode(data []byte, l Limits, v any) error {
	if len(data) > l.MaxBytes {
		return ErrTooLarge
	}
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer || reflect.ValueOf(v).IsNil() {
		return &stdjson.InvalidUnmarshalError{Type: t} // our own bug
	}
	if len(bytes.Trim(data, " \t\r\n")) == 0 { // JSON's white space
		data = []byte("{}")
	}
	if decodePlain(data, l, v) {
		return nil
	}
	return decodeWary(data, l, v, t)
}

// decodePlain reads a document that leaves no room for doubt, as nearly all do, in one
// pass: a short one with no members but the target's, each under its exact name and
// once. For any other it returns false, and the target has some of the members.
func decodePlain(data []byte, l Limits, v any) bool {
	containers := bytes.Count(data, []byte("{")) + bytes.Count(data, []byte("[")) // or more than there are
	return containers <= l.MaxDepth && len(data) <= l.MaxMembers &&               // each takes a byte at least
		bytes.TrimLeft(data, " \t\r\n")[0] == '{' && json.Unmarshal(data, v, plainly) == nil
}

// plainly refuses what this library does not by itself: members that the target does not
// have, and those that it keeps as they are, so that nobody has read their numbers.
var plainly = json.JoinOptions(json.RejectUnknownMembers(true), json.WithUnmarshalers(json.JoinUnmarshalers(
	json.UnmarshalFunc(func([]byte, *stdjson.RawMessage) error { return ErrType }),
	json.UnmarshalFromFunc(readPairs))))

// readPairs reads an object of texts, as most encryption contexts are, faster than the
// library, which would ask reflection about each.
func readPairs(d *jsontext.Decoder, pairs *map[string]string) error {
	if d.PeekKind() != jsontext.KindBeginObject {
		return ErrType
	}
	_, err := d.ReadToken()
	m := map[string]string{}
	for err == nil && d.PeekKind() == jsontext.KindString {
		var name, value string
		if name, err = readText(d); err == nil {
			value, err = readText(d)
			m[name] = value
		}
	}
	if err != nil {
		return err
	}
	*pairs = m
	_, err = d.ReadToken() // the end
	return err
}

func readText(d *jsontext.Decoder) (string, error) {
	t, err := d.ReadToken()
	if err == nil && t.Kind() != jsontext.KindString {
		err = ErrType
	}
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

// decodeWary reads any document, in two passes. It is into t.
func decodeWary(data []byte, l Limits, v any, t reflect.Type) error {
	if !utf8.Valid(data) {
		return ErrUnicode
	}
	if err := inspect(data, l, t); err != nil {
		return err
	}
	// Names are matched exactly, which is this library's default. That none is
	// there twice has been seen.
	if err := json.Unmarshal(data, v, jsontext.AllowDuplicateNames(true)); err != nil {
		return ErrType // err may quote the member
	}
	return nil
}
