package names

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func testCipher(t testing.TB) *Cipher {
	t.Helper()
	key := make([]byte, KeySize)
	for i := range key {
		key[i] = byte(i)
	}
	c, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Wipe)
	return c
}

var testDir = ID{0: 0xd1, 15: 0x7f}

// decrypt takes either kind of stored name, as a directory listing does.
func decrypt(c *Cipher, dir ID, s Stored) (string, Tag, error) {
	if IsLong(s.Name) {
		return c.DecryptLong(dir, s.Name, s.SidecarTarget)
	}
	return c.Decrypt(dir, s.Name)
}

func TestEveryLength(t *testing.T) {
	c := testCipher(t)
	for n := 1; n <= MaxName; n++ {
		name := strings.Repeat("n", n-1) + "\xff"
		s, err := c.Encrypt(testDir, name)
		if err != nil {
			t.Fatalf("length %d: %v", n, err)
		}
		long := n > 164
		if IsLong(s.Name) != long || (s.Sidecar != "") != long || (s.SidecarTarget != "") != long {
			t.Errorf("length %d: %+v", n, s)
		}
		if long && (s.Sidecar != SidecarOf(s.Name) || !IsReserved(s.Sidecar)) {
			t.Errorf("length %d: sidecar %q of %q", n, s.Sidecar, s.Name)
		}
		if IsReserved(s.Name) {
			t.Errorf("length %d: %q is reserved", n, s.Name)
		}
		if l := len(LinkRecord(s.Name)); l > 255 {
			t.Errorf("length %d: name record of %d bytes", n, l)
		}
		got, tag, err := decrypt(c, testDir, s)
		if err != nil || got != name || tag != s.Tag {
			t.Errorf("length %d: decrypts to %q, %x: %v", n, got, tag, err)
		}
	}
}

func TestInvalidNames(t *testing.T) {
	c := testCipher(t)
	for name, want := range map[string]error{
		"":                         ErrInvalid,
		".":                        ErrInvalid,
		"..":                       ErrInvalid,
		"a/b":                      ErrInvalid,
		"/":                        ErrInvalid,
		"a\x00":                    ErrInvalid,
		strings.Repeat("n", 256):   ErrTooLong,
		strings.Repeat("n", 255):   nil,
		"...":                      nil,
		"kmsfs.conf":               nil, // plaintext names are all the user's
		"\n":                       nil,
		"\xff\xfe not UTF-8":       nil,
		strings.Repeat("/", 1<<16): ErrTooLong,
	} {
		if _, err := c.Encrypt(testDir, name); !errors.Is(err, want) {
			t.Errorf("Encrypt(%.20q): %v, want %v", name, err, want)
		}
	}
}

// A sealed name that check refuses is refused after decryption too: whoever has
// the key could otherwise make a name that walks out of its directory.
func TestSealedInvalidNames(t *testing.T) {
	c := testCipher(t)
	for _, name := range []string{".", "..", "a/b", "\x00", "../../etc/passwd"} {
		raw := c.siv.Seal(testDir[:], []byte(name))
		if got, _, err := c.Decrypt(testDir, encoding.EncodeToString(raw)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q decrypts to %q: %v", name, got, err)
		}
	}
}

func TestTampering(t *testing.T) {
	c := testCipher(t)
	other := testDir
	other[3] ^= 1
	for _, name := range []string{"x", "hello.txt", strings.Repeat("n", 163), strings.Repeat("n", 164), strings.Repeat("n", 165), strings.Repeat("n", 255)} {
		s, err := c.Encrypt(testDir, name)
		if err != nil {
			t.Fatal(err)
		}
		refuse := func(what string, dir ID, s Stored) {
			t.Helper()
			if got, _, err := decrypt(c, dir, s); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d bytes, %s: decrypts to %q: %v", len(name), what, got, err)
			}
		}
		refuse("in another directory", other, s)
		text := &s.Name
		if s.Sidecar != "" {
			text = &s.SidecarTarget
		}
		whole := *text
		for i := range len(whole) {
			for _, with := range []byte{'A', 'B', '_', '-', '=', '\n', '\r', ' ', '+', '/', '.', 0} {
				if with == whole[i] {
					continue
				}
				*text = whole[:i] + string(with) + whole[i+1:]
				refuse("a character changed", testDir, s)
				*text = whole[:i] + string(with) + whole[i:]
				refuse("a character inserted", testDir, s)
			}
			*text = whole[:i] + whole[i+1:]
			refuse("a character removed", testDir, s)
		}
		for _, tail := range []string{"\n", "\r\n", "=", "A", "AA", "AAAA", "\x00"} {
			*text = whole + tail
			refuse("a tail", testDir, s)
		}
		*text = ""
		refuse("nothing", testDir, s)
	}
}

// A short name is never accepted in a sidecar, nor a long one without, nor one
// long name's sidecar under another's hash.
func TestWrongForm(t *testing.T) {
	c := testCipher(t)
	short, _ := c.Encrypt(testDir, strings.Repeat("n", 164))
	long, _ := c.Encrypt(testDir, strings.Repeat("n", 165))
	other, _ := c.Encrypt(testDir, strings.Repeat("m", 165))
	if _, _, err := c.Decrypt(testDir, long.SidecarTarget); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a long name in short form: %v", err)
	}
	if _, _, err := c.DecryptLong(testDir, long.Name, short.Name); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a short name in a sidecar: %v", err)
	}
	if _, _, err := c.DecryptLong(testDir, longPrefix+hashed([]byte("x")), long.SidecarTarget); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the wrong hash: %v", err)
	}
	if _, _, err := c.DecryptLong(testDir, other.Name, long.SidecarTarget); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another's sidecar: %v", err)
	}
	if _, _, err := c.Decrypt(testDir, long.Name); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a hash as a short name: %v", err)
	}
}

func TestNewDirID(t *testing.T) {
	seen := make(map[ID]bool)
	var or ID
	for range 1000 {
		id := NewDirID()
		if seen[id] {
			t.Fatal("an ID is repeated")
		}
		seen[id] = true
		for i, b := range id {
			or[i] |= b
		}
	}
	for i, b := range or { // every bit of the random part occurs, and no other
		if i < DirIDSize && b != 0xff || i >= DirIDSize && b != 0 {
			t.Errorf("byte %d has bits %08b", i, b)
		}
	}
	if DirIDSize != 12 {
		t.Error("records have 12 bytes of an ID")
	}
}

func TestReserved(t *testing.T) {
	hash := strings.Repeat("A", 43)
	for stored, want := range map[string]struct{ long, reserved bool }{
		"kmsfs.conf":                    {false, true},
		"kmsfs.settled":                 {false, true},
		"kmsfs.dir":                     {false, true},
		"kmsfs.ln.abc":                  {false, true},
		"kmsfs.ln.long." + hash:         {false, true},
		"kmsfs.new.1":                   {false, true},
		"kmsfs.del.1":                   {false, true},
		"kmsfs.name." + hash:            {false, true},
		"kmsfs.":                        {false, true},
		"kmsfs.long." + hash:            {true, false},
		"kmsfs.long." + hash + "A":      {false, false},
		"kmsfs.long." + hash[1:]:        {false, false},
		"kmsfs.long." + hash[1:] + "B":  {false, false}, // stray bits
		"kmsfs.long." + hash[1:] + "\n": {false, false},
		"kmsfs":                         {false, false},
		"abc":                           {false, false},
		"":                              {false, false},
	} {
		if IsLong(stored) != want.long || IsReserved(stored) != want.reserved {
			t.Errorf("%q: long %v, reserved %v", stored, IsLong(stored), IsReserved(stored))
		}
	}
	if got, want := LinkRecord("abc"), "kmsfs.ln.abc"; got != want {
		t.Errorf("LinkRecord = %q, want %q", got, want)
	}
	if got, want := LinkRecord("kmsfs.long."+hash), "kmsfs.ln.long."+hash; got != want {
		t.Errorf("LinkRecord = %q, want %q", got, want)
	}
}

func FuzzDecrypt(f *testing.F) {
	c := testCipher(f)
	for _, name := range []string{"a", "hello.txt", strings.Repeat("n", 164), strings.Repeat("n", 165), strings.Repeat("n", 255)} {
		s, err := c.Encrypt(testDir, name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name, s.Name, s.SidecarTarget)
	}
	f.Add("", "", "")
	f.Add("..", "kmsfs.long.", "AAAA")
	f.Fuzz(func(t *testing.T, name, stored, target string) {
		// What decrypts is what Encrypt makes of the result.
		if got, tag, err := c.Decrypt(testDir, stored); err == nil {
			s, err := c.Encrypt(testDir, got)
			if err != nil || s != (Stored{Name: stored, Tag: tag}) {
				t.Fatalf("%q decrypts to %q, which is stored as %+v: %v", stored, got, s, err)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if got, tag, err := c.DecryptLong(testDir, stored, target); err == nil {
			s, err := c.Encrypt(testDir, got)
			if err != nil || s != (Stored{Name: stored, Tag: tag, Sidecar: SidecarOf(stored), SidecarTarget: target}) {
				t.Fatalf("%q, %q decrypts to %q, which is stored as %+v: %v", stored, target, got, s, err)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		// The fuzzer cannot forge a tag; this reaches the other side.
		s, err := c.Encrypt(testDir, name)
		if err != nil {
			return
		}
		if got, tag, err := decrypt(c, testDir, s); err != nil || got != name || tag != s.Tag {
			t.Fatalf("%q is stored as %+v and decrypts to %q: %v", name, s, got, err)
		}
	})
}

func TestTagsDiffer(t *testing.T) {
	c := testCipher(t)
	rng := rand.New(rand.NewPCG(1, 2))
	seen := make(map[Tag]string)
	for range 1000 {
		var dir ID
		dir[0] = byte(rng.IntN(8))
		name := strings.Repeat("n", 1+rng.IntN(255))
		s, err := c.Encrypt(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		at := string(dir[:]) + name
		if was, ok := seen[s.Tag]; ok && was != at {
			t.Fatal("two names share a tag")
		}
		seen[s.Tag] = at
	}
}

func BenchmarkEncrypt(b *testing.B) {
	c := testCipher(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Encrypt(testDir, "a-typical-name.txt"); err != nil {
			b.Fatal(err)
		}
	}
}
