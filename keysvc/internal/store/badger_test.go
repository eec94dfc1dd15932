package store_test

import (
	"log/slog"
	"testing"

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
