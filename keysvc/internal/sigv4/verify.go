package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"kmsfs.dev/kmsfs/internal/secret"
)

// MaxSkew is how far a request's time may be from the verifier's, either way.
const MaxSkew = 15 * time.Minute

// Lookup finds the secret of the access key called id: if there is one and it
// is active, it calls use once with it and returns true. The secret is read during
// the call only. An error is a failure of the look-up itself; it is returned
// by [Verify], wrapped, and must not tell the secret.
type Lookup func(id string, use func(secret []byte)) (found bool, err error)

// Options are what a request is verified against. All but Cache are required.
type Options struct {
	// Region and Service are what the credential must be scoped to. The service
	// is the one that will act on the request: decide that first.
	Region, Service string
	// Now is the clock: the real one, whatever else is simulated.
	Now func() time.Time
	// Lookup is asked for the secret when Cache does not have the key.
	Lookup Lookup
	// Cache holds derived keys between requests.
	Cache *Cache
}

// Scope is what a signing key is good for.
type Scope struct {
	Date    string // YYYYMMDD
	Region  string
	Service string
}

func (s Scope) String() string {
	return s.Date + "/" + s.Region + "/" + s.Service + "/" + terminator
}

// Result says who signed a request, and what.
type Result struct {
	AccessKeyID string
	Scope       Scope
	// SignedHeaders are the names of the headers that the signature covers, in
	// lower case and sorted. What a header says that is not among them, anybody may
	// have said.
	SignedHeaders []string
	// Time is x-amz-date.
	Time time.Time
	// SessionToken is X-Amz-Security-Token, which is signed, or "". The caller must
	// check it: a session's key is worth nothing without its token ([ExpiredToken]
	// once it is over), and a user's key has none ([UnrecognizedClient]).
	SessionToken string
}

// Verify returns who signed req, whose body is body. The error is a [*Error]
// unless the look-up failed. req is a server's: what a client sends is not what a
// client's http.Request says.
func Verify(req *http.Request, body []byte, o Options) (Result, error) {
	c, refusal := read(req, body, o)
	if refusal != nil {
		if c != nil {
			refusal.AccessKeyID = c.auth.accessKeyID
		}
		return Result{}, refusal
	}
	found, matches, err := o.check(c)
	if err != nil {
		return Result{}, fmt.Errorf("verify a signature: %w", err)
	}
	switch {
	case !found:
		refusal = UnrecognizedClient()
	case !matches:
		refusal = mismatch()
	default:
		return Result{
			AccessKeyID:   c.auth.accessKeyID,
			Scope:         c.auth.scope,
			SignedHeaders: c.auth.signedHeaders,
			Time:          c.time,
			SessionToken:  req.Header.Get("X-Amz-Security-Token"),
		}, nil
	}
	refusal.AccessKeyID = c.auth.accessKeyID
	return Result{}, refusal
}

// claim is a request that keeps every rule: what remains is its signature.
type claim struct {
	auth         authorization
	time         time.Time
	stringToSign []byte
}

// read checks all that needs no secret. The claim is nil until the access key's
// name is known. The order of the checks is mostly that of AWS.
func read(req *http.Request, body []byte, o Options) (*claim, *Error) {
	value, err := authorizationHeader(req)
	if err != nil {
		return nil, err
	}
	auth, err := parseAuthorization(value)
	if err != nil {
		return nil, err
	}
	c := &claim{auth: auth}
	if c.time, err = requestTime(req, o.Now()); err != nil {
		return c, err
	}
	if err := checkSigned(req, auth.signedHeaders); err != nil {
		return c, err
	}
	stamp := req.Header.Get("X-Amz-Date")
	if err := checkScope(auth, stamp, o); err != nil {
		return c, err
	}
	hash := sha256.Sum256(body)
	if err := checkContentHash(req, hash); err != nil {
		return c, err
	}
	canonical, err := canonicalRequest(req, auth.signedHeaders, hash)
	if err != nil {
		return c, err
	}
	digest := sha256.Sum256(canonical)
	s := make([]byte, 0, 160)
	s = append(s, algorithm+"\n"...)
	s = append(s, stamp...)
	s = append(s, '\n')
	s = append(s, auth.scope.String()...)
	s = append(s, '\n')
	c.stringToSign = hex.AppendEncode(s, digest[:])
	return c, nil
}

// check computes the signature and compares. What it does for an unknown access key
// is what it does for a wrong signature.
func (o Options) check(c *claim) (found, matches bool, err error) {
	id := cacheKey{c.auth.accessKeyID, c.auth.scope}
	var mac [sha256.Size]byte
	if o.Cache.sign(&mac, id, c.stringToSign) {
		return true, c.matches(mac), nil
	}
	before := o.Cache.generation()
	key := new([sha256.Size]byte)
	defer secret.Wipe(key[:])
	derived := false
	found, err = o.Lookup(c.auth.accessKeyID, func(s []byte) {
		if len(s) == 0 {
			return // everybody knows it
		}
		derive(key, s, c.auth.scope)
		derived = true
	})
	if err != nil {
		return false, false, err
	}
	if found && !derived {
		return false, false, errors.New("the access key has no secret")
	}
	if !found {
		derive(key, []byte(nobody), c.auth.scope)
	}
	sum(&mac, key[:], c.stringToSign)
	matches = c.matches(mac)
	if found && matches {
		// Not before: only what a user of the key asks for takes up room.
		o.Cache.put(id, key, before)
	}
	return found, matches, nil
}

// nobody is as long as a secret. What it signs is refused.
const nobody = "0000000000000000000000000000000000000000"

func (c *claim) matches(mac [sha256.Size]byte) bool {
	var want [2 * sha256.Size]byte
	hex.Encode(want[:], mac[:])
	return subtle.ConstantTimeCompare(want[:], []byte(c.auth.signature)) == 1
}
