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
//
// [Check] is the same without a target. It does not know structs from maps, and
// refuses names that differ only by case everywhere.
package strictjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/internal/secret"
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

// Check returns an [Error] for what is not one object without a second reading.
func Check(data []byte, l Limits) error {
	_, err := inspect(data, l, nil, true)
	return err
}

// Decode is json.Unmarshal for one who reads strictly. No body at all is an empty
// object, as it is for AWS. The target is a pointer to a struct or a map; the error
// is an [Error], or json's for a target that is neither.
func Decode(data []byte, l Limits, v any) error {
	if len(data) > l.MaxBytes {
		return ErrTooLarge
	}
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte("{}")
	}
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer || reflect.ValueOf(v).IsNil() {
		return &json.InvalidUnmarshalError{Type: t} // our own bug
	}
	ignored, err := inspect(data, l, t, false)
	if err != nil {
		return err
	}
	if len(ignored) > 0 {
		data = bytes.Clone(data)
		defer secret.Wipe(data)
		for _, name := range ignored {
			// No field is called that. Same length: what is left is still JSON.
			for i := name.from; i < name.to; i++ {
				data[i] = ' '
			}
		}
	}
	if err := json.Unmarshal(data, v); err != nil {
		return ErrType // err may quote the member
	}
	return nil
}

// span is a part of the document.
type span struct{ from, to int }

// inspect walks the document once. It returns the names that encoding/json would
// take for a field of another letter case. With everywhere, names that differ only by
// case are refused in every object; without, in those that become structs.
func inspect(data []byte, l Limits, t reflect.Type, everywhere bool) ([]span, error) {
	if len(data) > l.MaxBytes {
		return nil, ErrTooLarge
	}
	if !utf8.Valid(data) {
		return nil, ErrUnicode
	}
	w := &walker{d: json.NewDecoder(bytes.NewReader(data)), data: data, limits: l, everywhere: everywhere}
	w.d.UseNumber()
	if err := w.document(t); err != nil {
		return nil, err
	}
	return w.ignored, nil
}
