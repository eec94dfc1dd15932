package workload

import (
	"os"
	"testing"
)

// On a filesystem that loses nothing the directory is always the last state.
func TestVerifyNative(t *testing.T) {
	for seed := range uint64(8) {
		w := New(t.TempDir(), seed)
		for range 400 {
			if err := w.Step(); err != nil {
				t.Fatal(err)
			}
		}
		o, err := Observe(w.Root)
		if err != nil {
			t.Fatal(err)
		}
		last := len(w.Steps) - 1
		w.Steps[last].SyncedAll = true // nothing may be older either
		if err := w.Verify(o, w.Crash()); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, w.Log(20))
		}
		if err := w.Restart(o); err != nil {
			t.Fatal(err)
		}
		if err := w.Step(); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
}

// What no crash may leave has to be told.
func TestVerifyTells(t *testing.T) {
	harms := map[string]func(w *Workload, name string) error{
		"byte": func(w *Workload, name string) error {
			b, err := os.ReadFile(w.path(name))
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 0x80
			return os.WriteFile(w.path(name), b, 0)
		},
		"short":   func(w *Workload, name string) error { return os.Truncate(w.path(name), 1) },
		"long":    func(w *Workload, name string) error { return os.Truncate(w.path(name), 1<<20) },
		"renamed": func(w *Workload, name string) error { return os.Rename(w.path(name), w.path("elsewhere")) },
		"gone":    func(w *Workload, name string) error { return os.Remove(w.path(name)) },
		"extra":   func(w *Workload, name string) error { return os.Mkdir(w.path("extra"), 0o755) },
		"split": func(w *Workload, name string) error {
			b, err := os.ReadFile(w.path(name))
			if err != nil {
				return err
			}
			if err := os.Remove(w.path(name)); err != nil {
				return err
			}
			return os.Symlink(string(b[:10]), w.path(name))
		},
	}
	for what, harm := range harms {
		t.Run(what, func(t *testing.T) {
			w := New(t.TempDir(), 3)
			defer w.Close()
			for range 300 {
				if err := w.Step(); err != nil {
					t.Fatal(err)
				}
			}
			var name string
			for _, f := range w.last().names('f') {
				if len(w.last().Files[w.last().Names[f].File]) > 100 {
					name = f
				}
			}
			if err := w.sync(w.last().clone(), name); err != nil {
				t.Fatal(err)
			}
			if err := harm(w, name); err != nil {
				t.Fatal(err)
			}
			o, err := Observe(w.Root)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Verify(o, w.Crash()); err == nil {
				t.Error("not told")
			}
		})
	}
}
