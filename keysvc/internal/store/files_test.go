package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// aTable is a table as Badger writes it, with several blocks.
func aTable(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	b, err := OpenBadger(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(func(x Tx) error {
		for i := range 20 {
			if err := x.Set(fmt.Sprint("key/", i), bytes.Repeat([]byte{byte(i)}, 700)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return theTable(t, dir)
}

// theTable is the only table of a store's directory.
func theTable(t testing.TB, dir string) []byte {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) != 1 {
		t.Fatalf("there are %d tables: %v", len(tables), err)
	}
	raw, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestDamagedTable changes every byte, and cuts everywhere.
func TestDamagedTable(t *testing.T) {
	raw := aTable(t)
	if err := checkTable(raw); err != nil {
		t.Fatalf("a whole table: %v", err)
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x10
		if checkTable(bad) == nil {
			t.Errorf("byte %d of %d may change", i, len(raw))
		}
		if checkTable(raw[:i]) == nil {
			t.Errorf("it may be cut to %d bytes of %d", i, len(raw))
		}
	}
}

// TestWhatAKillLeaves puts into a store's directory what a service leaves there
// that was killed while it made a file: it opens.
func TestWhatAKillLeaves(t *testing.T) {
	dir := t.TempDir()
	open := func() *Badger {
		b, err := OpenBadger(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := open()
	if err := b.Update(func(x Tx) error { return x.Set("key/a", []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	raw := theTable(t, dir)
	for name, data := range map[string][]byte{
		"000077.vlog": nil, "00077.mem": nil, "000077.sst": nil, "000078.sst": raw[:len(raw)/2], "000079.sst": make([]byte, len(raw)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		b := open()
		if err := b.View(func(x Tx) error {
			_, err := x.Get("key/a")
			return err
		}); err != nil {
			t.Errorf("beside %s: %v", name, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Without the list of tables nothing is removed.
	if err := os.Remove(filepath.Join(dir, "MANIFEST")); err != nil {
		t.Fatal(err)
	}
	if b, err := OpenBadger(dir, slog.New(slog.DiscardHandler)); err == nil {
		b.Close()
		t.Error("a store without its list of tables opens")
	}
	if !bytes.Equal(theTable(t, dir), raw) {
		t.Error("the table has changed")
	}
}

func FuzzTable(f *testing.F) {
	raw := aTable(f)
	f.Add(raw)
	f.Add(raw[len(raw)-100:])
	f.Fuzz(func(t *testing.T, in []byte) {
		if err := checkTable(in); err == nil && !bytes.Equal(in, raw) && bytes.HasPrefix(raw, in) {
			t.Error("a part of the table is whole")
		}
	})
}
