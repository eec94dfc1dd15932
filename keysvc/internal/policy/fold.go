package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Letter case: names of condition keys and of actions, and the ...IgnoreCase
// operators, ignore it. Two characters are equal when Unicode's simple folding,
// as of strings.EqualFold, says so. Unlike there, bytes that are not UTF-8 equal
// only themselves.

// fold is the representative of a character's case variants.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		return foldASCII(r)
	}
	least := r
	for v := unicode.SimpleFold(r); v != r; v = unicode.SimpleFold(v) {
		least = min(least, v)
	}
	return foldASCII(least)
}

func foldASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}

// nextFolded is s's first character, folded, and how many bytes it takes. A byte
// that is not UTF-8 is a character of its own beyond Unicode's.
func nextFolded(s string) (rune, int) {
	if c := s[0]; c < utf8.RuneSelf {
		return foldASCII(rune(c)), 1
	}
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 {
		return unicode.MaxRune + 1 + rune(s[0]), 1
	}
	return fold(r), n
}

// cutFoldPrefix is strings.CutPrefix without regard to case.
func cutFoldPrefix(s, prefix string) (rest string, ok bool) {
	for prefix != "" {
		if s == "" {
			return "", false
		}
		p, pn := nextFolded(prefix)
		c, cn := nextFolded(s)
		if p != c {
			return "", false
		}
		prefix, s = prefix[pn:], s[cn:]
	}
	return s, true
}

// foldString is one of all spellings of s that are equal, for valid UTF-8.
func foldString(s string) string { return strings.Map(fold, s) }

// lower folds ASCII, which actions are written in. It allocates only when there
// is something to fold.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				b[i] = byte(foldASCII(rune(b[i])))
			}
			return string(b)
		}
	}
	return s
}
