package format

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/names"
)

var update = flag.Bool("update", false, "write goldens instead of comparing with them")

// Goldens hold what the first released format wrote under testVolumeKey. They
// must be read for ever, and, unless something in them is random, written so too.

func golden(t *testing.T, name string, written []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, written, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written, want) {
		t.Errorf("%s is written otherwise now:\n%s\nwas\n%s", name, written, want)
	}
	return want
}

// openGolden returns a golden that is only read, as it has a random nonce.
func openGolden(t *testing.T, name string, write func() []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, write(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hexLines makes a binary golden one that a diff shows.
func hexLines(b []byte) []byte {
	var out bytes.Buffer
	for ; len(b) > 0; b = b[min(32, len(b)):] {
		out.WriteString(hex.EncodeToString(b[:min(32, len(b))]) + "\n")
	}
	return out.Bytes()
}

func fromHexLines(t *testing.T, b []byte) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(string(b), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func same(t *testing.T, name string, got, want any, err error) {
	t.Helper()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s reads as %+v: %v; want %+v", name, got, err, want)
	}
}

func TestGoldenHeaders(t *testing.T) {
	s := testSealer(t)
	wrapped := fromHexLines(t, openGolden(t, "wrapped-key", func() []byte {
		wrapped, err := s.WrapKey(id(0x10), seq(0x11, 32))
		if err != nil {
			t.Fatal(err)
		}
		return hexLines(wrapped)
	}))
	key, err := s.UnwrapKey(id(0x10), wrapped)
	same(t, "wrapped-key", key, seq(0x11, 32), err)
	for name, h := range map[string]*Header{
		"header-path":      fileHeader(),
		"header-volume":    {Algorithm: 2, Geometry: 2, FileID: id(0x10), Generation: 1, Parent: id(0x40), Tag: tag(0x60), WrappedKey: wrapped},
		"header-in-record": {Algorithm: 1, Geometry: 1, KeyInRecord: true, Epoch: 1, FileID: id(0x10), Counter: 1, Parent: id(0x40), Tag: tag(0x60), Holes: []Extent{{1, 2}}},
	} {
		b := make([]byte, HeaderSize)
		if err := s.MarshalHeader(b, h); err != nil {
			t.Fatal(err)
		}
		got, err := s.ParseHeader(fromHexLines(t, golden(t, name, hexLines(b))))
		same(t, name, got, h, err)
	}
}

func TestGoldenRecords(t *testing.T) {
	s := testSealer(t)
	line := func(name, target string) string {
		return strings.TrimSuffix(string(golden(t, name, []byte(target+"\n"))), "\n")
	}
	root := &DirRecord{ID: dirID(1), HasXattrs: true}
	got, err := s.OpenDir(line("dir-root", s.SealDir(root)))
	same(t, "dir-root", got, root, err)
	dir := &DirRecord{ID: dirID(1), Tag: dirTag(3), Counter: 4}
	got, err = s.OpenDir(line("dir", s.SealDir(dir)))
	same(t, "dir", got, dir, err)
	plain := &DirRecord{ID: dirID(1), Tag: dirTag(3), Counter: 4, Plain: true}
	got, err = s.OpenDir(line("dir-plain", s.SealDir(plain)))
	same(t, "dir-plain", got, plain, err)

	settled := &SettledRecord{Settled: 5, Next: 1 << 33}
	gotSettled, err := s.OpenSettled(id(1), line("settled", s.SealSettled(id(1), settled)))
	same(t, "settled", gotSettled, settled, err)

	rec := &NameRecord{Entries: []NameEntry{
		{ID: id(4), Kind: KindFile, Wrapped: seq(5, 176), Path: "/docs/old"},
		{ID: id(6), Kind: KindSpecial, Mode: unix.S_IFCHR, Rdev: 0x103},
	}}
	target, err := s.SealName(id(1), tag(7), rec)
	if err != nil {
		t.Fatal(err)
	}
	gotRec, err := s.OpenName(id(1), tag(7), line("name", target))
	same(t, "name", gotRec, rec, err)

	move := &MoveRecord{Counter: 1 << 40, Tags: []names.Tag{tag(3), tag(9)}}
	gotMove, err := s.OpenMove(id(8), fromHexLines(t, golden(t, "move", hexLines(s.SealMove(id(8), move)))))
	same(t, "move", gotMove, move, err)

	link := &Symlink{ID: id(8), Parent: id(1), Tag: tag(9), Target: "../elsewhere"}
	if target, err = s.SealSymlink(link); err != nil {
		t.Fatal(err)
	}
	gotLink, err := s.OpenSymlink(line("symlink", target))
	same(t, "symlink", gotLink, link, err)

	x := XattrSet{{"system.posix_acl_default", seq(0, 28)}, {"user.comment", []byte("sealed")}, {"user.empty", []byte{}}}
	sealed, err := s.SealXattrs(id(8), x)
	if err != nil {
		t.Fatal(err)
	}
	gotX, err := s.OpenXattrs(id(8), fromHexLines(t, golden(t, "xattrs", hexLines(sealed))))
	same(t, "xattrs", gotX, x, err)
}

// The names are package names' format, but the key is derived here.
func TestGoldenNames(t *testing.T) {
	s := testSealer(t)
	n, err := s.Names()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Wipe()
	for file, name := range map[string]string{"stored-short": "report.txt", "stored-long": strings.Repeat("long name ", 20)} {
		stored, err := n.Encrypt(id(1), name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(golden(t, file, []byte(stored.Name+"\n"+stored.SidecarTarget+"\n"))), "\n")
		var got string
		if names.IsLong(lines[0]) {
			got, _, err = n.DecryptLong(id(1), lines[0], lines[1])
		} else {
			got, _, err = n.Decrypt(id(1), lines[0])
		}
		same(t, file, got, name, err)
	}
}

func TestGoldenConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"config-path":   func(*Config) {},
		"config-volume": func(c *Config) { c.Keys, c.Context, c.Geometry = KeysVolume, ContextVolume, GeometryBlock },
		"config-opaque": func(c *Config) { c.Context, c.Algorithm = ContextOpaque, AlgorithmXChaCha20Poly1305 },
	} {
		want := testConfig()
		change(want)
		b, err := want.Seal(testVolumeKey())
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseConfig(golden(t, name, b))
		same(t, name, got, want, err)
		if err == nil {
			if err := got.Verify(testVolumeKey()); err != nil {
				t.Error(err)
			}
		}
		if want.Created != time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) {
			t.Errorf("created %v", want.Created)
		}
	}
}
