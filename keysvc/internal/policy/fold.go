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

// nextChar is s's first character and how many bytes it takes. One byte, ASCII or not
// UTF-8 at all, is a negative character, so that the latter equals none of Unicode's.
func nextChar(s string) (rune, int) {
	r, n := utf8.DecodeRuneInString(s)
	if n == 1 {
		return -rune(s[0]), 1
	}
	return r, n
}

// nextFolded is nextChar, folded.
func nextFolded(s string) (rune, int) {
	if c := s[0]; c < utf8.RuneSelf {
		return foldASCII(rune(c)), 1
	}
	r, n := nextChar(s)
	return fold(r), n
}

// equalFold compares without regard to case; most names are spelled alike.
func equalFold(a, b string) bool {
	if a == b {
		return true
	}
	rest, ok := cutFoldPrefix(a, b)
	return ok && rest == ""
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

// lower folds ASCII, which actions are written in.
func lower(s string) string { return strings.Map(foldASCII, s) }
