package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
)

// walker is one pass over a document's tokens, beside the type that it is for.
type walker struct {
	d          *json.Decoder
	data       []byte
	limits     Limits
	everywhere bool
	members    int
	ignored    []span
}

func (w *walker) document(t reflect.Type) error {
	first, _, err := w.token()
	if err != nil {
		return err
	}
	if first != json.Delim('{') {
		return ErrNotObject
	}
	if err := w.rest(first, 1, t); err != nil {
		return err
	}
	if _, err := w.d.Token(); !errors.Is(err, io.EOF) {
		return ErrTrailing
	}
	return nil
}

// token returns the next token, and where its text is if it is a string.
func (w *walker) token() (json.Token, span, error) {
	from := int(w.d.InputOffset())
	t, err := w.d.Token()
	if err != nil {
		return nil, span{}, ErrSyntax
	}
	switch t := t.(type) {
	case string:
		to := int(w.d.InputOffset())
		// Before a string there may be spaces, a comma or a colon.
		text := span{from + bytes.IndexByte(w.data[from:to], '"') + 1, to - 1}
		if hasLoneSurrogate(w.data[text.from:text.to]) {
			return nil, span{}, ErrUnicode
		}
		return t, text, nil
	case json.Number:
		if _, err := strconv.ParseFloat(t.String(), 64); err != nil {
			return nil, span{}, ErrNumber
		}
	}
	return t, span{}, nil
}

// value walks a value for t, which is nil if nobody reads it.
func (w *walker) value(depth int, t reflect.Type) error {
	if w.members++; w.members > w.limits.MaxMembers {
		return ErrTooMany
	}
	first, _, err := w.token()
	if err != nil {
		return err
	}
	if first == json.Delim('[') && isBytes(t) {
		return ErrType // encoding/json would take a list of numbers for a blob
	}
	return w.rest(first, depth+1, t)
}

// rest walks the rest of a value that first begins. An object or array is at depth.
func (w *walker) rest(first json.Token, depth int, t reflect.Type) error {
	open, ok := first.(json.Delim)
	if !ok {
		return nil
	}
	if depth > w.limits.MaxDepth {
		return ErrTooDeep
	}
	if open == '{' {
		if err := w.object(depth, t); err != nil {
			return err
		}
	} else {
		element := elementOf(t)
		for w.d.More() {
			if err := w.value(depth, element); err != nil {
				return err
			}
		}
	}
	if _, err := w.d.Token(); err != nil { // the end
		return ErrSyntax
	}
	return nil
}

func (w *walker) object(depth int, t reflect.Type) error {
	fs := fieldsOf(t)
	seen := map[string]string{} // names, by what they are compared as
	for w.d.More() {
		token, text, err := w.token()
		if err != nil {
			return err
		}
		name, ok := token.(string)
		if !ok {
			return ErrSyntax
		}
		as := name
		if w.everywhere || fs != nil {
			as = fold(name)
		}
		if other, twice := seen[as]; twice && other == name {
			return ErrTwice
		} else if twice {
			return ErrCaseVariant
		}
		seen[as] = name
		if fs.confuses(name, as) {
			w.ignored = append(w.ignored, text)
		}
		if err := w.value(depth, fs.typeOf(name, t)); err != nil {
			return err
		}
	}
	return nil
}

// hasLoneSurrogate says whether the text of a valid JSON string escapes one half
// of a surrogate pair without the other, which encoding/json reads as U+FFFD.
func hasLoneSurrogate(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return false
		}
		text = text[i:]
		unit, ok := codeUnit(text)
		switch {
		case !ok:
			text = text[2:] // \n, \\ and so on
		case unit < 0xD800 || unit > 0xDFFF:
			text = text[6:]
		default:
			low, _ := codeUnit(text[6:])
			if unit > 0xDBFF || low < 0xDC00 || low > 0xDFFF {
				return true
			}
			text = text[12:]
		}
	}
}

// codeUnit reads \uXXXX at the start of text.
func codeUnit(text []byte) (uint64, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	u, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return u, err == nil
}
