package keysvc

import (
	"reflect"
	"strings"
	"sync"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/audit"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// takes notes a call's input. Of cryptographic operations the members are copied
// one by one, for speed; of all others those that the record has a place for: it
// has none for a plaintext, a ciphertext, a token or a secret.
func (c *call) takes(in any) {
	p := &c.request
	switch in := in.(type) {
	case *kmsapi.GenerateDataKeyInput:
		p.KeyID, p.KeySpec, p.EncryptionContext, p.DryRun = in.KeyID, deref(in.KeySpec), in.EncryptionContext, in.DryRun
		if in.NumberOfBytes != nil {
			p.NumberOfBytes = *in.NumberOfBytes
		}
	case *kmsapi.EncryptInput:
		p.KeyID, p.EncryptionAlgorithm, p.EncryptionContext, p.DryRun = in.KeyID, algorithm(in.EncryptionAlgorithm), in.EncryptionContext, in.DryRun
	case *kmsapi.DecryptInput:
		p.KeyID, p.EncryptionAlgorithm, p.EncryptionContext, p.DryRun = deref(in.KeyID), algorithm(in.EncryptionAlgorithm), in.EncryptionContext, in.DryRun
	case *kmsapi.ReEncryptInput:
		p.SourceKeyID, p.DestinationKeyID, p.DryRun = deref(in.SourceKeyID), in.DestinationKeyID, in.DryRun
		p.SourceEncryptionAlgorithm, p.DestinationEncryptionAlgorithm = algorithm(in.SourceEncryptionAlgorithm), algorithm(in.DestinationEncryptionAlgorithm)
		p.SourceEncryptionContext, p.DestinationEncryptionContext = in.SourceEncryptionContext, in.DestinationEncryptionContext
	default:
		m := new(audit.Management)
		direct := copyMembers(reflect.ValueOf(p).Elem(), reflect.ValueOf(in).Elem())
		if copyMembers(reflect.ValueOf(m).Elem(), reflect.ValueOf(in).Elem()) {
			p.Management = m
		} else if !direct {
			return // no parameters
		}
	}
	c.record.RequestParameters = p
}

// algorithm is the one that an operation without a choice uses.
func algorithm(chosen *string) string {
	if chosen == nil {
		return kmsapi.SpecSymmetricDefault
	}
	return *chosen
}

// takesItem notes an item of a batch.
func (c *call) takesItem(it *kmsapi.BatchItem) {
	p := &c.request
	switch it.Op {
	case kmsapi.OpReEncrypt:
		p.SourceKeyID, p.DestinationKeyID = it.SourceKeyID, it.KeyID
		p.SourceEncryptionAlgorithm, p.DestinationEncryptionAlgorithm = kmsapi.SpecSymmetricDefault, kmsapi.SpecSymmetricDefault
		p.SourceEncryptionContext, p.DestinationEncryptionContext = it.EncryptionContext, it.DestinationEncryptionContext
	case kmsapi.OpDecrypt:
		p.KeyID, p.EncryptionAlgorithm, p.EncryptionContext = it.KeyID, kmsapi.SpecSymmetricDefault, it.EncryptionContext
	default:
		p.KeyID, p.NumberOfBytes, p.EncryptionContext = it.KeyID, it.NumberOfBytes, it.EncryptionContext
	}
	c.record.RequestParameters = p
}

// gives notes the output of a call that changes something: CloudTrail leaves out
// that of others.
func (c *call) gives(out any) {
	if c.record.ReadOnly {
		return
	}
	e := new(audit.ResponseElements)
	if copyMembers(reflect.ValueOf(e).Elem(), reflect.ValueOf(out).Elem()) {
		c.record.ResponseElements = e
	}
}

// copyMembers fills those members of to, a struct, that from has one of the same
// name and a like type for, and says whether there was anything to copy. The
// types of package audit, which hold no bytes, thus say what may be recorded.
func copyMembers(to, from reflect.Value) (any bool) {
	for _, m := range sharedMembers(to.Type(), from.Type()) {
		if copyMember(to.Field(m.to), from.FieldByIndex(m.from)) {
			any = true
		}
	}
	return any
}

// shared is a member that two structs have, by its numbers.
type shared struct {
	to   int
	from []int // that of a struct within, too
}

// sharedOf remembers sharedMembers of pairs of types, which are a fact of the
// program.
var sharedOf sync.Map // of [2]reflect.Type to []shared

func sharedMembers(to, from reflect.Type) []shared {
	types := [2]reflect.Type{to, from}
	if list, ok := sharedOf.Load(types); ok {
		return list.([]shared)
	}
	var list []shared
	for i := range to.NumField() {
		f := to.Field(i)
		for _, g := range reflect.VisibleFields(from) {
			if f.IsExported() && g.IsExported() && !f.Anonymous && strings.EqualFold(f.Name, g.Name) {
				list = append(list, shared{i, g.Index})
			}
		}
	}
	sharedOf.Store(types, list)
	return list
}

// copyMember copies from where the types are alike. A number for a text is a
// date.
func copyMember(to, from reflect.Value) bool {
	if from.IsZero() {
		return false
	}
	if from.Kind() == reflect.Pointer {
		return copyMember(to, from.Elem())
	}
	if t, ok := from.Interface().(time.Time); ok && to.Kind() == reflect.String {
		to.SetString(t.UTC().Format(time.RFC3339))
		return true
	}
	switch {
	case to.Kind() == reflect.Pointer && from.Kind() == reflect.Struct:
		v := reflect.New(to.Type().Elem())
		if !copyMembers(v.Elem(), from) {
			return false
		}
		to.Set(v)
	case to.Kind() == reflect.Slice && from.Kind() == reflect.Slice && from.Type().Elem().Kind() == reflect.Struct:
		list := reflect.MakeSlice(to.Type(), from.Len(), from.Len())
		for i := range from.Len() {
			copyMembers(list.Index(i), from.Index(i))
		}
		to.Set(list)
	case to.Kind() == reflect.String && from.Kind() == reflect.Float64:
		to.SetString(time.UnixMilli(int64(from.Float() * 1000)).UTC().Format(time.RFC3339))
	case from.Type().AssignableTo(to.Type()):
		to.Set(from)
	case to.Kind() == from.Kind() && from.Type().ConvertibleTo(to.Type()):
		to.Set(from.Convert(to.Type()))
	default:
		return false
	}
	return true
}
