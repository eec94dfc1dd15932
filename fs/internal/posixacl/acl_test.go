package posixacl

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

// What setfacl -m u:1000:rwx,g:100:r-x makes of a file of mode 0640.
const extended = "02000000" + "01000600ffffffff" + "02000700e8030000" + "04000400ffffffff" +
	"0800050064000000" + "10000700ffffffff" + "20000000ffffffff"

func TestExample(t *testing.T) {
	b, err := hex.DecodeString(extended)
	if err != nil {
		t.Fatal(err)
	}
	acl, err := Parse(b)
	if err != nil || len(acl) != 6 || !bytes.Equal(acl.Marshal(), b) {
		t.Fatalf("%+v: %v", acl, err)
	}
	if perm, equiv := acl.EquivMode(); perm != 0o670 || equiv {
		t.Errorf("mode %o, equivalent: %v", perm, equiv)
	}
	before := acl.Marshal()
	made, mode := Create(acl, 0o100664)
	if mode != 0o100660 || made[4] != (Entry{Mask, 6, noID}) || made[1] != acl[1] {
		t.Errorf("Create: mode %o, %+v", mode, made)
	}
	changed := Chmod(acl, 0o100604)
	if changed[4].Perm != 0 || changed[5].Perm != 4 || changed[1] != acl[1] {
		t.Errorf("Chmod: %+v", changed)
	}
	if !bytes.Equal(acl.Marshal(), before) {
		t.Error("the argument was changed")
	}
}

func TestNoACL(t *testing.T) {
	if acl, err := Parse([]byte{2, 0, 0, 0}); acl != nil || err != nil {
		t.Errorf("%+v: %v", acl, err)
	}
	if acl, mode := Create(nil, 0o644); acl != nil || mode != 0o644 {
		t.Errorf("%+v, mode %o", acl, mode)
	}
	if acl := Chmod(nil, 0o644); len(acl) != 0 {
		t.Errorf("%+v", acl)
	}
}

func FuzzParse(f *testing.F) {
	b, err := hex.DecodeString(extended)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint32(0o644))
	f.Add(sample(UserObj, GroupObj, Other).Marshal(), uint32(0))
	f.Add(sample(UserObj, GroupObj, Mask, Other).Marshal(), uint32(0o777))
	f.Add([]byte{2, 0, 0, 0}, uint32(1))
	f.Add([]byte{}, uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, mode uint32) {
		acl, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		again, err := Parse(acl.Marshal())
		if err != nil || !bytes.Equal(again.Marshal(), acl.Marshal()) || len(acl.Marshal()) != len(b) {
			t.Fatalf("%x is %+v: %v", b, acl, err)
		}
		if acl == nil {
			return
		}
		made, m := Create(acl, mode)
		if made != nil {
			if made.valid() != nil {
				t.Fatalf("Create makes %+v of %+v", made, acl)
			}
			if perm, equiv := made.EquivMode(); equiv || perm != m&permBits {
				t.Fatalf("Create(%+v, %o) = %+v, %o", acl, mode, made, m)
			}
		}
		if m&^mode != 0 || m&^permBits != mode&^permBits {
			t.Fatalf("Create(%+v, %o) grants %o", acl, mode, m)
		}
		changed := Chmod(acl, mode)
		if perm, _ := changed.EquivMode(); changed.valid() != nil || perm != mode&permBits {
			t.Fatalf("Chmod(%+v, %o) = %+v", acl, mode, changed)
		}
	})
}
