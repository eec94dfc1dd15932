package policy

import (
	"slices"
	"strings"
)

// An operator is the name of a condition's operator taken apart.
type operator struct {
	name     string // the base's
	set      setOperator
	ifExists bool
	negated  bool
	// compile prepares an operator's values. wrong has a complaint for each value
	// that is malformed, and "" for the others. Null has none.
	compile func(texts []string, x syntax) (v values, wrong []string)
}

// operators are the base operators ("IAM JSON policy elements: Condition operators").
var operators = map[string]operator{
	"StringEquals":              {compile: compileStrings},
	"StringNotEquals":           {compile: compileStrings, negated: true},
	"StringEqualsIgnoreCase":    {compile: compileFoldStrings},
	"StringNotEqualsIgnoreCase": {compile: compileFoldStrings, negated: true},
	"StringLike":                {compile: compileLikes},
	"StringNotLike":             {compile: compileLikes, negated: true},

	"NumericEquals":            {compile: compileNumbers(equal)},
	"NumericNotEquals":         {compile: compileNumbers(equal), negated: true},
	"NumericLessThan":          {compile: compileNumbers(less)},
	"NumericLessThanEquals":    {compile: compileNumbers(less | equal)},
	"NumericGreaterThan":       {compile: compileNumbers(greater)},
	"NumericGreaterThanEquals": {compile: compileNumbers(greater | equal)},

	"DateEquals":            {compile: compileDates(equal)},
	"DateNotEquals":         {compile: compileDates(equal), negated: true},
	"DateLessThan":          {compile: compileDates(less)},
	"DateLessThanEquals":    {compile: compileDates(less | equal)},
	"DateGreaterThan":       {compile: compileDates(greater)},
	"DateGreaterThanEquals": {compile: compileDates(greater | equal)},

	"Bool":         {compile: compileBools},
	"BinaryEquals": {compile: compileBinaries},
	"IpAddress":    {compile: compileNetworks},
	"NotIpAddress": {compile: compileNetworks, negated: true},

	"ArnEquals":    {compile: compileARNs},
	"ArnLike":      {compile: compileARNs},
	"ArnNotEquals": {compile: compileARNs, negated: true},
	"ArnNotLike":   {compile: compileARNs, negated: true},

	"Null": {},
}

// findOperator takes "ForAnyValue:StringLikeIfExists" apart. Null goes with neither.
func findOperator(name string) (operator, bool) {
	base, set := name, plain
	if s, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		base, set = s, forAllValues
	} else if s, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		base, set = s, forAnyValue
	}
	base, ifExists := strings.CutSuffix(base, "IfExists")
	op, ok := operators[base]
	if !ok || op.compile == nil && (set != plain || ifExists) {
		return operator{}, false
	}
	op.name, op.set, op.ifExists = base, set, ifExists
	return op, true
}

// suggestOperator helps with a name in the wrong case.
func suggestOperator(name string) string {
	for _, set := range []string{"", "ForAllValues:", "ForAnyValue:"} {
		for base := range operators {
			for _, suffix := range []string{"", "IfExists"} {
				right := set + base + suffix
				if _, ok := findOperator(right); ok && strings.EqualFold(right, name) {
					return ": write " + right
				}
			}
		}
	}
	return ""
}

// stringValues are of String operators.
type stringValues []pattern

func (v stringValues) match(value string, c *Context) bool {
	for i := range v {
		if v[i].matches(value, c) {
			return true
		}
	}
	return false
}

// foldValues are of the String...IgnoreCase operators, which have no wildcards.
type foldValues []pattern

func (v foldValues) match(value string, c *Context) bool {
	for i := range v {
		if v[i].matchesFold(value, c) {
			return true
		}
	}
	return false
}

func compileStrings(texts []string, x syntax) (values, []string) {
	p, wrong := compilePatterns(texts, x)
	return stringValues(p), wrong
}

func compileFoldStrings(texts []string, x syntax) (values, []string) {
	p, wrong := compilePatterns(texts, x)
	return foldValues(p), wrong
}

func compileLikes(texts []string, x syntax) (values, []string) {
	x.wildcards = true
	return compileStrings(texts, x)
}

func compilePatterns(texts []string, x syntax) (out []pattern, wrong []string) {
	for _, text := range texts {
		pieces, w := x.split(text)
		out = append(out, newPattern(pieces))
		wrong = append(wrong, w)
	}
	return out, wrong
}

// arnValues are of the Arn operators, of which Equals and Like are the same.
type arnValues []arnPattern

func (v arnValues) match(value string, c *Context) bool {
	for i := range v {
		if v[i].matches(value, c) {
			return true
		}
	}
	return false
}

func compileARNs(texts []string, x syntax) (values, []string) {
	x.wildcards = true
	var out arnValues
	var wrong []string
	for _, text := range texts {
		p, w := newARNPattern(text, x)
		out = append(out, p)
		wrong = append(wrong, w)
	}
	return out, wrong
}

// boolValues are of Bool, which has variables but no wildcards.
type boolValues []pattern

func (v boolValues) match(value string, c *Context) bool {
	return isBool(value) && foldValues(v).match(value, c)
}

func isBool(s string) bool { return slices.Contains([]string{"true", "false"}, lower(s)) }

func compileBools(texts []string, x syntax) (values, []string) {
	p, wrong := compilePatterns(texts, x)
	for i, text := range texts {
		if run := p[i].runs[0]; wrong[i] == "" && !isBool(text) && !(len(run) == 1 && run[0].kind == variable) {
			wrong[i] = quote(text) + " is neither true nor false"
		}
	}
	return boolValues(p), wrong
}
