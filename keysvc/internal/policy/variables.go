package policy

import (
	"strings"
	"unicode"
)

// A piece is a part of a value that a policy compares with: literal text, a
// wildcard or a variable.
type piece struct {
	kind pieceKind
	// text is the literal, or the default of a variable.
	text       string
	hasDefault bool
	key        keyRef // of a variable
}

type pieceKind uint8

const (
	literal   pieceKind = iota
	anyOne              // ?
	anyNumber           // *
	variable            // ${key} or ${key, 'default'}
)

// syntax says what is special in a value.
type syntax struct {
	policy    *Document // what it is part of
	variables bool      // ${...}: only in version 2012-10-17
	wildcards bool      // * and ?
}

// split divides a value into pieces; wrong is the complaint about it, if any. What a
// variable stands for, its default and the escapes ${*}, ${?} and ${$} are text:
// a * in them is a *.
func (x syntax) split(value string) (pieces []piece, wrong string) {
	text := func(s string) {
		if s != "" {
			pieces = append(pieces, piece{text: s})
		}
	}
	special := ""
	if x.variables {
		special += "$"
	}
	if x.wildcards {
		special += "*?"
	}
	for {
		i := strings.IndexAny(value, special)
		if i < 0 {
			break
		}
		text(value[:i])
		c := value[i]
		rest := value[i+1:]
		switch {
		case c == '?':
			pieces = append(pieces, piece{kind: anyOne})
		case c == '*':
			pieces = append(pieces, piece{kind: anyNumber})
		case !strings.HasPrefix(rest, "{"):
			text("$")
		default:
			var p piece
			if p, rest, wrong = x.variable(rest[1:]); wrong != "" {
				return nil, wrong
			}
			pieces = append(pieces, p)
		}
		value = rest
	}
	text(value)
	return pieces, ""
}

// variable reads what follows "${".
func (x syntax) variable(s string) (p piece, rest, wrong string) {
	if len(s) >= 2 && strings.IndexByte("*?$", s[0]) >= 0 && s[1] == '}' {
		return piece{text: s[:1]}, s[2:], ""
	}
	end := strings.IndexFunc(s, func(r rune) bool { return !isKeyChar(r) })
	if end < 0 {
		return piece{}, "", "a policy variable does not end: } is missing"
	}
	name, s := s[:end], s[end:]
	p = piece{kind: variable, key: newKeyRef(x.policy, name)}
	if d, ok := strings.CutPrefix(s, ", '"); ok {
		p.text, s, p.hasDefault = strings.Cut(d, "'")
		if !p.hasDefault {
			return piece{}, "", "the default of policy variable " + quote(name) + " does not end: ' is missing"
		}
		if strings.ContainsAny(p.text, "*?$") {
			return piece{}, "", "the default of policy variable " + quote(name) + " has a *, ? or $, which may be meant as a wildcard or as text"
		}
	}
	if !strings.HasPrefix(s, "}") {
		return piece{}, "", "malformed policy variable: write ${key}, or ${key, 'default'} with a comma, a space and single quotes"
	}
	if prefix, key, _ := strings.Cut(name, ":"); prefix == "" || key == "" {
		return piece{}, "", "policy variable " + quote(name) + " is not a condition key: keys look like aws:username"
	}
	return p, s[1:], ""
}

// isKeyChar tells what the name of a key in a variable may have: what a tag's name may
// ("Tags for AWS IAM resources"), without spaces ("IAM Access Analyzer policy
// check reference", space not permitted in variable).
func isKeyChar(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_.:/=+-@", r)
}

// resolve is the text of a literal or of a variable; not ok is a variable without
// a value, which equals nothing ("IAM policy elements: Variables and tags", policy
// variables with no value).
func (p *piece) resolve(c *Context) (string, bool) {
	if p.kind == literal {
		return p.text, true
	}
	if value, ok := c.variable(p.key); ok {
		return value, true
	}
	return p.text, p.hasDefault
}
