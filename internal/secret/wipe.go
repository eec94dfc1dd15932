package secret

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"unsafe"
)

// Wipe zeroes b. The call is never inlined, so that the compiler cannot decide
// that a store to memory about to be dropped is dead.
//
//go:noinline
func Wipe(b []byte) {
	clear(b)
}

// ScrubStack zeroes the stack below its caller, where the caller's callees have
// had their variables.
//
//go:noinline
func ScrubStack() {
	var frame [4 << 10]byte
	Wipe(frame[:])
}

// WipeObject zeroes what x points to: a key schedule, a cipher or a MAC that
// was made from a key. It follows pointers and interfaces inside it only to the
// types of cryptoTypes, and so never reaches a shared table, a function or
// memory that belongs to someone else. The object must not be used afterwards,
// nor, for an HMAC, any of its clones: they share their key.
//
// Values that hold no pointer (and nil) are left alone.
func WipeObject(x any) {
	if x == nil {
		return
	}
	v := reflect.ValueOf(x)
	var w wiper
	switch v.Kind() {
	case reflect.Pointer:
		w.pointee(v)
	case reflect.Struct:
		w.fields(v, false) // a copy; what it points to is not
	}
}

// cryptoTypes are the types an object may lead to, by package path and name.
// Their byte slices are their own too: an HMAC keeps its padded key in one.
var cryptoTypes = map[string]bool{
	"crypto/internal/fips140/aes.Block":                      true,
	"crypto/internal/fips140/aes.CTR":                        true,
	"crypto/internal/fips140/aes/gcm.GCM":                    true,
	"crypto/internal/fips140/hmac.HMAC":                      true,
	"crypto/internal/fips140/sha256.Digest":                  true,
	"crypto/internal/fips140/sha512.Digest":                  true,
	"golang.org/x/crypto/chacha20.Cipher":                    true,
	"golang.org/x/crypto/chacha20poly1305.chacha20poly1305":  true,
	"golang.org/x/crypto/chacha20poly1305.xchacha20poly1305": true,
}

// isCryptoType is a look-up in cryptoTypes, remembered: names are slow to make.
func isCryptoType(t reflect.Type) bool {
	if known, ok := cryptoTypeCache.Load(t); ok {
		return known.(bool)
	}
	is := cryptoTypes[typeName(t)]
	cryptoTypeCache.Store(t, is)
	return is
}

var cryptoTypeCache sync.Map // reflect.Type to bool

// typeName names t as cryptoTypes does. A toolchain with GOFIPS140 set has a
// version in the path of its module: crypto/internal/fips140/v1.0.0-.../aes.
func typeName(t reflect.Type) string {
	path := t.PkgPath()
	const fips = "crypto/internal/fips140/"
	if rest, ok := strings.CutPrefix(path, fips+"v"); ok {
		if _, pkg, ok := strings.Cut(rest, "/"); ok {
			path = fips + pkg
		}
	}
	return path + "." + t.Name()
}

// leadsSomewhere reports whether a value of type t can hold what wiper.value looks
// for: a cipher is mostly numbers, and looking at each costs more than zeroing it.
func leadsSomewhere(t reflect.Type) bool {
	if known, ok := leadsCache.Load(t); ok {
		return known.(bool)
	}
	leads := false
	switch t.Kind() {
	case reflect.Interface, reflect.Pointer, reflect.Slice:
		leads = true
	case reflect.Struct:
		for i := range t.NumField() {
			leads = leads || leadsSomewhere(t.Field(i).Type)
		}
	}
	leadsCache.Store(t, leads)
	return leads
}

var leadsCache sync.Map // reflect.Type to bool

type wiper struct {
	seen []unsafe.Pointer // few
}

// pointee zeroes what p points to, after what that leads to.
func (w *wiper) pointee(p reflect.Value) {
	if p.IsNil() || slices.Contains(w.seen, p.UnsafePointer()) {
		return
	}
	// NewAt drops the read-only mark that reflect puts on unexported fields.
	e := reflect.NewAt(p.Type().Elem(), p.UnsafePointer()).Elem()
	if e.Kind() == reflect.Struct && leadsSomewhere(e.Type()) {
		w.seen = append(w.seen, p.UnsafePointer())
		w.fields(e, isCryptoType(e.Type()))
	}
	// SetZero runs the garbage collector's write barriers for pointer fields,
	// which a plain clear of the bytes would not.
	e.SetZero()
}

// fields wipes what the fields of a struct lead to.
func (w *wiper) fields(s reflect.Value, ownsBytes bool) {
	for i := range s.NumField() {
		w.value(s.Field(i), ownsBytes)
	}
}

func (w *wiper) value(f reflect.Value, ownsBytes bool) {
	switch f.Kind() {
	case reflect.Struct:
		w.fields(f, ownsBytes)
	case reflect.Interface:
		if !f.IsNil() {
			w.value(f.Elem(), false)
		}
	case reflect.Pointer:
		if isCryptoType(f.Type().Elem()) {
			w.pointee(f)
		}
	case reflect.Slice:
		if ownsBytes && f.Type().Elem().Kind() == reflect.Uint8 {
			Wipe(f.Bytes())
		}
	}
}
