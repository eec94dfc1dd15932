package blob

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"kmsfs.dev/kmsfs/internal/secret"
)

// derive is HKDF-SHA256(material, salt, info, 64), computed without letting the
// material out of locked memory.
//
// crypto/hkdf gives the same bytes (a test compares them), but it feeds the
// material to a hash that keeps a partial block on the heap and copies it to the
// stack when the sum is taken. Here every message is padded to whole blocks in
// locked memory, so that the hash buffers none of it, and the sum is read from
// the hash's marshaled state.
//
// The result begins with the 64 bytes. What is behind them is the work buffer.
func derive(material, salt []byte) (*secret.Buffer, error) {
	if len(material) != MaterialLen || len(salt) != saltLen {
		return nil, fmt.Errorf("blob: material of %d bytes and salt of %d: both are 32", len(material), len(salt))
	}
	buf, err := secret.New(workLen)
	if err != nil {
		return nil, err
	}
	m := mac{h: hashes.Get().(hash.Hash), work: buf.Bytes()}
	defer hashes.Put(m.h)
	defer m.h.Reset() // erases the chaining value, which is all that it has
	out := m.work[okmAt:][:okmLen]

	// Extract: the salt keys the MAC, the material is its message.
	prk := m.work[prkAt:][:sha256.Size]
	m.sum(prk, salt, material)

	// Expand: two blocks of output.
	msg := m.work[msgAt:]
	n := copy(msg, info)
	msg[n] = 1
	m.sum(out[:sha256.Size], prk, msg[:n+1])
	n = copy(msg, out[:sha256.Size])
	n += copy(msg[n:], info)
	msg[n] = 2
	m.sum(out[sha256.Size:], prk, msg[:n+1])
	return buf, nil
}

// hashes are used again, for their memory.
var hashes = sync.Pool{New: func() any { return sha256.New() }}

// The parts of the locked work buffer. Two blocks hold the longest padded
// message: 32 + len(info) + 1 bytes, one bit and a length.
const (
	okmAt   = 0
	okmLen  = 2 * sha256.Size
	keyAt   = okmAt + okmLen
	padAt   = keyAt + sha256.BlockSize
	stateAt = padAt + 2*sha256.BlockSize
	prkAt   = stateAt + stateLen
	msgAt   = prkAt + sha256.Size
	workLen = msgAt + sha256.Size + len(info) + 1

	// A marshaled SHA-256: magic, chaining value, block buffer, length.
	stateMagic = 4
	stateLen   = stateMagic + sha256.Size + sha256.BlockSize + 8
)

// mac computes HMAC-SHA256 with all of its state in work, except the chaining
// value inside h.
type mac struct {
	h    hash.Hash
	work []byte
}

// sum sets dst to HMAC(key, msg). The key is at most a block long.
func (m mac) sum(dst, key, msg []byte) {
	m.keyed(key, &innerPad, msg)
	copy(dst, m.work[stateAt+stateMagic:])
	m.keyed(key, &outerPad, dst[:sha256.Size])
	copy(dst, m.work[stateAt+stateMagic:][:sha256.Size])
}

// innerPad and outerPad are HMAC's ipad and opad (RFC 2104).
var innerPad, outerPad = [sha256.BlockSize]byte(bytes.Repeat([]byte{0x36}, sha256.BlockSize)),
	[sha256.BlockSize]byte(bytes.Repeat([]byte{0x5c}, sha256.BlockSize))

// keyed leaves the state of SHA-256((key xor pad) || msg), finished, in work.
func (m mac) keyed(key []byte, pad *[sha256.BlockSize]byte, msg []byte) {
	block := m.work[keyAt:padAt]
	copy(block[subtle.XORBytes(block, key, pad[:]):], pad[len(key):])
	padded := m.work[padAt:stateAt]
	clear(padded)
	n := copy(padded, msg)
	padded[n] = 0x80
	end := (n + 1 + 8 + sha256.BlockSize - 1) / sha256.BlockSize * sha256.BlockSize
	binary.BigEndian.PutUint64(padded[end-8:], uint64(sha256.BlockSize+n)*8)

	m.h.Reset()
	m.h.Write(m.work[keyAt : padAt+end])
	state := m.work[stateAt:prkAt:prkAt]
	got, err := m.h.(encoding.BinaryAppender).AppendBinary(state[:0])
	if err != nil || len(got) != stateLen || &got[0] != &state[0] {
		panic("blob: SHA-256 state is not what the standard library documents")
	}
}
