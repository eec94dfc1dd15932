package policy

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"net/netip"
	"regexp"
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

// numberSyntax is JSON's, and leading zeros.
var numberSyntax = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

func parseNumber(s string) (n number, ok bool) {
	if !numberSyntax.MatchString(s) {
		return number{}, false
	}
	var err error
	n.integer, err = strconv.ParseInt(s, 10, 64)
	n.exact = err == nil
	n.float, err = strconv.ParseFloat(s, 64)
	return n, err == nil
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

// Dates are Unix seconds, from 5 digits on and up to the year 33658, or of a form of W3C's
// note on ISO 8601, except the year alone: "2030" may be either.
var (
	unixSyntax  = regexp.MustCompile(`^([0-9]{5,12})(?:\.([0-9]+))?$`)
	dateSyntax  = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}(-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[-+][0-9]{2}:[0-9]{2}))?)?$`)
	dateLayouts = []string{"2006-01", "2006-01-02", "2006-01-02T15:04Z07:00", time.RFC3339}
)

func parseDate(s string) (t time.Time, ok bool) {
	if m := unixSyntax.FindStringSubmatch(s); m != nil {
		sec, _ := strconv.ParseInt(m[1], 10, 64)
		nsec, _ := strconv.Atoi((m[2] + "000000000")[:9])
		return time.Unix(sec, int64(nsec)), true
	}
	if dateSyntax.MatchString(s) {
		for _, layout := range dateLayouts {
			if t, err := time.Parse(layout, s); err == nil {
				return t, true
			}
		}
	}
	return time.Time{}, false
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
	addr, _ := netip.ParseAddr(value) // the zero Addr is in no network
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
