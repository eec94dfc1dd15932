package grant

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// A token is version, key, grant, nonce and HMAC-SHA256 of these under the grant's
// TokenKey. It is no secret and permits nothing: whoever presents it must be
// whom the grant names. The MAC keeps tokens from being made up.
const (
	tokenVersion = 1
	tokenKeyLen  = 32
	nonceLen     = 16
	tokenBody    = 1 + 16 + 32 + nonceLen
	tokenLen     = tokenBody + sha256.Size
)

// A Token is a token that was taken apart but not yet verified.
type Token struct {
	KeyID   [16]byte // of the KMS key
	GrantID string
	body    []byte
	mac     []byte
}

// NewToken makes another token of the grant, which is on the key keyID.
func (g *Grant) NewToken(keyID [16]byte) string {
	id, err := hex.DecodeString(g.ID)
	if err != nil || len(id) != 32 {
		panic("grant: an id of another form")
	}
	t := make([]byte, 0, tokenLen)
	t = append(t, tokenVersion)
	t = append(t, keyID[:]...)
	t = append(t, id...)
	t = t[:tokenBody]
	rand.Read(t[tokenBody-nonceLen:])
	return base64.RawURLEncoding.EncodeToString(append(t, g.mac(t)...))
}

// ParseToken takes a token apart. Not ok is what NewToken never made.
func ParseToken(s string) (t Token, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(raw) != tokenLen || raw[0] != tokenVersion || base64.RawURLEncoding.EncodeToString(raw) != s {
		return Token{}, false
	}
	t = Token{GrantID: hex.EncodeToString(raw[17:49]), body: raw[:tokenBody], mac: raw[tokenBody:]}
	copy(t.KeyID[:], raw[1:])
	return t, true
}

// Verify tells whether t is a token of g.
func (g *Grant) Verify(t Token) bool { return hmac.Equal(t.mac, g.mac(t.body)) }

func (g *Grant) mac(body []byte) []byte {
	h := hmac.New(sha256.New, g.TokenKey)
	h.Write(body)
	return h.Sum(nil)
}
