package policy

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Values that are no text: numbers, dates, bytes and addresses. They have no
// variables and no wildcards. A request's value that is malformed matches nothing, so
// that a Not operator holds for it, as for a missing one.

// comparison is a set of the results of comparing a request's value with a
// policy's.
type comparison uint8

const (
	less comparison = 1 << iota
	equal
	greater
)

func (c comparison) has(result int) bool { return c&(1<<(result+1)) != 0 }

// A number is exact within int64, and a float64 beyond and with decimals.
type number struct {
	float   float64
	integer int64
	exact   bool
}

// parseNumber reads what JSON calls a number, and leading zeros.
func parseNumber(s string) (n number, ok bool) {
	if !isNumber(s) {
		return n, false
	}
	var err error
	if n.integer, err = strconv.ParseInt(s, 10, 64); err == nil {
		n.exact = true
	}
	n.float, err = strconv.ParseFloat(s, 64)
	return n, err == nil
}

// isNumber leaves out what strconv takes besides: 0x1p-2, +1, 1., .5, Inf.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		exponent := s[i+1:]
		if exponent != "" && strings.IndexByte("+-", exponent[0]) >= 0 {
			exponent = exponent[1:]
		}
		if s = s[:i]; !only(exponent, digits) {
			return false
		}
	}
	whole, decimals, point := strings.Cut(s, ".")
	return only(whole, digits) && (!point || only(decimals, digits))
}

func (n number) compare(m number) int {
	if n.exact && m.exact {
		return cmp.Compare(n.integer, m.integer)
	}
	return cmp.Compare(n.float, m.float)
}

type numberValues struct {
	comparison comparison
	list       []number
}

func (v *numberValues) match(value string, _ *Context) bool {
	n, ok := parseNumber(value)
	if !ok {
		return false
	}
	for _, m := range v.list {
		if v.comparison.has(n.compare(m)) {
			return true
		}
	}
	return false
}

func compileNumbers(c comparison) func([]string, syntax) (values, []string) {
	return func(texts []string, _ syntax) (values, []string) {
		list, wrong := compileEach(texts, parseNumber, "is not a number")
		return &numberValues{c, list}, wrong
	}
}

// compileEach parses all texts.
func compileEach[T any](texts []string, parse func(string) (T, bool), complaint string) (list []T, wrong []string) {
	wrong = make([]string, len(texts))
	for i, text := range texts {
		v, ok := parse(text)
		if !ok {
			wrong[i] = quote(text) + " " + complaint
		}
		list = append(list, v)
	}
	return list, wrong
}

// dateLayouts are the forms of W3C's note on ISO 8601, except the year alone: AWS takes
// Unix seconds too, and "2030" may be either.
var dateLayouts = []string{"2006-01", "2006-01-02", "2006-01-02T15:04Z07:00", time.RFC3339Nano}

// parseDate reads ISO 8601, or Unix seconds of at least 5 digits, possibly with
// decimals.
func parseDate(s string) (t time.Time, ok bool) {
	if seconds, decimals, point := strings.Cut(s, "."); len(seconds) >= 5 && only(seconds, digits) {
		sec, err := strconv.ParseInt(seconds, 10, 40)
		nsec, _ := strconv.Atoi((decimals + "000000000")[:9])
		return time.Unix(sec, int64(nsec)), err == nil && (!point || only(decimals, digits))
	}
	if len(s) > 13 && s[13] != ':' || strings.Contains(s, ",") {
		return t, false // time.Parse takes an hour of one digit, and a comma
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return t, false
}

type dateValues struct {
	comparison comparison
	list       []time.Time
}

func (v *dateValues) match(value string, _ *Context) bool {
	t, ok := parseDate(value)
	if !ok {
		return false
	}
	for _, u := range v.list {
		if v.comparison.has(t.Compare(u)) {
			return true
		}
	}
	return false
}

func compileDates(c comparison) func([]string, syntax) (values, []string) {
	return func(texts []string, _ syntax) (values, []string) {
		list, wrong := compileEach(texts, parseDate, "is not a date: write 2030-12-31, 2030-12-31T23:59:59Z or Unix seconds")
		return &dateValues{c, list}, wrong
	}
}

// binaryValues are of BinaryEquals: base64 on both sides.
type binaryValues [][]byte

func parseBinary(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return b, err == nil && !strings.ContainsAny(s, "\r\n")
}

func (v binaryValues) match(value string, _ *Context) bool {
	b, ok := parseBinary(value)
	if !ok {
		return false
	}
	for _, p := range v {
		if bytes.Equal(p, b) {
			return true
		}
	}
	return false
}

func compileBinaries(texts []string, _ syntax) (values, []string) {
	list, wrong := compileEach(texts, parseBinary, "is not base64")
	return binaryValues(list), wrong
}

// networkValues are of IpAddress and NotIpAddress.
type networkValues []netip.Prefix

// parseNetwork reads an address or a range in CIDR notation, of IPv4 or IPv6. The bits
// after the prefix do not count.
func parseNetwork(s string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil && !p.Addr().Is4In6()
}

func (v networkValues) match(value string, _ *Context) bool {
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	for _, p := range v {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

func compileNetworks(texts []string, _ syntax) (values, []string) {
	list, wrong := compileEach(texts, parseNetwork, "is not an IP address or a CIDR range")
	return networkValues(list), wrong
}
