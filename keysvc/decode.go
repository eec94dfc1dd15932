package keysvc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// maxDepth is how deep a request may nest. The API's own stop at 3.
const maxDepth = 16

// decode reads a request's members from body. It is stricter than
// encoding/json: a repeated name, another letter case, deep nesting or bytes after
// the object leave room for two readers to see two requests, and are refused
// or, as unknown members are, ignored.
func decode(body []byte, in any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	if err := checkJSON(body); err != nil {
		return err
	}
	known, err := knownMembers(body, in)
	if err != nil {
		return serialization("The request is not a JSON object.")
	}
	defer secret.Wipe(known)
	if err := json.Unmarshal(known, in); err != nil {
		// err may quote the member, which may be a plaintext.
		return serialization("A member of the request has the wrong type.")
	}
	return nil
}

func serialization(message string) error {
	return &kmsapi.Error{Code: kmsapi.CodeSerialization, Message: message}
}

// checkJSON walks body once.
func checkJSON(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := walk(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return serialization("There are bytes after the request's JSON object.")
	}
	return nil
}

func walk(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return serialization("The request's JSON is nested too deeply.")
	}
	malformed := serialization("The request is not valid JSON.")
	t, err := d.Token()
	if err != nil {
		return malformed
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	names := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return malformed
			}
			if names[name.(string)] {
				return serialization("The request names a member twice.")
			}
			names[name.(string)] = true
		}
		if err := walk(d, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return malformed
	}
	return nil
}

// knownMembers is body's object without the members that in does not have under
// exactly that name.
func knownMembers(body []byte, in any) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(body)+64) // never grows: it is a part of body, re-quoted
	out = append(out, '{')
	t := reflect.TypeOf(in).Elem()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "" {
			name = t.Field(i).Name
		}
		raw, ok := members[name]
		if !ok {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, name...)
		out = append(out, '"', ':')
		out = append(out, raw...)
	}
	for _, raw := range members {
		secret.Wipe(raw)
	}
	return append(out, '}'), nil
}
