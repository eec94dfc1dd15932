package siv

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"kmsfs.dev/kmsfs/internal/secret"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testCipher(t testing.TB, key []byte) *Cipher {
	t.Helper()
	c, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Wipe)
	return c
}

const countingKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"

// From Wycheproof, testvectors_v1/aes_siv_cmac_test.json, of its 512-bit keys
// (the vectors of RFC 5297 have 256): every length around the blocks, and IVs
// with which a counter that is not masked would overflow.
var wycheproof = []struct {
	id               int
	key, ad, pt, out string
}{
	{296, "bc7635c1fd566aa8357fd103714bfaee1c9e5b3c578b3980401a981030254a54b1756a8c96e600b7252fd0aab12f39d115d256b3f3e7c2c41a7fece72ba7c3c4",
		"", "", "44b1c6fe8a8c07dee5377b161f283c31"},
	{297, "aff6388fdd2908e0c3b610e3dcd410c8146a268d6befd5c45ffdd23508b5b311cc3a9d8f838f456436b289018682151dd57d8d65d1a823c06eca8ab8ee01da01",
		"d0bb2949a411e22d32964526", "", "e288d802a0e56ed7544a2e5775459389"},
	{305, "e2c5662bb18fbb411d0304e4241db073fe60a4704fee290073513038a22b4cd542580b2b4edbc37e3de01c0cb61abcad46986cdc491ce9e5ae5af223ff58b953",
		"fab912dec29a34aabfaef176", "0d", "1c6969ecb15741a9959b7a8492250e391a"},
	{319, "2a93a0c37797bee0c344b9ceed1a609813d8c5ee686d260f3aa6fc2f66dc59f400479d1dfe04e89e6df608a3f699ff1cb4e9bf24a78fb2dfddaa0011a2e40208",
		"6ae54f41ac52baf2f89abe8e", "3fc3bf53bb485c9edcb1d25adb4ca0", "2d344a54038a857f47e0c77eb0834538aaf01e61a8ac82c0012f9dac6f15ef"},
	{302, "c25cafc6018b98dfbb79a40ec89c575a4f88c4116489bba27707479800c0130235334a45dbe8d8dae3da8dcb45bbe5dce031b0f68ded544fda7eca30d6749442",
		"deeb0ccf3aef47a296ed1ca8f4ae5907", "beec61030fa3d670337196beade6aeaa", "5865208eab9163db85cab9f96d846234a2626aae22f5c17c9aad4b501f4416e4"},
	{320, "139383f3f82dc78e0b380027f9e5fcd2ed23716404be5c554452e4dc73d237026594491820c6b8297185cc1fa84f49a5c7d7cd05c5de090ff1c3397bc2740437",
		"d39da73ffc03ad0a9213ffc7", "48604944a80fadf50d55b87727934458c8", "a9cf73951cb39823777f35c96c845169476e2ec2317cb6b8dd8b6172fdceabff9d"},
	{321, "eac96a89b8e0c928a85c91396346efe8287730595064554cd13574f8b340f541c5f0bb55e654e51b05e21ba007942cabab5ee1020922f0dd002196a39d7fda1d",
		"29d614f908593f6a5ab03cea", "0c22e4875dcd23de89a6d32f2082dd40e1848fc2", "bce886623d11320d22dfdc1defb04d17bd001d9370a3d8c83aabe4494d16ca75ce534f7c"},
	{322, "c0f4bede68c6ed5ad14918e2ddeced692dfd5419c04204d5b96f4ca47078b07028c6fb87b1b490d875f070bbe4d790f65e5df19947f02c9d3a4e493b542d0291",
		"b411e4d2facca67ea4a9f2a1", "2f358d4534559ac99dd71798b7925705d6f013f6b848ffe01cc86cef09d88f",
		"d27ae26dfe02e3eedf544e1b452cb0f0c9303a4e4819318315ae08839bcce558e4741817ec08dae406bbfc09f59aa9"},
	{303, "27faf97fb303aa4f2f364edd23997f4c77b8e51ebb8293c59dfb1d24f0fb629f6c820fc2d91bf48f0035eeec347e37ec4fb0cb36102bcdc5a248c47a2f97eab9",
		"cc94f64e14df90265f7f12a8a0386d0a", "6b1db0f5a43376885002dc98bd556f1dac9b66b66213a9fa6069df995a123384",
		"d0016d675b49f11ea873707412d45709b7703a028a0cfc312cf61cbe22b91e3cf20b7d4c9308ee15f18b4eba00889284"},
	{323, "cd8689f821817f59bfaa755131f2565161c7f4489f89b657ac9fa127a9768535a702d001b9b99cc11c3976467b1b45865ff417dc256ebb5079b7f1b3e08307b5",
		"b3edffbb89b373fe04da244b", "ebcfb2ffb681cc5dfa0c5c524c1b1cc87cc6b2bfa35dc36d15e80505118b84a072a78a157b4d1837",
		"1ac78aae2ede04eb47924d8f9f99fe75deb61bf693da7f3a2147c05f6d29d17392356fe00f82b24cdbce774fd864561548f33dd3192d806f"},
	{325, countingKey, "", "8dbfee9580e7e2bc66100a674497f4e1", "000000000000000000000000000000007ef8aa7e4dd49d9cfa09e9cb574fd90d"},
	{328, countingKey, "000102030405060708090a0b0c0d0e0f", "404aa73280eb830afde284ba6b18d48a", "ffffffffffffffffffffffffffffffff0fae016c086fc20546b374c24f3ebad0"},
	{329, countingKey, "", "ff4d7cdeb8f3c4e37a05a91ee26e2a84", "ffffffffffffffffffffffff7fffffffb0a9da80307785ecc1545966c64844de"},
	{332, countingKey, "000102030405060708090a0b0c0d0e0f", "5cabb261dd19c72368c8d40c5aae007d", "ffffffffffffffff7fffffffffffffff134f143f559d862cd39924747e886e27"},
}

func TestWycheproof(t *testing.T) {
	for _, v := range wycheproof {
		c := testCipher(t, unhex(t, v.key))
		ad, plain, want := unhex(t, v.ad), unhex(t, v.pt), unhex(t, v.out)
		if got := c.Seal(ad, plain); !bytes.Equal(got, want) {
			t.Errorf("%d: seals to %x", v.id, got)
		}
		if got, err := c.Open(ad, want); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d: opens to %x: %v", v.id, got, err)
		}
	}
	c := testCipher(t, unhex(t, countingKey))
	for id, changed := range map[int]string{ // the IV with one bit flipped
		335: "6ef5b8ef53fc365606cd3ea047374885",
		337: "05b4e8166f28082987a32cdaf53deb61211dffad7562c4b924bb79fed73d9ce2",
		346: "b05d6cf8eeb36a37849710e7d1f72940adfd10a7615d6515b999dbfc5a10f3ae9df5f19a",
	} {
		if got, err := c.Open(nil, unhex(t, changed)); !errors.Is(err, ErrOpen) {
			t.Errorf("%d: opens to %x: %v", id, got, err)
		}
	}
}

func TestEveryLength(t *testing.T) {
	c := testCipher(t, unhex(t, countingKey))
	msg := make([]byte, 70000)
	for i := range msg {
		msg[i] = byte(i * 101)
	}
	lengths := []int{len(msg)}
	for n := range 400 {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		for _, ad := range [][]byte{nil, msg[:16], msg[:n]} {
			sealed := c.Seal(ad, msg[:n])
			if len(sealed) != n+Overhead {
				t.Fatalf("%d bytes are sealed to %d", n, len(sealed))
			}
			if got, err := c.Open(ad, sealed); err != nil || !bytes.Equal(got, msg[:n]) {
				t.Fatalf("%d bytes under %d: %v", n, len(ad), err)
			}
		}
	}
}

func TestTampering(t *testing.T) {
	c := testCipher(t, make([]byte, KeySize))
	ad := []byte("a directory's ID")
	for _, n := range []int{0, 1, 15, 16, 17, 40} {
		sealed := c.Seal(ad, make([]byte, n))
		for i := range sealed {
			sealed[i] ^= 0x10
			if _, err := c.Open(ad, sealed); !errors.Is(err, ErrOpen) {
				t.Errorf("%d bytes, byte %d changed: %v", n, i, err)
			}
			sealed[i] ^= 0x10
		}
		for _, other := range [][]byte{nil, ad[1:], append(bytes.Clone(ad), 0)} {
			if _, err := c.Open(other, sealed); !errors.Is(err, ErrOpen) {
				t.Errorf("%d bytes, other associated data: %v", n, err)
			}
		}
		for cut := range len(sealed) {
			if _, err := c.Open(ad, sealed[:cut]); !errors.Is(err, ErrOpen) {
				t.Errorf("%d of %d bytes: %v", cut, len(sealed), err)
			}
		}
	}
	for _, n := range []int{0, 32, 48, 63, 65} {
		if _, err := New(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes is taken", n)
		}
	}
}

// The key is in locked memory of its own: the caller's may go before, and after
// Wipe nothing is sealed under what is there then.
func TestWipe(t *testing.T) {
	key := unhex(t, countingKey)
	c := testCipher(t, key)
	want := c.Seal(nil, []byte("name"))
	clear(key)
	if got := c.Seal(nil, []byte("name")); !bytes.Equal(got, want) {
		t.Error("the caller's key is in use")
	}
	keep, err := secret.New(KeySize) // keeps the memory mapped
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Free()
	mem := c.key.Bytes()
	c.Wipe()
	if !bytes.Equal(mem, make([]byte, KeySize)) {
		t.Error("Wipe left the key")
	}
	c.Wipe()
	(*Cipher)(nil).Wipe()
	for what, use := range map[string]func(){
		"Seal": func() { c.Seal(nil, []byte("name")) },
		"Open": func() { _, _ = c.Open(nil, want) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s works without a key", what)
				}
			}()
			use()
		}()
	}
}

func FuzzSIV(f *testing.F) {
	f.Add(make([]byte, KeySize), []byte{}, []byte{})
	f.Add(bytes.Repeat([]byte{0xff}, KeySize), []byte("directory"), []byte("a name of seventeen"))
	for _, v := range wycheproof {
		f.Add(unhex(f, v.key), unhex(f, v.ad), unhex(f, v.out))
	}
	f.Fuzz(func(t *testing.T, key, ad, msg []byte) {
		if len(key) != KeySize {
			return
		}
		c := testCipher(t, key)
		beforeAD, before := bytes.Clone(ad), bytes.Clone(msg)
		sealed := c.Seal(ad, msg)
		if got, err := c.Open(ad, sealed); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("%x is sealed to %x, which opens to %x: %v", msg, sealed, got, err)
		}
		got, err := c.Open(ad, msg)
		if err == nil && !bytes.Equal(c.Seal(ad, got), msg) || err != nil && !errors.Is(err, ErrOpen) {
			t.Fatalf("%x opens to %x: %v", msg, got, err)
		}
		if !bytes.Equal(ad, beforeAD) || !bytes.Equal(msg, before) {
			t.Fatal("an argument was changed")
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	c := testCipher(b, make([]byte, KeySize))
	ad, plain := make([]byte, 16), make([]byte, 20)
	b.ReportAllocs()
	for b.Loop() {
		c.Seal(ad, plain)
	}
}
