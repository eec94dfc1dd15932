package strictjson

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// walker is one pass over a document's tokens, beside the type that it is for.
type walker struct {
	d       jsontext.Decoder
	in      bytes.Buffer
	limits  Limits
	members int
}

// walkers are used again, for the memory of their decoders.
var walkers = sync.Pool{New: func() any { return new(walker) }}

// inspect walks data, a document for t, once. The decoder reads data where it is and
// keeps no copy.
func inspect(data []byte, l Limits, t reflect.Type) error {
	w := walkers.Get().(*walker)
	w.in, w.limits, w.members = *bytes.NewBuffer(data), l, 0
	w.d.Reset(&w.in)
	err := w.document(t)
	w.in = bytes.Buffer{}
	w.d.Reset(&w.in) // lets go of data
	walkers.Put(w)
	return err
}

func (w *walker) document(t reflect.Type) error {
	switch w.d.PeekKind() {
	case jsontext.KindBeginObject:
	case jsontext.KindInvalid:
		_, err := w.d.ReadToken()
		return fault(err)
	default:
		return ErrNotObject
	}
	if err := w.container(1, t); err != nil {
		return err
	}
	if _, err := w.d.ReadToken(); err != io.EOF {
		return ErrTrailing
	}
	return nil
}

// fault is the decoder's error as one of ours.
func fault(err error) error {
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return ErrTwice
	case strings.Contains(err.Error(), "surrogate"): // the library has no value for it
		return ErrUnicode
	}
	return ErrSyntax
}

// value walks a value for t, which is nil if nobody reads it. It is inside depth
// others.
func (w *walker) value(depth int, t reflect.Type) error {
	if w.members++; w.members > w.limits.MaxMembers {
		return ErrTooMany
	}
	kind := w.d.PeekKind()
	switch kind {
	case jsontext.KindBeginObject, jsontext.KindBeginArray:
		return w.container(depth+1, t)
	}
	v, err := w.d.ReadValue()
	if err != nil {
		return fault(err)
	}
	if kind == jsontext.KindNumber {
		if _, err := strconv.ParseFloat(string(v), 64); err != nil {
			return ErrNumber
		}
	}
	return nil
}

// container walks an object or array that is the depth-th inside one another.
func (w *walker) container(depth int, t reflect.Type) error {
	if depth > w.limits.MaxDepth {
		return ErrTooDeep
	}
	open, err := w.d.ReadToken()
	if err != nil {
		return fault(err)
	}
	if open.Kind() == jsontext.KindBeginObject {
		err = w.object(depth, t)
	} else {
		element := elementOf(t)
		for err == nil && w.more() {
			err = w.value(depth, element)
		}
	}
	if err != nil {
		return err
	}
	if _, err := w.d.ReadToken(); err != nil { // the end
		return fault(err)
	}
	return nil
}

// more reports whether the object or array goes on, or breaks off.
func (w *walker) more() bool {
	kind := w.d.PeekKind()
	return kind != jsontext.KindEndObject && kind != jsontext.KindEndArray && kind != jsontext.KindInvalid
}

func (w *walker) object(depth int, t reflect.Type) error {
	var seen names
	fs, member := fieldsOf(t), valueOf(t)
	for w.more() {
		raw, err := w.d.ReadValue()
		if err != nil {
			return fault(err)
		}
		if fs != nil {
			name := text(raw)
			f, known := fs.byName[string(name)]
			if !known {
				f.folded = fold(string(name))
			}
			if err := seen.add(f.folded, known); err != nil {
				return err
			}
			member = f.typ
		}
		if err := w.value(depth, member); err != nil {
			return err
		}
	}
	return nil
}

// text is what a string says.
func text(raw jsontext.Value) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	unquoted, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return nil // not of what the decoder has read
	}
	return unquoted
}

// names are those of an object for a struct. Those of the struct's members differ by
// more than case, so that in most objects there is nothing to compare.
type names struct {
	exact  []string        // of members that were there, folded
	others map[string]bool // names that are none of the struct's, folded
}

// add notes a name, folded, and compares it with those before it. A known one is a
// member's of the struct.
func (n *names) add(folded string, known bool) error {
	if n.others[folded] || !known && slices.Contains(n.exact, folded) {
		return ErrCaseVariant
	}
	if known {
		n.exact = append(n.exact, folded)
		return nil
	}
	if n.others == nil {
		n.others = map[string]bool{}
	}
	n.others[folded] = true
	return nil
}
