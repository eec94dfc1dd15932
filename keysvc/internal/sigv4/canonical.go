package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// canonicalRequest writes what is signed, as for every service but S3:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
//
// It is injective: a part holds no line feed, and the header lines are followed
// by an empty one.
func canonicalRequest(req *http.Request, signed []string, hash [sha256.Size]byte) ([]byte, *Error) {
	if !isMethod(req.Method) {
		return nil, incomplete("The request's method is malformed.")
	}
	b := make([]byte, 0, 1024)
	b = append(b, req.Method...)
	b = append(b, '\n')
	b, err := appendPath(b, req.URL)
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	if b, err = appendQuery(b, req.URL.RawQuery); err != nil {
		return nil, err
	}
	b = append(b, '\n')
	for _, name := range signed {
		values := []string{req.Host}
		if name != "host" {
			values = req.Header[textproto.CanonicalMIMEHeaderKey(name)]
		}
		if len(values) == 0 {
			return nil, invalid("SignedHeaders names a header that the request does not have: '" + name + "'.")
		}
		b = append(b, name...)
		for i, v := range values {
			b = append(b, ":,"[min(i, 1)])
			if b, err = appendValue(b, v); err != nil {
				return nil, err
			}
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, strings.Join(signed, ";")...)
	b = append(b, '\n')
	return hex.AppendEncode(b, hash[:]), nil
}

func isMethod(s string) bool {
	for _, c := range []byte(s) {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return s != ""
}

// appendPath appends the path: as it was on the wire, without "." and ".."
// and empty segments, and encoded; what was encoded already is so twice.
func appendPath(b []byte, u *url.URL) ([]byte, *Error) {
	raw := wirePath(u)
	if raw == "" {
		raw = "/"
	}
	if raw[0] != '/' || u.Opaque != "" || u.User != nil {
		return nil, incomplete("The request's target is not a path.")
	}
	var segments []string
	for s := range strings.SplitSeq(raw, "/") {
		switch s {
		case "", ".":
		case "..":
			segments = segments[:max(len(segments)-1, 0)]
		default:
			segments = append(segments, s)
		}
	}
	for _, s := range segments {
		b = append(b, '/')
		b = appendEncoded(b, s)
	}
	if len(segments) == 0 || raw[len(raw)-1] == '/' {
		b = append(b, '/')
	}
	return b, nil
}

// wirePath is the path before it was decoded. EscapedPath encodes what a client
// should have encoded and did not, such as letters that are not ASCII: AWS encodes
// that once. A RawPath that is not Path's says nothing (url.URL.EscapedPath).
func wirePath(u *url.URL) string {
	if u.RawPath != "" {
		if p, err := url.PathUnescape(u.RawPath); err == nil && p == u.Path {
			return u.RawPath
		}
	}
	return u.EscapedPath()
}

// appendQuery appends the parameters, decoded as url.ParseQuery does (whose reading
// is the handler's), encoded, and sorted by name and then by value.
func appendQuery(b []byte, raw string) ([]byte, *Error) {
	if raw == "" {
		return b, nil
	}
	var params [][2]string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, nameErr := url.QueryUnescape(name)
		value, valueErr := url.QueryUnescape(value)
		if nameErr != nil || valueErr != nil || strings.Contains(pair, ";") {
			return nil, incomplete("The query string is malformed.")
		}
		params = append(params, [2]string{
			string(appendEncoded(nil, name)),
			string(appendEncoded(nil, value)),
		})
	}
	slices.SortFunc(params, func(p, q [2]string) int {
		if c := strings.Compare(p[0], q[0]); c != 0 {
			return c
		}
		return strings.Compare(p[1], q[1])
	})
	for i, p := range params {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p[0]...)
		b = append(b, '=')
		b = append(b, p[1]...)
	}
	return b, nil
}

// appendEncoded percent-encodes all but RFC 3986's unreserved characters.
func appendEncoded(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range []byte(s) {
		if isAlphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// appendValue appends a header's value without the space around it, and runs of
// spaces as one. A tab inside stays what it is: some signers make a space
// of it, and are refused.
func appendValue(b []byte, v string) ([]byte, *Error) {
	v = strings.Trim(v, " \t")
	for i := range len(v) {
		c := v[i]
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, incomplete("A signed header has a control character.")
		}
		if c == ' ' && v[i-1] == ' ' {
			continue
		}
		b = append(b, c)
	}
	return b, nil
}
