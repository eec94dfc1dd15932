package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/internal/secret/secrettest"
)

// macForms returns, masked, the forms in which an HMAC has its key: padded, and
// as the states of SHA-256 after that, in a Digest and marshaled. Whoever has a
// state needs no key.
func macForms(t *testing.T, key []byte) (padded, states map[string][]byte) {
	t.Helper()
	defer secret.ScrubStack()
	padded, states = make(map[string][]byte), make(map[string][]byte)
	for name, pad := range map[string]byte{"inner": 0x36, "outer": 0x5c} {
		block := bytes.Repeat([]byte{pad}, sha256.BlockSize)
		for i := range key {
			block[i] ^= key[i]
		}
		h := sha256.New()
		h.Write(block)
		state, err := h.(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		secret.WipeObject(h)
		words := state[4:][:sha256.Size] // after a magic number
		padded[name+" padded key"] = secrettest.Mask(block[:len(key)])
		states[name+" marshaled state"] = secrettest.Mask(words)
		for i := 0; i < len(words); i += 4 {
			binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
		}
		states[name+" state"] = secrettest.Mask(words)
		clear(block)
		clear(state)
	}
	return padded, states
}

// The volume's keys are in memory as often as the Sealer holds them, and not at
// all after Wipe: no call leaves a copy behind. That is not so for the keys of
// package siv, of which none is a data key or wraps one.
func TestNoCopiesOfTheKeys(t *testing.T) {
	key, masked := secrettest.Key(t, VolumeKeySize)
	s, err := NewSealer(key.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	gone := make(map[string][]byte) // masked keys, of which no copy is allowed at any time
	used := map[string][]byte{"names": secrettest.Mask(s.names.Bytes()), "wrap": secrettest.Mask(s.wrap.Bytes())}
	header, err := subkey(key.Bytes(), infoHeader, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	gone["header"] = secrettest.Mask(header.Bytes())
	padded, states := macForms(t, header.Bytes())
	header.Free()
	for name, masked := range padded {
		gone["header, "+name] = masked
	}
	file := names.ID{1}
	fileWrap, err := secret.HKDF(s.wrap.Bytes(), file[:], []byte(infoWrap), wrapKeySize)
	if err != nil {
		t.Fatal(err)
	}
	gone["wrap key of a file"] = secrettest.Mask(fileWrap.Bytes())
	fileWrap.Free()

	dataKey, maskedData := secrettest.Key(t, dataKeySize)
	buf := make([]byte, HeaderSize)
	for range 200 {
		if err := s.MarshalHeader(buf, fileHeader()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ParseHeader(buf); err != nil {
			t.Fatal(err)
		}
		wrapped, err := s.WrapKey(file, dataKey.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		plain, err := s.UnwrapKey(file, wrapped)
		if err != nil || !bytes.Equal(plain, dataKey.Bytes()) {
			t.Fatal(err)
		}
		clear(plain)
		n, err := s.Names()
		if err != nil {
			t.Fatal(err)
		}
		n.Wipe()
	}
	conf := testConfig()
	if _, err := conf.Seal(key.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := conf.Verify(key.Bytes()); err != nil {
		t.Fatal(err)
	}
	check := func(what string, masked []byte, want int) {
		t.Helper()
		if n := secrettest.Copies(t, 0, masked); n != want {
			t.Errorf("%s: %d copies, want %d", what, n, want)
		}
	}
	check("volume key", masked, 1)
	check("data key", maskedData, 1)
	for name, masked := range used {
		check(name, masked, 1)
	}
	for name, masked := range gone {
		check(name, masked, 0)
	}
	// One in the MAC that is cloned and one in the clone, which share what is
	// marshaled; the state of the outer hash is in use only.
	for name, want := range map[string]int{"inner state": 2, "inner marshaled state": 1, "outer marshaled state": 1} {
		check("header, "+name, states[name], want)
	}
	s.Wipe()
	key.Free()
	dataKey.Free()
	check("volume key after Wipe", masked, 0)
	check("data key after Free", maskedData, 0)
	for name, masked := range used {
		check(name+" after Wipe", masked, 0)
	}
	for name, masked := range gone {
		check(name+" after Wipe", masked, 0)
	}
	for name, masked := range states {
		check("header, "+name+" after Wipe", masked, 0)
	}
}
