package strictjson

import (
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"unicode"
)

// fields are the members of a struct, as encoding/json sees them.
type fields struct {
	types  map[string]reflect.Type // by name
	folded map[string]bool         // what the names fold to
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// plain follows pointers to a type that encoding/json fills by itself, or returns
// nil: one that has a method for it is its own affair.
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
	t = plain(t)
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	if known, ok := fieldCache.Load(t); ok {
		return known.(*fields)
	}
	fs := &fields{types: map[string]reflect.Type{}, folded: map[string]bool{}}
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
		fs.types[name] = f.Type
		fs.folded[fold(name)] = true
	}
	fieldCache.Store(t, fs)
	return fs
}

// fieldCache remembers what a type's fields are, which never changes.
var fieldCache sync.Map // reflect.Type to *fields

// confuses says whether encoding/json would take name, which folds to folded, for a
// field that is spelled otherwise.
func (fs *fields) confuses(name, folded string) bool {
	if fs == nil || !fs.folded[folded] {
		return false
	}
	_, exact := fs.types[name]
	return !exact
}

// typeOf is the type of the member called name of an object for t, or nil.
func (fs *fields) typeOf(name string, t reflect.Type) reflect.Type {
	if fs != nil {
		return fs.types[name]
	}
	if t = plain(t); t != nil && t.Kind() == reflect.Map {
		return t.Elem()
	}
	return nil
}

func elementOf(t reflect.Type) reflect.Type {
	if t = plain(t); t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		return t.Elem()
	}
	return nil
}

func isBytes(t reflect.Type) bool {
	t = plain(t)
	return t != nil && t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// fold maps names that encoding/json takes for one another to one string: each
// letter to the least that equals it under Unicode's simple folding, so that "k" and
// the Kelvin sign are one, and "s" and the long s.
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
