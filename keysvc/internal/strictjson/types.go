package strictjson

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"unicode"
)

// fields are the members of a struct.
type fields struct{ byName map[string]field }

type field struct {
	typ    reflect.Type
	folded string // the name
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// plain follows pointers to a type that json fills by itself, or returns nil: one
// that has a method for it is its own affair.
func plain(t reflect.Type) reflect.Type {
	for t != nil {
		if reflect.PointerTo(t).Implements(unmarshaler) {
			return nil
		}
		if t.Kind() != reflect.Pointer {
			return t
		}
		t = t.Elem()
	}
	return nil
}

// fieldsOf returns the fields of the struct that t is or points to, or nil.
func fieldsOf(t reflect.Type) *fields {
	if t == nil {
		return nil
	}
	if known, ok := fieldCache.Load(t); ok {
		return known.(*fields)
	}
	fs := newFields(t)
	fieldCache.Store(t, fs)
	return fs
}

// fieldCache remembers what a type's fields are, which never changes.
var fieldCache sync.Map // reflect.Type to *fields

func newFields(t reflect.Type) *fields {
	t = plain(t)
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	fs := &fields{map[string]field{}}
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case !f.IsExported() || tag == "-":
			continue
		case name != "":
		case f.Anonymous:
			continue // its fields are visible as ours
		default:
			name = f.Name
		}
		fs.byName[name] = field{f.Type, fold(name)}
	}
	return fs
}

// valueOf is the type of the values of an object that becomes a map, or nil.
func valueOf(t reflect.Type) reflect.Type {
	if t = plain(t); t != nil && t.Kind() == reflect.Map {
		return t.Elem()
	}
	return nil
}

// elementOf is the type of the elements of an array for t, or nil.
func elementOf(t reflect.Type) reflect.Type {
	if t = plain(t); t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		return t.Elem()
	}
	return nil
}

// fold maps names that readers may take for one another to one string: each letter
// to the least that equals it under Unicode's simple folding, so that "k" and the
// Kelvin sign are one, and "s" and the long s.
func fold(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0 {
		return strings.ToUpper(s) // the same, sooner
	}
	return strings.Map(func(r rune) rune {
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next // around the orbit: its least
			}
			r = next
		}
	}, s)
}
