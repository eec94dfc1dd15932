package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// timeFormat is ISO 8601's basic format, which x-amz-date has.
const timeFormat = "20060102T150405Z"

// requestTime reads x-amz-date and compares it with the clock. That it is signed,
// and there once, checkSigned sees to.
func requestTime(req *http.Request, now time.Time) (time.Time, *Error) {
	values := req.Header["X-Amz-Date"]
	if len(values) == 0 {
		return time.Time{}, incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
	}
	t, err := time.Parse(timeFormat, values[0])
	// Parse takes a fraction of a second, too.
	if err != nil || t.Format(timeFormat) != values[0] {
		return time.Time{}, incomplete("Date must be in ISO-8601 'basic format'. See http://en.wikipedia.org/wiki/ISO_8601")
	}
	now = now.UTC()
	stamp := func(t time.Time) string { return t.Format(timeFormat) }
	switch skew := now.Sub(t); {
	case skew > MaxSkew:
		return t, invalid("Signature expired: " + stamp(t) + " is now earlier than " + stamp(now.Add(-MaxSkew)) + " (" + stamp(now) + " - 15 min.)")
	case skew < -MaxSkew:
		return t, invalid("Signature not yet current: " + stamp(t) + " is still later than " + stamp(now.Add(MaxSkew)) + " (" + stamp(now) + " + 15 min.)")
	}
	return t, nil
}

// checkSigned demands that the signature covers what the service goes by, and
// that there is one way to read it. Of several faults it tells that of the header
// whose name comes first.
func checkSigned(req *http.Request, signed []string) *Error {
	if _, ok := slices.BinarySearch(signed, "host"); !ok {
		return unsigned("Host")
	}
	if req.Host == "" {
		return incomplete("The request has no Host header.")
	}
	var at string
	var first *Error
	for name, values := range req.Header {
		if err := checkHeader(req, name, values, signed); err != nil && (first == nil || name < at) {
			at, first = name, err
		}
	}
	return first
}

func checkHeader(req *http.Request, name string, values []string, signed []string) *Error {
	if textproto.CanonicalMIMEHeaderKey(name) != name {
		// No server makes one. It would be a second header of the same name.
		return incomplete("The request has a header whose name is not in canonical form.")
	}
	if name == "Host" {
		// net/http takes it out; what HTTP/2 leaves beside :authority must agree.
		if len(values) != 1 || values[0] != req.Host {
			return twice(name)
		}
		return nil
	}
	if !mustSign(name) {
		return nil
	}
	if len(values) != 1 {
		return twice(name)
	}
	if _, ok := slices.BinarySearch(signed, strings.ToLower(name)); !ok {
		return unsigned(name)
	}
	return nil
}

// mustSign says whether a header must be signed, and stand alone, when it is there.
func mustSign(name string) bool {
	const prefix = "X-Amz-"
	return name == "Content-Type" || name == "Content-Encoding" ||
		len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

func unsigned(name string) *Error {
	return invalid("'" + name + "' must be a 'SignedHeader' in the AWS Authorization.")
}

func twice(name string) *Error {
	return incomplete("The request has more than one " + name + " header.")
}

// checkScope tells every fault of a credential's scope at once, as AWS does. The
// stamp is a valid x-amz-date.
func checkScope(a authorization, stamp string, o Options) *Error {
	var faults []string
	if a.scope.Region != o.Region {
		faults = append(faults, "Credential should be scoped to a valid region, not '"+a.scope.Region+"'.")
	}
	if a.scope.Service != o.Service {
		faults = append(faults, "Credential should be scoped to correct service: '"+o.Service+"'.")
	}
	if a.terminator != terminator {
		faults = append(faults, "Credential should be scoped with a valid terminator: '"+terminator+"', not '"+a.terminator+"'.")
	}
	if day := stamp[:len("YYYYMMDD")]; day != a.scope.Date {
		faults = append(faults, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '"+
			a.scope.Date+"' != '"+day+"', from '"+stamp+"'.")
	}
	if faults != nil {
		return invalid(strings.Join(faults, " "))
	}
	return nil
}

// checkContentHash refuses an x-amz-content-sha256 that is not the body's. The hash
// that is signed is the body's in any case.
func checkContentHash(req *http.Request, hash [sha256.Size]byte) *Error {
	values, ok := req.Header["X-Amz-Content-Sha256"]
	if !ok {
		return nil
	}
	switch v := values[0]; { // checkSigned: there is one
	case v == "UNSIGNED-PAYLOAD" || strings.HasPrefix(v, "STREAMING-"):
		return invalid("The payload must be signed: the value of 'x-amz-content-sha256' must be the hash of the body.")
	case v != hex.EncodeToString(hash[:]):
		return invalid("The value of 'x-amz-content-sha256' does not match the body.")
	}
	return nil
}
