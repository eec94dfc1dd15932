package audit

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// plain says which ASCII bytes encoding/json writes as they are.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := byte(' '); c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	t[0x7f] = true
	return t
}()

// allPlain says whether all bytes of eight are plain, and sometimes no when they
// are: a byte minus 1 borrows from its high bit only if it is 0 (or the byte below
// borrowed), and x^c is 0 where x is c. One bit tells " from &, and < from >.
func allPlain(x uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	found := x | (x - ones*' ') |
		((x | ones*('"'^'&') ^ ones*'&') - ones) | ((x | ones*('<'^'>') ^ ones*'>') - ones) |
		((x ^ ones*'\\') - ones)
	return found&high == 0
}

// isPlain says whether appendString may append all of s as it is, and sometimes no
// when it may.
func isPlain(s string) bool {
	if len(s) < 8 {
		for i := range len(s) {
			if s[i] >= utf8.RuneSelf || !plain[s[i]] {
				return false
			}
		}
		return true
	}
	for i := 0; i < len(s)-8; i += 8 {
		if !allPlain(binary.LittleEndian.Uint64([]byte(s[i : i+8]))) {
			return false
		}
	}
	return allPlain(binary.LittleEndian.Uint64([]byte(s[len(s)-8:])))
}

// appendString appends s as json.Marshal does, with its quotes.
func appendString(b []byte, s string) []byte {
	return append(appendText(append(b, '"'), s), '"')
}

// appendText appends s as json.Marshal does, without quotes: invalid UTF-8 becomes
// U+FFFD, and what HTML or JavaScript would take for more than text is escaped.
func appendText(b []byte, s string) []byte {
	if isPlain(s) {
		return append(b, s...)
	}
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if plain[c] {
				i++
				continue
			}
			b = append(b, s[from:i]...)
			b = appendEscape(b, c)
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, s[from:i]...)
			b = append(b, `\ufffd`...)
			from = i + n
		case r == '\u2028' || r == '\u2029':
			b = append(b, s[from:i]...)
			b = append(b, `\u202`...)
			b = append(b, hexDigits[r&0xf])
			from = i + n
		}
		i += n
	}
	return append(b, s[from:]...)
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// What follows appends a member and a comma. A name comes with its quotes, its colon
// and the quote of a text behind it, so that it takes one append.

func str(b []byte, name, value string) []byte {
	b = append(b, name...)
	return append(appendText(b, value), `",`...)
}

func optStr(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return str(b, name, value)
}

func boolean(b []byte, name string, value bool) []byte {
	b = append(b, name...)
	return append(strconv.AppendBool(b, value), ',')
}

// optContext writes pairs in the order of their keys' bytes.
func optContext(b []byte, name string, pairs map[string]string) []byte {
	if len(pairs) == 0 {
		return b
	}
	b = append(append(b, name...), '{')
	var few [8]string
	keys := few[:0]
	for k := range pairs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		b = append(appendString(b, k), ':')
		b = append(appendString(b, pairs[k]), ',')
	}
	return end(b)
}

func appendJSON(b []byte, name string, value any) ([]byte, error) {
	v, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	b = append(b, name...)
	return append(append(b, v...), ','), nil
}

// appendMembers appends the members of value, a struct, to an open object.
func appendMembers(b []byte, value any) ([]byte, error) {
	v, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if len(v) == len("{}") {
		return b, nil
	}
	b = append(b, v[1:]...)
	b[len(b)-1] = ','
	return b, nil
}

// end closes the object whose last member, if any, left a comma.
func end(b []byte) []byte {
	if b[len(b)-1] == ',' {
		b[len(b)-1] = '}'
		return append(b, ',')
	}
	return append(b, '}', ',')
}
