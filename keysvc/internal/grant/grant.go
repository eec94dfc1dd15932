package grant

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"time"
)

// A Grant lets one principal do some operations with one key.
type Grant struct {
	ID         string // 64 hexadecimal digits
	Name       string `json:",omitempty"`
	Grantee    Principal
	Retiring   Principal `json:",omitzero"`
	Operations Operations
	Constraint Constraint `json:",omitzero"`
	Issuer     string     // the account that created it
	CreatedAt  time.Time
	TokenKey   []byte // authenticates the grant's tokens
}

// A Principal is named in a grant. ID is what counts: who is created again under
// an old name inherits nothing.
type Principal struct {
	ARN string // as it was given
	// ID is a user's AIDA..., a role's AROA..., a session's AROA...:SESSION, an
	// account's number, a service's name.
	ID string
}

// A Caller is who asks, by the ids that grants may have given it.
type Caller struct {
	Self string // the caller itself
	Role string // the role whose session it is
	// Account is whose principal it is. Empty for an account's root user, who is the
	// account itself.
	Account string
}

// Reach is how a grant's principal covers a caller.
type Reach int

const (
	None Reach = iota
	ByAccount
	ByRole
	Direct
)

// Reach tells how p covers the caller.
func (p Principal) Reach(c Caller) Reach {
	switch p.ID {
	case "":
		return None
	case c.Self:
		return Direct
	case c.Role:
		return ByRole
	case c.Account:
		return ByAccount
	}
	return None
}

// New completes a grant with its id and its key for tokens.
func New(g Grant) *Grant {
	id, key := make([]byte, 32), make([]byte, tokenKeyLen)
	rand.Read(id)
	rand.Read(key)
	g.ID, g.TokenKey = hex.EncodeToString(id), key
	return &g
}

// IsID tells whether s has the form of a grant's id.
func IsID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 32 && s == hex.EncodeToString(raw)
}

// Covers tells whether the grant permits an operation with this encryption
// context. CreateGrant is for CoversChild.
func (g *Grant) Covers(operation string, context map[string]string) bool {
	one := only(operation)
	return g.Operations&one != 0 && (one&withoutContext != 0 || g.Constraint.Matches(context))
}

// CoversChild tells whether the grantee may create child: a grant of no further
// operations, under a constraint that is as strict or stricter.
func (g *Grant) CoversChild(child *Grant) bool {
	return g.Operations.Has(CreateGrant) && child.Operations.Within(g.Operations) && g.Constraint.Permits(child.Constraint)
}

// fingerprint is the same for two grants on one key that say the same.
func (g *Grant) fingerprint() [sha256.Size]byte {
	h := sha256.New()
	put := func(s string) {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	for _, s := range []string{g.Name, g.Grantee.ID, g.Retiring.ID, g.Issuer, string(g.Constraint.Kind)} {
		put(s)
	}
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(g.Operations)))
	for _, k := range slices.Sorted(maps.Keys(g.Constraint.Pairs)) {
		put(k)
		put(g.Constraint.Pairs[k])
	}
	return [sha256.Size]byte(h.Sum(nil))
}
