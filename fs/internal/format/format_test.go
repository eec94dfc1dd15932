package format

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// testVolumeKey is fixed, so that goldens are the same for ever.
func testVolumeKey() []byte {
	key := make([]byte, VolumeKeySize)
	for i := range key {
		key[i] = byte(i*3 + 1)
	}
	return key
}

func testSealer(t testing.TB) *Sealer {
	t.Helper()
	s, err := NewSealer(testVolumeKey())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Wipe)
	return s
}

// seq returns n bytes that count from first.
func seq(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func id(first byte) names.ID   { return names.ID(seq(first, 16)) }
func tag(first byte) names.Tag { return names.Tag(seq(first, 16)) }

// dirID and dirTag are what a directory record has of id and tag.
func dirID(first byte) (d names.ID)   { copy(d[:], seq(first, 12)); return d }
func dirTag(first byte) (d names.Tag) { copy(d[:], seq(first, 12)); return d }

func fileHeader() *Header {
	return &Header{
		Algorithm: 1, Geometry: 1, HasXattrs: true, Epoch: 2, FileID: id(0x10),
		WriteCount: 127, Generation: 7, Durable: 123456, Counter: 9,
		Parent: id(0x40), Tag: tag(0x60), WrappedKey: seq(0x80, 176), Path: "/docs/report.txt",
		Holes: []Extent{{3, 1}, {5, 1000}, {1<<48 - 3, 2}},
	}
}

func TestLimitsAgreeWithContent(t *testing.T) {
	if HeaderSize != content.HeaderSize || maxDurable != content.MaxLength || dataKeySize != content.DataKeySize {
		t.Error("format and content disagree")
	}
	c := &Config{Algorithm: AlgorithmXChaCha20Poly1305, Geometry: GeometryBlock}
	if content.Algorithm(c.AlgorithmID()) != content.XChaCha20Poly1305 || content.GeometryKind(c.GeometryID()) != content.BlockImage {
		t.Error("the configuration names another algorithm or geometry")
	}
	c = &Config{Algorithm: AlgorithmAES256GCM, Geometry: GeometryFile}
	if content.Algorithm(c.AlgorithmID()) != content.AES256GCM || content.GeometryKind(c.GeometryID()) != content.Files {
		t.Error("the configuration names another algorithm or geometry")
	}
}

func TestVolumeKeyLength(t *testing.T) {
	for _, n := range []int{0, 32, 63, 65} {
		if _, err := NewSealer(make([]byte, n)); err == nil {
			t.Errorf("NewSealer takes %d bytes", n)
		}
	}
}

func testConfig() *Config {
	return &Config{
		Volume: "vol-0123456789abcdef0", Created: time.Date(2026, 1, 2, 3, 4, 5, 999, time.UTC),
		KMSKey: "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		Keys:   KeysPath, Context: ContextPath, Algorithm: AlgorithmAES256GCM, Geometry: GeometryFile,
		WrappedVolumeKey: seq(0, 200),
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	s := testSealer(t)
	check := func(what string, want any, got any, sealErr, openErr error) {
		t.Helper()
		if sealErr != nil || openErr != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v reads as %+v: %v, %v", what, want, got, sealErr, openErr)
		}
	}
	for _, d := range testDirs {
		got, err := s.OpenDir(s.SealDir(&d))
		check("directory", &d, got, nil, err)
	}
	for _, r := range []SettledRecord{{}, {0, 1}, {1, 1}, {1<<64 - 1, 1<<64 - 1}} {
		got, err := s.OpenSettled(id(1), s.SealSettled(id(1), &r))
		check("settled", &r, got, nil, err)
	}
	for _, m := range testMoves {
		got, err := s.OpenMove(id(1), s.SealMove(id(1), &m))
		check("move", &m, got, nil, err)
	}
	for _, r := range testNames {
		sealed, serr := s.SealName(id(1), tag(2), &r)
		got, oerr := s.OpenName(id(1), tag(2), sealed)
		check("name", &r, got, serr, oerr)
	}
	for _, n := range []int{1, 2, 3, 100, MaxSymlink - 2, MaxSymlink - 1, MaxSymlink} {
		l := &Symlink{id(1), id(2), tag(3), strings.Repeat("s", n)}
		sealed, serr := s.SealSymlink(l)
		got, oerr := s.OpenSymlink(sealed)
		check("symlink", l, got, serr, oerr)
		if len(sealed) > 4095 {
			t.Errorf("a target of %d bytes is stored in %d", n, len(sealed))
		}
	}
	for _, x := range testXattrs() {
		sealed, serr := s.SealXattrs(id(1), x)
		got, oerr := s.OpenXattrs(id(1), sealed)
		check("extended attributes", x, got, serr, oerr)
	}
	for _, c := range []func(*Config){
		func(*Config) {},
		func(c *Config) { c.Keys, c.Context = KeysVolume, ContextVolume },
		func(c *Config) { c.Algorithm, c.Geometry = AlgorithmXChaCha20Poly1305, GeometryBlock },
		func(c *Config) { c.WrappedVolumeKey, c.Context = seq(0, 1), ContextOpaque },
	} {
		want := testConfig()
		c(want)
		sealed, serr := want.Seal(testVolumeKey())
		got, oerr := ParseConfig(sealed)
		check("configuration", want, got, serr, oerr)
		if err := got.Verify(testVolumeKey()); err != nil {
			t.Error(err)
		}
	}
}

var testDirs = []DirRecord{
	{ID: dirID(1)},
	{ID: dirID(1), Counter: 3, HasXattrs: true},
	{ID: dirID(1), Tag: dirTag(3), Counter: MaxDirCounter},
	{ID: dirID(1), Tag: dirTag(3), HasXattrs: true},
	{ID: dirID(1), Tag: dirTag(3), Counter: MaxDirCounter, HasXattrs: true},
	{ID: dirID(1), Tag: dirTag(3), Counter: MaxDirCounter, Plain: true},
	{ID: dirID(1), HasXattrs: true, Plain: true},
}

var testMoves = []MoveRecord{
	{Tags: []names.Tag{{}}},
	{Counter: 1, Tags: []names.Tag{tag(1)}},
	{Counter: 1<<64 - 1, Tags: []names.Tag{tag(1), tag(2)}},
}

var testNames = []NameRecord{
	{Entries: []NameEntry{{ID: id(1), Kind: KindFile, Wrapped: seq(0, 176), Path: "/a"}}},
	{Entries: []NameEntry{{ID: id(1), Kind: KindFile, Wrapped: seq(0, WrappedKeySize)}}},
	{Entries: []NameEntry{{ID: id(1), Kind: KindDir}}},
	{Entries: []NameEntry{{ID: id(1), Kind: KindSymlink}}},
	{Entries: []NameEntry{{ID: id(1), Kind: KindSpecial, Mode: unix.S_IFBLK, Rdev: 0x801}}},
	{Entries: []NameEntry{{ID: id(1), Kind: KindSpecial, Mode: unix.S_IFCHR}, {ID: id(2), Kind: KindSpecial, Mode: unix.S_IFIFO}}},
	{Entries: []NameEntry{{ID: id(1), Kind: KindSpecial, Mode: unix.S_IFSOCK}, {ID: id(2), Kind: KindFile}}},
	{Entries: []NameEntry{ // the largest
		{ID: id(1), Kind: KindFile, Wrapped: seq(0, MaxWrappedKey), Path: strings.Repeat("p", MaxRecordPath)},
		{ID: id(2), Kind: KindFile, Wrapped: seq(1, MaxWrappedKey), Path: strings.Repeat("q", MaxRecordPath)},
	}},
}

func testXattrs() []XattrSet {
	return []XattrSet{
		nil,
		{{"user.a", []byte{}}},
		{{"system.posix_acl_access", seq(0, 44)}, {"user.a", []byte("1")}, {"user.b", []byte("2")}},
		{{strings.Repeat("n", 255), seq(0, 10)}},
		{{"user.big", make([]byte, maxXattrSet-16-2-8-4)}},
	}
}
