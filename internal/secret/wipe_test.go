package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"reflect"
	"testing"
	"unsafe"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

func key(n int) []byte {
	k := make([]byte, n)
	for i := range k {
		k[i] = byte(i*7 + 1)
	}
	return k
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// memory finds, before a wipe, every piece of memory x leads to: it knows
// nothing of cryptoTypes, so that a field which WipeObject misses is a failure.
func memory(x any) map[string][]byte {
	found := make(map[string][]byte)
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() || found[path] != nil {
				return
			}
			n := v.Type().Elem().Size()
			found[path] = unsafe.Slice((*byte)(v.UnsafePointer()), n)
			walk(path, v.Elem())
		case reflect.Interface:
			if !v.IsNil() {
				walk(path+"."+v.Elem().Type().String(), v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Slice:
			if v.Type().Elem().Kind() == reflect.Uint8 && v.Len() > 0 {
				found[path] = v.Bytes()
			}
		}
	}
	walk("", reflect.ValueOf(x))
	return found
}

func TestWipeObject(t *testing.T) {
	block := must[cipher.Block](t)(aes.NewCipher(key(32)))
	gcm := must[cipher.AEAD](t)(cipher.NewGCM(must[cipher.Block](t)(aes.NewCipher(key(32)))))
	randomGCM := must[cipher.AEAD](t)(cipher.NewGCMWithRandomNonce(must[cipher.Block](t)(aes.NewCipher(key(32)))))
	ctr := cipher.NewCTR(must[cipher.Block](t)(aes.NewCipher(key(32))), make([]byte, 16))
	mac := hmac.New(sha256.New, key(32))
	mac.Write([]byte("a message"))
	used := hmac.New(sha256.New, key(32))
	used.Write([]byte("a message"))
	used.Sum(nil)
	used.Reset() // keeps marshaled states of the keyed hashes instead of the pads
	used.Write([]byte("a message"))
	type holder struct {
		block cipher.Block
		aead  cipher.AEAD
		inner struct{ mac hash.Hash }
	}
	nested := &holder{block: must[cipher.Block](t)(aes.NewCipher(key(16))), aead: must[cipher.AEAD](t)(chacha20poly1305.NewX(key(32)))}
	nested.inner.mac = hmac.New(sha512.New, key(64))

	for name, x := range map[string]any{
		"AES-256":            block,
		"AES-128":            must[cipher.Block](t)(aes.NewCipher(key(16))),
		"AES-GCM":            gcm,
		"AES-GCM, random":    randomGCM,
		"AES-CTR":            ctr,
		"ChaCha20":           must[*chacha20.Cipher](t)(chacha20.NewUnauthenticatedCipher(key(32), make([]byte, 12))),
		"ChaCha20-Poly1305":  must[cipher.AEAD](t)(chacha20poly1305.New(key(32))),
		"XChaCha20-Poly1305": must[cipher.AEAD](t)(chacha20poly1305.NewX(key(32))),
		"HMAC-SHA-256":       mac,
		"HMAC-SHA-256, used": used,
		"HMAC-SHA-512":       hmac.New(sha512.New, key(64)),
		"SHA-256":            sha256.New(),
		"held by a struct":   nested,
	} {
		pieces := memory(x)
		secrets := 0
		for path, mem := range pieces {
			if !bytes.Equal(mem, make([]byte, len(mem))) {
				secrets++
			}
			_ = path
		}
		if secrets == 0 {
			t.Errorf("%s: nothing to wipe: the test sees no memory", name)
		}
		WipeObject(x)
		for path, mem := range pieces {
			if !bytes.Equal(mem, make([]byte, len(mem))) {
				t.Errorf("%s: %d bytes at %q survive", name, len(mem), path)
			}
		}
		WipeObject(x)
	}
}

// What is not a cipher is not followed: not a table, not a function, not a
// pointer to memory of the caller.
func TestWipeObjectOwnsNothingElse(t *testing.T) {
	table := [4]uint32{1, 2, 3, 4}
	other := struct{ n int }{5}
	bytesOf := []byte{6}
	m := map[string]int{"seven": 7}
	x := &struct {
		table *[4]uint32
		other *struct{ n int }
		bytes []byte
		m     map[string]int
		f     func()
		iface any
	}{&table, &other, bytesOf, m, func() {}, &other}
	WipeObject(x)
	if table != [4]uint32{1, 2, 3, 4} || other.n != 5 || bytesOf[0] != 6 || m["seven"] != 7 {
		t.Error("memory of others was wiped")
	}
	if x.table != nil || x.bytes != nil || x.f != nil {
		t.Error("the object itself was not")
	}
	WipeObject(nil)
	WipeObject(7)
	WipeObject((*int)(nil))
	var none cipher.Block
	WipeObject(none)
	array := [2]uint64{1, 2}
	WipeObject(&array)
	if array != [2]uint64{} {
		t.Error("an array was not wiped")
	}
}

func BenchmarkWipeObject(b *testing.B) {
	k := key(32)
	for b.Loop() {
		block, err := aes.NewCipher(k)
		if err != nil {
			b.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			b.Fatal(err)
		}
		WipeObject(gcm)
		WipeObject(block)
	}
}
