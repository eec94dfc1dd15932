package format

import (
	"bytes"
	"testing"

	"kmsfs.dev/kmsfs/fs/internal/siv"
	"kmsfs.dev/kmsfs/internal/secret/secrettest"
)

// The volume's keys are in memory as often as the Sealer holds them, and not at
// all after Wipe: no call leaves a copy behind.
func TestNoCopiesOfTheKeys(t *testing.T) {
	key, masked := secrettest.Key(t, VolumeKeySize)
	s, err := NewSealer(key.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	wrapKey, err := subkey(key.Bytes(), infoWrap, siv.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string][]byte{
		"header":           secrettest.Mask(s.header.Bytes()),
		"names":            secrettest.Mask(s.names.Bytes()),
		"wrap, MAC":        secrettest.Mask(wrapKey.Bytes()[:32]),
		"wrap, encryption": secrettest.Mask(wrapKey.Bytes()[32:]),
	}
	wrapKey.Free()
	dataKey, maskedData := secrettest.Key(t, 32)
	buf := make([]byte, HeaderSize)
	for range 200 {
		if err := s.MarshalHeader(buf, fileHeader()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ParseHeader(buf); err != nil {
			t.Fatal(err)
		}
		wrapped, err := s.WrapKey(id(1), dataKey.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		plain, err := s.UnwrapKey(id(1), wrapped)
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
	for name, masked := range keys {
		check(name, masked, 1)
	}
	s.Wipe()
	key.Free()
	dataKey.Free()
	check("volume key after Wipe", masked, 0)
	check("data key after Free", maskedData, 0)
	for name, masked := range keys {
		check(name+" after Wipe", masked, 0)
	}
}
