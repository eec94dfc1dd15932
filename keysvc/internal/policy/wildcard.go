package policy

import (
	"strings"
	"unicode/utf8"
)

// A pattern is a value that text is compared with, possibly with wildcards and
// variables. Matching takes time in proportion to the lengths of the text and of
// the pattern together; for a ? between two *, of the text times a 64th of the
// pattern. Backtracking is never needed.
type pattern struct {
	// runs are the pieces between the *: n stars make n+1 runs, which hold
	// literals, variables and ?.
	runs [][]piece
	// prefix is the literal that the first run begins with, or empty. Most texts do not
	// have it, and then nothing else is looked at.
	prefix string
}

func newPattern(pieces []piece) pattern {
	p := pattern{runs: make([][]piece, 1)}
	for _, piece := range pieces {
		if piece.kind == anyNumber {
			p.runs = append(p.runs, nil)
			continue
		}
		last := len(p.runs) - 1
		p.runs[last] = append(p.runs[last], piece)
	}
	if first := p.runs[0]; len(first) > 0 && first[0].kind == literal {
		p.prefix = first[0].text
	}
	return p
}

// matches compares the whole of text. The first run stands at its start, the
// last at its end, each of the others as far left as it can: whatever else
// matches, matches so too.
func (p *pattern) matches(text string, c *Context) bool {
	if !strings.HasPrefix(text, p.prefix) {
		return false
	}
	text, ok := cutRun(text, p.runs[0], c)
	if len(p.runs) == 1 {
		return ok && text == ""
	}
	last := len(p.runs) - 1
	if !ok {
		return false
	}
	if text, ok = cutRunEnd(text, p.runs[last], c); !ok {
		return false
	}
	for _, run := range p.runs[1:last] {
		if text, ok = cutRunAnywhere(text, run, c); !ok {
			return false
		}
	}
	return true
}

// matchesFold compares without regard to case. It is for patterns without
// wildcards.
func (p *pattern) matchesFold(text string, c *Context) bool {
	for i := range p.runs[0] {
		s, ok := p.runs[0][i].resolve(c)
		if !ok {
			return false
		}
		if text, ok = cutFoldPrefix(text, s); !ok {
			return false
		}
	}
	return text == ""
}

// cutRun takes run from the start of text.
func cutRun(text string, run []piece, c *Context) (rest string, ok bool) {
	for i := range run {
		if run[i].kind == anyOne {
			if text == "" {
				return "", false
			}
			_, n := utf8.DecodeRuneInString(text)
			text = text[n:]
			continue
		}
		s, ok := run[i].resolve(c)
		if !ok {
			return "", false
		}
		if text, ok = strings.CutPrefix(text, s); !ok {
			return "", false
		}
	}
	return text, true
}

// cutRunEnd takes run from the end of text.
func cutRunEnd(text string, run []piece, c *Context) (rest string, ok bool) {
	for i := len(run) - 1; i >= 0; i-- {
		if run[i].kind == anyOne {
			if text == "" {
				return "", false
			}
			_, n := utf8.DecodeLastRuneInString(text)
			text = text[:len(text)-n]
			continue
		}
		s, ok := run[i].resolve(c)
		if !ok {
			return "", false
		}
		if text, ok = strings.CutSuffix(text, s); !ok {
			return "", false
		}
	}
	return text, true
}

// cutRunAnywhere finds run's first place in text and returns what follows it.
func cutRunAnywhere(text string, run []piece, c *Context) (rest string, ok bool) {
	var whole string
	for i := range run {
		if run[i].kind == anyOne {
			return cutMasked(text, run, c)
		}
		s, ok := run[i].resolve(c)
		if !ok {
			return "", false
		}
		whole += s
	}
	_, rest, ok = strings.Cut(text, whole)
	return rest, ok
}

// wildChar is no character.
const wildChar = utf8.MaxRune + 1

// cutMasked is cutRunAnywhere for a run with a ?: bit i of reached says that
// the run's first i+1 characters match the text up to here (Baeza-Yates and
// Gonnet's shift-and). Searching from every place of the text instead would let
// a policy of 32 KiB keep the service busy for a second.
func cutMasked(text string, run []piece, c *Context) (rest string, ok bool) {
	var chars []rune // of the run, wildChar for a ?
	for i := range run {
		if run[i].kind == anyOne {
			chars = append(chars, wildChar)
			continue
		}
		s, ok := run[i].resolve(c)
		if !ok {
			return "", false
		}
		for s != "" {
			r, n := nextChar(s)
			chars = append(chars, r)
			s = s[n:]
		}
	}
	words := (len(chars) + 63) / 64
	wild := make([]uint64, words)
	masks := map[rune][]uint64{}
	for i, r := range chars {
		mask := wild
		if r != wildChar {
			if masks[r] == nil {
				masks[r] = make([]uint64, words)
			}
			mask = masks[r]
		}
		mask[i/64] |= 1 << (i % 64)
	}
	reached := make([]uint64, words)
	for text != "" {
		r, n := nextChar(text)
		text = text[n:]
		mask := masks[r]
		carry := uint64(1)
		for w := range reached {
			m := wild[w]
			if mask != nil {
				m |= mask[w]
			}
			shifted := reached[w]<<1 | carry
			carry = reached[w] >> 63
			reached[w] = shifted & m
		}
		if reached[words-1]>>((len(chars)-1)%64)&1 == 1 {
			return text, true
		}
	}
	return "", false
}
