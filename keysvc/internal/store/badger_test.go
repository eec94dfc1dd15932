package store_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/internal/store/storetest"
)

func TestBadger(t *testing.T) {
	dir := t.TempDir()
	storetest.Run(t, func(t *testing.T) store.Store {
		s, err := store.OpenBadger(dir, slog.Default())
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// TestBadgerStaysSmall makes a table for each start, and for each 4 MiB of
// changes, and expects them to be merged.
func TestBadgerStaysSmall(t *testing.T) {
	dir := t.TempDir()
	open := func() *store.Badger {
		b, err := store.OpenBadger(dir, slog.Default())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 8<<10) }
	check := func(b *store.Badger, n int) {
		t.Helper()
		// Those that were written since the number was last looked at come on top of 8.
		if got := b.NewTables(); got > 12 {
			t.Errorf("%d tables wait for compaction", got)
		}
		err := b.View(func(x store.Tx) error {
			for i := range n {
				v, err := x.Get(fmt.Sprint("start/", i))
				if err != nil || !bytes.Equal(v, value(i)) {
					return fmt.Errorf("start %d: %w", i, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	const startsAndStops = 25
	for i := range startsAndStops {
		b := open()
		check(b, i)
		if err := b.Update(func(x store.Tx) error { return x.Set(fmt.Sprint("start/", i), value(i)) }); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b := open()
	noise := make([]byte, 32<<10)
	rand.Read(noise)
	for i := range 2500 { // 80 MiB, 20 tables
		if err := b.Update(func(x store.Tx) error { return x.Set(fmt.Sprint("noise/", i%10), noise) }); err != nil {
			t.Fatal(err)
		}
	}
	check(b, startsAndStops)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open()
	check(b, startsAndStops)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCloseWithoutItsDirectory closes a store whose directory is elsewhere:
// Close says so, and a later start finds what was committed.
func TestCloseWithoutItsDirectory(t *testing.T) {
	parent := t.TempDir()
	dir, away := filepath.Join(parent, "store"), filepath.Join(parent, "away")
	b, err := store.OpenBadger(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Update(func(x store.Tx) error { return x.Set("key/a", []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	b.SetPatience(50 * time.Millisecond)
	if err := b.Close(); err == nil || !strings.Contains(err.Error(), "write-ahead log") {
		t.Errorf("it closes: %v", err)
	}
	// A copy, because the process that did not close it still holds the store.
	if err := os.CopyFS(dir+"2", os.DirFS(away)); err != nil {
		t.Fatal(err)
	}
	again, err := store.OpenBadger(dir+"2", slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.View(func(x store.Tx) error {
		v, err := x.Get("key/a")
		if string(v) != "v" {
			t.Errorf("it has %q", v)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	// The one that waits ends, now that it can.
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		b, err := store.OpenBadger(dir, slog.New(slog.DiscardHandler))
		if err == nil {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
