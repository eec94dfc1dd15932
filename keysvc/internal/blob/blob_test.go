package blob

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
)

func material(b byte) []byte { return bytes.Repeat([]byte{b}, MaterialLen) }

var testRef = Ref{KeyID: [16]byte{1, 2, 3}, MaterialID: [16]byte{4, 5, 6}}

func mustSeal(t testing.TB, plaintext []byte, context map[string]string) []byte {
	t.Helper()
	b, err := Seal(testRef, material(7), plaintext, context)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t testing.TB, b, mat []byte, context map[string]string) ([]byte, error) {
	t.Helper()
	buf, err := Open(b, mat, context)
	if err != nil {
		return nil, err
	}
	defer buf.Free()
	return bytes.Clone(buf.Bytes()), nil
}

func TestDeriveIsHKDF(t *testing.T) {
	for i := range 64 {
		mat, salt := material(byte(i)), bytes.Repeat([]byte{byte(3 * i)}, 32)
		want, err := hkdf.Key(sha256.New, mat, salt, info, 64)
		if err != nil {
			t.Fatal(err)
		}
		got, err := derive(mat, salt)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes()[:64], want) {
			t.Fatalf("derive(%d) = %x, HKDF is %x", i, got.Bytes()[:64], want)
		}
		got.Free()
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := derive(make([]byte, n), make([]byte, 32)); err == nil {
			t.Errorf("a material of %d bytes is accepted", n)
		}
	}
}

func TestRoundTripAndLength(t *testing.T) {
	ctx := map[string]string{"kmsfs:volume": "vol-0123456789abcdef0", "kmsfs:path": "/a/b"}
	for _, n := range []int{1, 16, 32, 64, 1024, 4095, 4096} {
		plaintext := bytes.Repeat([]byte{byte(n)}, n)
		b := mustSeal(t, plaintext, ctx)
		if len(b) != fixedLen+n+tagLen {
			t.Errorf("%d bytes make a blob of %d", n, len(b))
		}
		got, err := open(t, b, material(7), ctx)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%d bytes do not open: %v", n, err)
		}
	}
	if n := len(mustSeal(t, make([]byte, 32), ctx)); n != 145 {
		t.Errorf("a data key makes a blob of %d bytes, not 145", n)
	}
	for _, n := range []int{0, 4097} {
		if _, err := Seal(testRef, material(7), make([]byte, n), nil); err == nil {
			t.Errorf("a plaintext of %d bytes is accepted", n)
		}
	}
}

func TestContextIsInjective(t *testing.T) {
	contexts := []map[string]string{
		nil,
		{"": ""},
		{"ab": "c"},
		{"a": "bc"},
		{"abc": ""},
		{"": "abc"},
		{"a": "b", "c": ""},
		{"a": "", "b": "c"},
		{"A": "bc"},
		{"a": "b\x01\x00\x00\x00c"},
		{"a": "b", "c": "d"},
		{"a": "b\x01\x00\x00\x00c\x01\x00\x00\x00d"},
	}
	for i, sealed := range contexts {
		b := mustSeal(t, []byte("data key"), sealed)
		for j, opened := range contexts {
			_, err := open(t, b, material(7), opened)
			if i == j && err != nil {
				t.Errorf("context %d does not open itself: %v", i, err)
			}
			if i != j && !errors.Is(err, ErrInvalid) {
				t.Errorf("a blob under %q opens under %q: %v", sealed, opened, err)
			}
		}
	}
	b := mustSeal(t, []byte("data key"), nil)
	if _, err := open(t, b, material(7), map[string]string{}); err != nil {
		t.Errorf("the empty context is not the absent one: %v", err)
	}
}

func TestEveryTamperedByteIsTheSameError(t *testing.T) {
	ctx := map[string]string{"a": "b"}
	b := mustSeal(t, []byte("a data key of thirty-two bytes!!"), ctx)
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := open(t, bad, material(7), ctx); err != ErrInvalid {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for n := range b {
		if _, err := open(t, b[:n], material(7), ctx); err != ErrInvalid {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	for name, bad := range map[string][]byte{
		"extended":     append(bytes.Clone(b), 0),
		"overlong":     make([]byte, MaxLen+1),
		"of all zeros": make([]byte, len(b)),
	} {
		if _, err := open(t, bad, material(7), ctx); err != ErrInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := open(t, b, material(8), ctx); err != ErrInvalid {
		t.Errorf("another key: %v", err)
	}
}

// TestCommitment forges what AES-GCM alone would let pass: the tag is right,
// the commitment is another key's.
func TestCommitment(t *testing.T) {
	b := mustSeal(t, []byte("data key"), nil)
	other, err := derive(material(9), b[saltAt:headerLen])
	if err != nil {
		t.Fatal(err)
	}
	defer other.Free()
	copy(b[headerLen:], other.Bytes()[32:64])
	for _, m := range []byte{7, 9} {
		if _, err := open(t, b, material(m), nil); err != ErrInvalid {
			t.Errorf("under material %d: %v", m, err)
		}
	}
}

func TestGolden(t *testing.T) {
	ctx := map[string]string{"kmsfs:volume": "vol-0123456789abcdef0", "kmsfs:path": "/dir/name"}
	plaintext := []byte("0123456789abcdef0123456789abcdef")
	var salt [saltLen]byte
	for i := range salt {
		salt[i] = byte(i)
	}
	raw, err := os.ReadFile("testdata/v1.hex")
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.Join(strings.Fields(string(raw)), ""))
	if err != nil {
		t.Fatal(err)
	}
	got, err := seal(testRef, material(7), plaintext, ctx, salt)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("Seal makes\n%x, the golden blob is\n%x", got, want)
	}
	if p, err := open(t, want, material(7), ctx); err != nil || !bytes.Equal(p, plaintext) {
		t.Errorf("the golden blob opens to %q: %v", p, err)
	}
}

func FuzzOpen(f *testing.F) {
	ctx := map[string]string{"a": "b"}
	// The same in each of the fuzzer's processes.
	b, err := seal(testRef, material(7), []byte("a data key of thirty-two bytes!!"), ctx, [saltLen]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, "a", "b")
	f.Add(b[:len(b)-1], "a", "b")
	f.Add(b, "ab", "")
	f.Add(b[:MinLen], "", "")
	f.Add([]byte{1}, "a", "b")
	f.Add([]byte(nil), "", "")
	f.Fuzz(func(t *testing.T, in []byte, k, v string) {
		got, err := open(t, in, material(7), map[string]string{k: v})
		genuine := bytes.Equal(in, b) && k == "a" && v == "b"
		if genuine != (err == nil) {
			t.Fatalf("Open of %x under %q=%q: %q, %v", in, k, v, got, err)
		}
		if err != nil && err != ErrInvalid {
			t.Fatalf("an attacker sees %v", err)
		}
		if ref, err := Parse(in); err == nil && (in[0] != 1 || !bytes.Equal(in[1:17], ref.KeyID[:])) {
			t.Fatalf("Parse of %x is %v", in, ref)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	ctx := map[string]string{"kmsfs:volume": "vol-0123456789abcdef0", "kmsfs:path": "/dir/name"}
	sealed, mat := mustSeal(b, make([]byte, 32), ctx), material(7)
	for b.Loop() {
		buf, err := Open(sealed, mat, ctx)
		if err != nil {
			b.Fatal(err)
		}
		buf.Free()
	}
}
