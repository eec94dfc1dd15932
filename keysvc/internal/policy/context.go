package policy

import (
	"encoding/binary"
	"slices"
)

// A Context is what the conditions of a policy are evaluated against: the
// request context of the IAM User Guide. Names of keys ignore case, also the part
// after "kms:EncryptionContext:" ("AWS KMS condition keys", case sensitivity of
// the encryption context condition). Values are text: booleans "true" and
// "false", numbers in decimal, dates as RFC 3339 or Unix seconds, binary ones
// in base64.
//
// A key with several values needs a set operator, ForAllValues or ForAnyValue. What a
// plain operator makes of it AWS does not define; here a condition of an Allow then
// holds only if it holds for every value, and a condition of a Deny if it does
// for any. The same goes for a key that is set twice, or under two spellings, as
// an encryption context {"a": "1", "A": "2"} does.
//
// The zero Context is empty. Not safe for concurrent use.
type Context struct {
	describer Describer // until somebody asks for a key
	unasked   keySet    // no policy asks for a key that is in it, so that it is not kept
	entries   []entry
	hashes    []uint32 // of the entries' names: a look-up goes through these first
}

type entry struct {
	name string
	one  [1]string
	list []string // instead of one
}

// Set gives a key one value.
func (c *Context) Set(key, value string) {
	c.add(entry{name: key, one: [1]string{value}})
}

// SetList gives a multivalued key its values, which the Context keeps. A key
// without values is a key that is not there.
func (c *Context) SetList(key string, values []string) {
	if len(values) > 0 {
		c.add(entry{name: key, list: values})
	}
}

func (c *Context) add(e entry) {
	if hash := hashKey(e.name); !c.unasked.has(hash) {
		c.entries = append(c.entries, e)
		c.hashes = append(c.hashes, hash)
	}
}

// Asks tells whether a policy may ask for a key: whether it is worth while to find out
// its value, and Set it.
func (c *Context) Asks(key string) bool { return !c.unasked.has(hashKey(key)) }

// Reset empties the Context and keeps its memory.
func (c *Context) Reset() {
	c.describer, c.unasked, c.entries, c.hashes = nil, 0, c.entries[:0], c.hashes[:0]
}

// A Describer sets the keys of a request.
type Describer interface{ Describe(c *Context) }

// DescribedBy empties the Context, which is then for these policies only. The first of
// their conditions and policy variables that asks for a key has d fill it in, and of
// what d sets those that one of them asks for are kept: many policies ask for
// none, most for few.
func (c *Context) DescribedBy(d Describer, p *Policies) {
	c.Reset()
	c.describer, c.unasked = d, ^p.asks()
}

// A keySet holds keys by their hashes. It may seem to hold others, too.
type keySet uint64

func (s *keySet) add(hash uint32)     { *s |= 1 << (hash >> 26) }
func (s keySet) has(hash uint32) bool { return s>>(hash>>26)&1 != 0 }

// asks are the keys that conditions and policy variables of the policies name.
func (p *Policies) asks() keySet {
	var all keySet
	for _, d := range [...]*Document{p.Resource, p.Boundary} {
		if d != nil {
			all |= d.asks
		}
	}
	for _, d := range p.Identity {
		all |= d.asks
	}
	for _, d := range p.Session {
		all |= d.asks
	}
	return all
}

// A keyRef is a key as a policy names it.
type keyRef struct {
	name string
	hash uint32
	// absent is a key that never has a value in this kind of policy.
	absent bool
}

// newKeyRef notes that the policy d asks for a key. It knows that KMS looks at a KMS
// key's tags and aliases in IAM policies only ("ABAC for AWS KMS"): in a key policy they are absent.
func newKeyRef(d *Document, name string) keyRef {
	_, tag := cutFoldPrefix(name, "aws:ResourceTag/")
	k := keyRef{
		name:   name,
		hash:   hashKey(name),
		absent: d.kind == KeyPolicy && (tag || equalFold(name, "kms:ResourceAliases")),
	}
	d.asks.add(k.hash)
	return k
}

// values are a key's, or none when it is not there.
func (c *Context) values(key keyRef) []string {
	if key.absent {
		return nil
	}
	if d := c.describer; d != nil {
		c.describer = nil
		d.Describe(c)
	}
	var found []string
	for i, hash := range c.hashes {
		if hash != key.hash {
			continue
		}
		e := &c.entries[i]
		if !equalFold(e.name, key.name) {
			continue
		}
		values := e.list
		if values == nil {
			values = e.one[:]
		}
		if found == nil {
			found = values
		} else {
			found = slices.Concat(found, values)
		}
	}
	return found
}

// variable is a key's value in a policy variable: exactly one that is not empty.
func (c *Context) variable(key keyRef) (string, bool) {
	if values := c.values(key); len(values) == 1 && values[0] != "" {
		return values[0], true
	}
	return "", false
}

// hashKey is of the last few characters of a name, folded: those tell keys apart.
func hashKey(name string) uint32 {
	const notASCII = 0x8080808080808080
	if len(name) >= hashedTail {
		tail := binary.LittleEndian.Uint64([]byte(name[len(name)-hashedTail:]))
		if tail&notASCII == 0 {
			return hashTail(tail)
		}
	}
	return hashChars(name)
}

const hashedTail = 8

// hashChars is hashKey where a character may be more than a byte.
func hashChars(name string) uint32 {
	var tail uint64
	for name != "" {
		r, n := nextFolded(name)
		tail = tail>>8 | uint64(byte(r))<<56
		name = name[n:]
	}
	return hashTail(tail)
}

// hashTail takes the cases of a letter for one, and some other characters, too. Its first
// bits depend on all of them.
func hashTail(tail uint64) uint32 {
	const lowerCase, odd = 0x2020202020202020, 0xff51afd7ed558ccd // MurmurHash3's
	return uint32((tail | lowerCase) * odd >> 32)
}

// SetPrincipal adds the keys that describe the caller: aws:PrincipalArn,
// aws:PrincipalAccount, aws:PrincipalType, aws:PrincipalIsAWSService,
// aws:PrincipalServiceName, aws:PrincipalTag/, aws:userid and aws:username, each where AWS
// has it ("IAM policy elements: Variables and tags", principal key values; "AWS global
// condition context keys").
func (c *Context) SetPrincipal(p *Principal) {
	isService := "false"
	switch p.Type {
	case Service:
		c.Set("aws:PrincipalIsAWSService", "true")
		c.Set("aws:PrincipalServiceName", p.ARN)
		return
	case Anonymous:
		c.Set("aws:PrincipalType", p.Type.String())
		c.Set("aws:userid", "anonymous")
		c.Set("aws:PrincipalIsAWSService", isService)
		return
	case Account:
		c.Set("aws:userid", p.Account)
	default:
		c.Set("aws:userid", p.UniqueID)
	}
	arn := p.ARN
	if p.Type == AssumedRole {
		arn = p.RoleARN
	}
	c.Set("aws:PrincipalArn", arn)
	c.Set("aws:PrincipalAccount", p.Account)
	c.Set("aws:PrincipalType", p.Type.String())
	c.Set("aws:PrincipalIsAWSService", isService)
	if p.Type == User {
		c.Set("aws:username", p.Username)
	}
	for name, value := range p.Tags {
		c.Set("aws:PrincipalTag/"+name, value)
	}
}
