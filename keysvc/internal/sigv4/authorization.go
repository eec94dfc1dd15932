package sigv4

import (
	"net/http"
	"net/url"
	"strings"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	sigV4A     = "AWS4-ECDSA-P256-SHA256"
	terminator = "aws4_request"
)

// authorization is what an Authorization header says.
type authorization struct {
	accessKeyID   string
	scope         Scope
	terminator    string
	signedHeaders []string // valid names, sorted, each once
	signature     string
}

// authorizationHeader returns the request's only credentials.
func authorizationHeader(req *http.Request) (string, *Error) {
	param := queryCredential(req.URL.RawQuery)
	values := req.Header["Authorization"]
	switch {
	case param != "" && len(values) > 0:
		return "", invalid("Found both '" + param + "' as a query-string param and 'Authorization' as HTTP header.")
	case param != "":
		return "", incomplete("Credentials in the query string are not accepted: sign the request with an Authorization header.")
	case len(values) == 0:
		return "", missing()
	case len(values) > 1:
		return "", incomplete("The request has more than one Authorization header.")
	}
	return values[0], nil
}

// queryCredentials are the query parameters, in lower case, by which a request
// may claim an identity: those of SigV4 (and whatever it may add) by their prefix,
// those of Signature Version 2 by name.
var queryCredentials = map[string]string{
	"awsaccesskeyid":   "AWSAccessKeyId",
	"securitytoken":    "SecurityToken",
	"signature":        "Signature",
	"signaturemethod":  "SignatureMethod",
	"signatureversion": "SignatureVersion",
}

// queryCredential returns the name of a query parameter that carries
// credentials, or "". What cannot be decoded is refused later.
func queryCredential(rawQuery string) string {
	for rawQuery != "" {
		var pair string
		pair, rawQuery, _ = strings.Cut(rawQuery, "&")
		name, _, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			continue
		}
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") {
			return "X-Amz-Algorithm" // AWS's words, and nothing of the peer's
		}
		if known, ok := queryCredentials[name]; ok {
			return known
		}
	}
	return ""
}

// parseAuthorization reads
//
//	AWS4-HMAC-SHA256 Credential=ID/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX
//
// in any order of its parameters, with or without spaces after the commas.
func parseAuthorization(value string) (authorization, *Error) {
	var a authorization
	for _, c := range []byte(value) {
		if c < ' ' || c > '~' {
			return a, incomplete("The Authorization header has a character that is not printable ASCII.")
		}
	}
	scheme, rest, _ := strings.Cut(strings.Trim(value, " "), " ")
	switch {
	case !strings.HasPrefix(scheme, "AWS4-"):
		return a, missing() // Basic, Bearer, Signature Version 2
	case scheme == sigV4A:
		return a, incomplete("Unsupported AWS 'algorithm': '" + sigV4A + "': sign for one Region with " + algorithm + " (Signature Version 4).")
	case scheme != algorithm:
		return a, incomplete("Unsupported AWS 'algorithm': only " + algorithm + " is supported.")
	}
	params := map[string]string{}
	for p := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.Trim(p, " "), "=")
		switch name {
		case "Credential", "SignedHeaders", "Signature":
		default:
			ok = false
		}
		if _, twice := params[name]; twice || !ok {
			return a, incomplete("The Authorization header is not Credential, SignedHeaders and Signature, each once, with commas between.")
		}
		params[name] = value
	}
	var lacks string
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if params[name] == "" {
			lacks += "Authorization header requires '" + name + "' parameter. "
		}
	}
	if lacks != "" {
		return a, incomplete(strings.TrimRight(lacks, " "))
	}
	return parseParameters(params["Credential"], params["SignedHeaders"], params["Signature"])
}

func parseParameters(credential, signedHeaders, signature string) (authorization, *Error) {
	var a authorization
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return a, incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	if !isAccessKeyID(parts[0]) {
		return a, UnrecognizedClient()
	}
	a.signedHeaders = strings.Split(signedHeaders, ";")
	for i, name := range a.signedHeaders {
		if !isLowerToken(name) || i > 0 && name <= a.signedHeaders[i-1] {
			return a, incomplete("SignedHeaders must be header names in lower case, sorted, each once, with semicolons between.")
		}
	}
	a.accessKeyID = parts[0]
	a.scope = Scope{Date: parts[1], Region: parts[2], Service: parts[3]}
	a.terminator = parts[4]
	// A signature that is no 64 digits of lower-case hex equals none.
	a.signature = signature
	return a, nil
}

// isAccessKeyID bounds what is looked up and logged. IAM's IDs are 16 to 128
// of \w (https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKey.html).
func isAccessKeyID(s string) bool {
	if len(s) == 0 || len(s) > 128 {
		return false
	}
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '_' {
			return false
		}
	}
	return true
}

// isLowerToken says whether s is a header's name (RFC 9110, 5.6.2) in lower case.
func isLowerToken(s string) bool {
	for _, c := range []byte(s) {
		if 'A' <= c && c <= 'Z' || !isAlphanumeric(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
