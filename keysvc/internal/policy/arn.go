package policy

import "strings"

// An arnPattern is a Resource or a value of an Arn operator: its six parts, the
// ones between colons, are compared one by one, so that a * does not reach into
// the next part. The sixth is everything after the fifth colon.
//
// Of a Resource, AWS says that a * at the end of a part "can expand to match beyond the
// colon boundaries" ("IAM JSON policy elements: Resource"). That differs only for
// resources with colons in their own names, which KMS and IAM do not have; there
// this is the narrower reading.
type arnPattern struct {
	// any is the Resource "*", which alone matches what is no ARN.
	any   bool
	parts [6]pattern
	// whole is a value that is one variable: its text is compared as a whole.
	whole *piece
}

// newARNPattern reads an ARN of six parts, the resource's not empty.
func newARNPattern(value string, x syntax) (p arnPattern, wrong string) {
	pieces, wrong := x.split(value)
	if wrong != "" {
		return p, wrong
	}
	if len(pieces) == 1 && pieces[0].kind == variable {
		p.whole = &pieces[0]
		return p, ""
	}
	parts := splitParts(pieces)
	if len(parts) < 6 || len(parts[5]) == 0 || !isLiteral(parts[0], "arn") {
		return p, quote(value) + " is not an ARN: write arn:partition:service:region:account:resource"
	}
	for i := range parts {
		p.parts[i] = newPattern(parts[i])
	}
	return p, ""
}

// splitParts splits at the first five colons of the literals: the colons of a
// variable's value are none of the pattern's.
func splitParts(pieces []piece) [][]piece {
	parts := make([][]piece, 1)
	for _, p := range pieces {
		for p.kind == literal && len(parts) < 6 {
			before, after, found := strings.Cut(p.text, ":")
			if !found {
				break
			}
			if before != "" {
				parts[len(parts)-1] = append(parts[len(parts)-1], piece{text: before})
			}
			parts = append(parts, nil)
			p.text = after
		}
		if p.kind != literal || p.text != "" {
			parts[len(parts)-1] = append(parts[len(parts)-1], p)
		}
	}
	return parts
}

func isLiteral(part []piece, text string) bool {
	return len(part) == 1 && part[0].kind == literal && part[0].text == text
}

// newResource reads a Resource: "*", or an ARN whose partition and service are
// spelled out and that has variables only in its resource.
func newResource(value string, x syntax) (p arnPattern, wrong string) {
	if value == "*" {
		return arnPattern{any: true}, ""
	}
	if p, wrong = newARNPattern(value, x); wrong != "" {
		if !strings.HasPrefix(value, "arn:") {
			wrong = "resource " + quote(value) + ` must be an ARN or "*"`
		}
		return p, wrong
	}
	if p.whole != nil {
		return p, "resource " + quote(value) + ` must be an ARN or "*": a variable can stand for the part after the fifth colon only`
	}
	if !isPartition(p.literal(1)) {
		return p, "resource " + quote(value) + " must name its partition, as in arn:aws:..."
	}
	if p.literal(2) == "" {
		return p, "resource " + quote(value) + " must name its service in full, as in arn:aws:kms:..."
	}
	for i := 3; i < 5; i++ {
		for _, run := range p.parts[i].runs {
			for _, piece := range run {
				if piece.kind == variable {
					return p, "resource " + quote(value) + ": a variable can stand for the part after the fifth colon only"
				}
			}
		}
	}
	return p, ""
}

// literal is part i, or empty when it is not plain text.
func (p *arnPattern) literal(i int) string {
	runs := p.parts[i].runs
	if len(runs) == 1 && len(runs[0]) == 1 && runs[0][0].kind == literal {
		return runs[0][0].text
	}
	return ""
}

// isPartition accepts aws, aws-cn, aws-us-gov and the others.
func isPartition(s string) bool {
	rest, ok := strings.CutPrefix(s, "aws")
	return ok && (rest == "" || rest[0] == '-' && only(rest[1:], "abcdefghijklmnopqrstuvwxyz0123456789-"))
}

// only tells whether s is not empty and made of chars.
func only(s, chars string) bool {
	return s != "" && strings.Trim(s, chars) == ""
}

func (p *arnPattern) matches(arn string, c *Context) bool {
	if p.any {
		return true
	}
	var parts [6]string
	if !cutARN(arn, &parts) {
		return false
	}
	if p.whole != nil {
		value, _ := p.whole.resolve(c)
		return value == arn // no value is no ARN either
	}
	for i := 5; i >= 0; i-- { // the later, the more telling
		if !p.parts[i].matches(parts[i], c) {
			return false
		}
	}
	return true
}

// cutARN is strings.SplitN(arn, ":", 6) without allocating.
func cutARN(arn string, parts *[6]string) bool {
	for i := range 5 {
		var ok bool
		if parts[i], arn, ok = strings.Cut(arn, ":"); !ok {
			return false
		}
	}
	parts[5] = arn
	return true
}
