package keysvc

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// secretMembers are never recorded.
var secretMembers = map[string]bool{"plaintext": true, "ciphertextblob": true, "granttokens": true, "granttoken": true,
	"secretaccesskey": true, "sessiontoken": true, "recipient": true, "certificate": true}

// unrecorded are members that say nothing about what was done.
var unrecorded = map[string]bool{
	"customermasterkeyspec": true, // as KeySpec
	"dryrunmodifiers":       true, "includekeymaterial": true,
	"customkeystoreid": true, "xkskeyid": true, // refused
	"seconds": true,
}

// TestEveryMemberIsRecordedOrSecret looks at the input of every action.
func TestEveryMemberIsRecordedOrSecret(t *testing.T) {
	var to []string
	for _, typ := range []reflect.Type{reflect.TypeFor[audit.RequestParameters](), reflect.TypeFor[audit.Management]()} {
		for i := range typ.NumField() {
			to = append(to, strings.ToLower(typ.Field(i).Name))
		}
	}
	has := func(name string) bool {
		for _, n := range to {
			if n == name {
				return true
			}
		}
		return false
	}
	inputs := 0
	for method := range reflect.TypeFor[*Service]().Methods() {
		f := method.Type
		if f.NumIn() != 4 || f.In(1) != reflect.TypeFor[context.Context]() || f.In(2) != reflect.TypeFor[Caller]() {
			continue
		}
		in := f.In(3).Elem()
		inputs++
		for i := range in.NumField() {
			name := strings.ToLower(in.Field(i).Name)
			switch {
			case secretMembers[name] && has(name):
				t.Errorf("%s of %s is recorded", in.Field(i).Name, in.Name())
			case !secretMembers[name] && !unrecorded[name] && !has(name):
				t.Errorf("%s of %s is not recorded", in.Field(i).Name, in.Name())
			}
		}
	}
	if inputs < len(actions()) {
		t.Errorf("%d inputs for %d actions", inputs, len(actions()))
	}
}

// TestRecordsHoldNoBytes: a secret of the API is bytes, or has a name for it.
func TestRecordsHoldNoBytes(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer:
			walk(path, typ.Elem())
		case reflect.Slice, reflect.Array:
			if typ.Elem().Kind() == reflect.Uint8 && typ != reflect.TypeFor[audit.Hash]() {
				t.Errorf("%s holds bytes", path)
			}
			walk(path, typ.Elem())
		case reflect.Interface:
			t.Errorf("%s holds anything", path)
		case reflect.Struct:
			if seen[typ] || typ.PkgPath() == "time" {
				return
			}
			seen[typ] = true
			for i := range typ.NumField() {
				f := typ.Field(i)
				if secretMembers[strings.ToLower(f.Name)] {
					t.Errorf("%s.%s is a secret's name", path, f.Name)
				}
				walk(path+"."+f.Name, f.Type)
			}
		}
	}
	walk("Record", reflect.TypeFor[audit.Record]())
}

// TestChangesAreDurable: actions that change something are told from those that
// do not.
func TestChangesAreDurable(t *testing.T) {
	names := slices.Collect(maps.Keys(actions()))
	names = slices.AppendSeq(names, maps.Keys(identityActions()))
	for _, name := range names {
		reads := false
		switch name {
		case kmsapi.OpEncrypt, kmsapi.OpDecrypt, kmsapi.OpReEncrypt, kmsapi.OpGenerateDataKey, kmsapi.OpGenerateDataKeyWithoutPlaintext, kmsapi.OpGenerateRandom,
			kmsapi.OpDescribeKey:
			reads = true
		default:
			reads = strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List")
		}
		c := new(call)
		c.begin(name, origin{})
		if c.record.ReadOnly != reads || c.changed() == reads {
			t.Errorf("%s: read-only is %t", name, c.record.ReadOnly)
		}
		c.ends(&kmsapi.Error{Code: kmsapi.CodeNotFound})
		if c.changed() {
			t.Errorf("%s that was refused has changed something", name)
		}
		c.ends(&kmsapi.Error{Code: kmsapi.CodeInternal})
		if c.changed() == reads {
			t.Errorf("%s that failed: changed is %t", name, c.changed())
		}
	}
}
