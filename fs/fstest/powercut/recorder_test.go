package powercut_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/fs/fstest/powercut"
	"kmsfs.dev/kmsfs/fs/fstest/workload"
)

func TestMain(m *testing.M) { fstest.Main(m) }

const recorderPkg = "kmsfs.dev/kmsfs/fs/fstest/powercut/recorder"

// record starts a recorder over a new directory.
func record(t *testing.T) (r *powercut.Recorder, mnt string) {
	t.Helper()
	fstest.RequireRoot(t)
	fstest.RequireFUSE(t)
	bin, err := fstest.Build(recorderPkg, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := fstest.Dir(t)
	mnt = filepath.Join(dir, "m")
	for _, d := range []string{mnt, filepath.Join(dir, "o")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r, err = powercut.Start(bin, mnt, filepath.Join(dir, "o"), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out := r.Stop(); out != "" {
			t.Errorf("recorder: %s", out)
		}
	})
	return r, mnt
}

func TestRecorderSeesEachChange(t *testing.T) {
	r, mnt := record(t)
	f, err := os.Create(filepath.Join(mnt, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := os.Open(mnt)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	path := func(name string) string { return filepath.Join(mnt, name) }
	for i, step := range []struct {
		want powercut.Kind
		do   func() error
	}{
		{powercut.Write, func() error { _, err := f.Write(make([]byte, 5000)); return err }},
		{powercut.DataSync, func() error { return unix.Fdatasync(int(f.Fd())) }},
		{powercut.FileSync, f.Sync},
		{powercut.Truncate, func() error { return f.Truncate(3) }},
		{powercut.Grow, func() error { return unix.Fallocate(int(f.Fd()), 0, 0, 9000) }},
		{powercut.Punch, func() error {
			return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		}},
		{powercut.Rename, func() error { return os.Rename(path("a"), path("b")) }},
		{powercut.Create, func() error { return os.Mkdir(path("d"), 0o755) }},
		{powercut.Create, func() error { return os.Symlink("t", path("d/l")) }},
		{powercut.FileSync, d.Sync},
		{powercut.Link, func() error { return os.Link(path("b"), path("d/c")) }},
		{powercut.SetXattr, func() error { return unix.Setxattr(path("b"), "user.x", []byte("1"), 0) }},
		{powercut.DelXattr, func() error { return unix.Removexattr(path("b"), "user.x") }},
		{powercut.Chmod, func() error { return os.Chmod(path("b"), 0o600) }},
		{powercut.Unlink, func() error { return os.Remove(path("b")) }},
		{powercut.Unlink, func() error { return os.Remove(path("d/c")) }},
		{powercut.Write, func() error { _, err := f.WriteAt([]byte("x"), 100); return err }},
		{powercut.Chmod, func() error { return f.Chmod(0o640) }},
	} {
		before, err := r.Events()
		if err != nil {
			t.Fatal(err)
		}
		if err := step.do(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		after, err := r.Events()
		if err != nil {
			t.Fatal(err)
		}
		if len(after) != len(before)+1 || after[len(before)].Kind != step.want {
			t.Errorf("step %d: recorded %+v, want kind %d", i, after[len(before):], step.want)
		}
	}
}

// A cut that loses nothing leaves exactly the directory: the recording is
// complete, and the states are made as they were.
func TestRecordingIsWhole(t *testing.T) {
	for seed := range uint64(3) {
		r, mnt := record(t)
		w := workload.New(filepath.Join(mnt, "w"), seed)
		if err := os.Mkdir(w.Root, 0o755); err != nil {
			t.Fatal(err)
		}
		for range 300 {
			if err := w.Step(); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		events, err := r.Events()
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		if err := powercut.New(events, len(events), powercut.Everything, rng).Write(dir); err != nil {
			t.Fatal(err)
		}
		o, err := workload.Observe(filepath.Join(dir, "w"))
		if err != nil {
			t.Fatal(err)
		}
		last := len(w.Steps) - 1
		w.Steps[last].SyncedAll = true
		if err := w.Verify(o, w.Crash()); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, w.Log(20))
		}
	}
}

// What was synced, and not changed since, is in every state.
func TestStatesKeepWhatWasSynced(t *testing.T) {
	r, mnt := record(t)
	content := bytes.Repeat([]byte("durable"), 3000)
	kept := filepath.Join(mnt, "kept")
	f, err := os.Create(kept)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	from, err := r.Position()
	if err != nil {
		t.Fatal(err)
	}
	w := workload.New(filepath.Join(mnt, "w"), 11)
	if err := os.Mkdir(w.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := w.Step(); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	events, err := r.Events()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for range 100 {
		s := powercut.New(events, int(from)+rng.IntN(len(events)-int(from)), powercut.RandomChoice(rng), rng)
		dir := t.TempDir()
		if err := s.Write(dir); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "kept"))
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%v: %d bytes, %v", s, len(got), err)
		}
	}
}
