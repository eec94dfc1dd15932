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
