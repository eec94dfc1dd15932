package policy

import (
	"encoding/hex"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep a policy may nest: document, statements, statement,
// condition, operator and a key's values make 6.
const maxDepth = 8

// A node is a JSON value and where it stands. encoding/json is no help here: it
// takes the last of two members with one name, tells no positions, and turns a lone
// surrogate into another character.
type node struct {
	kind    nodeKind
	off     int    // of its first byte
	text    string // a string's value; a number, true, false or null as written
	members []member
	items   []*node
}

type nodeKind int

const (
	objectNode nodeKind = iota
	arrayNode
	stringNode
	numberNode
	boolNode
	nullNode
)

func (k nodeKind) String() string {
	return [...]string{"an object", "an array", "a string", "a number", "a boolean", "null"}[k]
}

// A member is a name and a value of an object.
type member struct {
	name  string
	off   int
	value *node
}

// readJSON reads the one JSON value that is text. It is nil after a fault that
// leaves the rest unreadable. Of two members with one name the second is a fault.
func readJSON(text string, faults *faultList) *node {
	r := &jsonReader{text: text, faults: faults}
	r.space()
	n := r.value(1)
	if n == nil {
		return nil
	}
	if r.space(); r.i < len(text) {
		faults.add(r.i, "there is more text after the policy")
		return nil
	}
	return n
}

type jsonReader struct {
	text   string
	i      int
	faults *faultList
}

// fail records the fault that ends the reading.
func (r *jsonReader) fail(off int, format string, args ...any) *node {
	r.faults.add(off, format, args...)
	return nil
}

func (r *jsonReader) space() {
	for r.i < len(r.text) && strings.IndexByte(" \t\r\n", r.text[r.i]) >= 0 {
		r.i++
	}
}

// end is the byte after the last: policies have no such byte.
const end byte = 0

// next is the byte at the position.
func (r *jsonReader) next() byte { return at(r.text, r.i) }

func (r *jsonReader) value(depth int) *node {
	if depth > maxDepth {
		return r.fail(r.i, "nested too deeply: a policy has at most %d levels", maxDepth)
	}
	switch c := r.next(); {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		off := r.i
		s, ok := r.string()
		if !ok {
			return nil
		}
		return &node{kind: stringNode, off: off, text: s}
	case c == '-' || isDigit(c):
		return r.number()
	}
	for _, word := range []string{"true", "false", "null"} {
		if strings.HasPrefix(r.text[r.i:], word) {
			n := &node{kind: boolNode, off: r.i, text: word}
			if word == "null" {
				n.kind = nullNode
			}
			r.i += len(word)
			return n
		}
	}
	if r.i == len(r.text) {
		return r.fail(r.i, "the text ends where a value is expected")
	}
	return r.fail(r.i, "not valid JSON: expected a value")
}

func (r *jsonReader) object(depth int) *node {
	n := &node{kind: objectNode, off: r.i}
	seen := map[string]bool{}
	r.i++
	for {
		r.space()
		if r.next() == '}' && len(n.members) == 0 {
			break
		}
		if r.next() != '"' {
			return r.fail(r.i, "not valid JSON: expected a name in double quotes")
		}
		m := member{off: r.i}
		var ok bool
		if m.name, ok = r.string(); !ok {
			return nil
		}
		if r.space(); r.next() != ':' {
			return r.fail(r.i, "not valid JSON: expected : after the name")
		}
		r.i++
		r.space()
		if m.value = r.value(depth + 1); m.value == nil {
			return nil
		}
		if seen[m.name] {
			r.faults.add(m.off, "%s is given twice", quote(m.name))
		}
		seen[m.name] = true
		n.members = append(n.members, m)
		if r.space(); r.next() == '}' {
			break
		}
		if r.next() != ',' {
			return r.fail(r.i, "not valid JSON: expected , or } in an object")
		}
		r.i++
	}
	r.i++
	return n
}

func (r *jsonReader) array(depth int) *node {
	n := &node{kind: arrayNode, off: r.i}
	r.i++
	for {
		r.space()
		if r.next() == ']' && len(n.items) == 0 {
			break
		}
		item := r.value(depth + 1)
		if item == nil {
			return nil
		}
		n.items = append(n.items, item)
		if r.space(); r.next() == ']' {
			break
		}
		if r.next() != ',' {
			return r.fail(r.i, "not valid JSON: expected , or ] in an array")
		}
		r.i++
	}
	r.i++
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// number reads JSON's numbers: no leading zero, no leading +, digits on both
// sides of a point.
func (r *jsonReader) number() *node {
	off := r.i
	digits := func() bool {
		start := r.i
		for isDigit(r.next()) {
			r.i++
		}
		return r.i > start
	}
	if r.next() == '-' {
		r.i++
	}
	zero := r.next() == '0'
	start := r.i
	ok := digits() && (!zero || r.i == start+1)
	if ok && r.next() == '.' {
		r.i++
		ok = digits()
	}
	if c := r.next(); ok && (c == 'e' || c == 'E') {
		r.i++
		if c := r.next(); c == '+' || c == '-' {
			r.i++
		}
		ok = digits()
	}
	if !ok {
		return r.fail(off, "not valid JSON: malformed number")
	}
	return &node{kind: numberNode, off: off, text: r.text[off:r.i]}
}

// string reads a string, from its opening quote. Faults point at the byte.
func (r *jsonReader) string() (string, bool) {
	open := r.i
	r.i++
	start := r.i
	var b strings.Builder
	for {
		switch c := r.next(); {
		case r.i == len(r.text):
			r.fail(open, "not valid JSON: the string does not end")
			return "", false
		case c == '"':
			b.WriteString(r.text[start:r.i])
			r.i++
			return b.String(), true
		case c < ' ':
			r.fail(r.i, "not valid JSON: a control character in a string")
			return "", false
		case c == '\\':
			b.WriteString(r.text[start:r.i])
			char, ok := r.escape()
			if !ok {
				return "", false
			}
			b.WriteRune(char)
			start = r.i
		default:
			r.i++
		}
	}
}

// escape reads \n, \u0041 and the like.
func (r *jsonReader) escape() (rune, bool) {
	off := r.i
	if i := strings.IndexByte(`"\/bfnrt`, at(r.text, off+1)); i >= 0 {
		r.i += 2
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	char, ok := r.unicode()
	if utf16.IsSurrogate(char) {
		low, _ := r.unicode()
		char = utf16.DecodeRune(char, low)
		ok = char != utf8.RuneError
	}
	if !ok {
		r.fail(off, "not valid JSON: malformed escape in a string")
	}
	return char, ok
}

// unicode reads one \uXXXX.
func (r *jsonReader) unicode() (rune, bool) {
	if !strings.HasPrefix(r.text[r.i:], `\u`) || len(r.text) < r.i+6 {
		return utf8.RuneError, false
	}
	b, err := hex.DecodeString(r.text[r.i+2 : r.i+6])
	if err != nil {
		return utf8.RuneError, false
	}
	r.i += 6
	return rune(b[0])<<8 | rune(b[1]), true
}

func at(s string, i int) byte {
	if i < len(s) {
		return s[i]
	}
	return end
}
