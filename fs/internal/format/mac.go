package format

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"

	"kmsfs.dev/kmsfs/internal/secret"
)

// macs computes HMAC-SHA256 under one key, which it expands once: every read of
// a header needs one. It is not a sync.Pool because that drops what it holds
// without a chance to wipe it.
type macs struct {
	mu    sync.Mutex // guards what follows
	first hash.Cloner
	free  []*keyedMAC // as many as were in use at once
}

type keyedMAC struct {
	hash.Hash
	buf [sha256.Size]byte // of the label, then of the sum: neither is allocated
}

// newMACs keeps no copy of key, but the two states of SHA-256 after it.
func newMACs(key []byte) (*macs, error) {
	secret.ScrubStack()
	defer secret.ScrubStack()
	first, ok := hmac.New(sha256.New, key).(hash.Cloner)
	if !ok {
		return nil, fmt.Errorf("format: no HMAC that can be cloned")
	}
	// Reset makes the states and drops the padded key, unwiped. The clone
	// still has it, and shares its memory.
	padded, err := first.Clone()
	if err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	first.Reset()
	secret.WipeObject(padded)
	return &macs{first: first}, nil
}

// sum returns HMAC(key, label | message), for labels as long as a sum at most.
func (m *macs) sum(label string, message []byte) [sha256.Size]byte {
	k := m.take()
	k.Write(k.buf[:copy(k.buf[:], label)])
	k.Write(message)
	k.Sum(k.buf[:0])
	sum := k.buf
	k.Reset()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = append(m.free, k)
	return sum
}

func (m *macs) take() *keyedMAC {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first == nil {
		panic("format: use of a Sealer after Wipe")
	}
	if n := len(m.free); n > 0 {
		k := m.free[n-1]
		m.free = m.free[:n-1]
		return k
	}
	h, err := m.first.Clone()
	if err != nil { // it could be cloned in newMACs
		panic("format: " + err.Error())
	}
	return &keyedMAC{Hash: h}
}

// wipe erases every state. None may be in use.
func (m *macs) wipe() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.free {
		secret.WipeObject(k.Hash)
	}
	if m.first != nil {
		secret.WipeObject(m.first)
	}
	m.first, m.free = nil, nil
}

// mac returns HMAC-SHA256(key, label | message) of a key that is used once.
func mac(key []byte, label string, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	defer secret.WipeObject(h)
	h.Write([]byte(label))
	h.Write(message)
	return h.Sum(nil)
}
