package fs_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/fs/fstest/powercut"
	"kmsfs.dev/kmsfs/fs/fstest/workload"
)

// TestPowerCut records all that reaches the ciphertext directory during a
// random workload, rebuilds states that a power cut could have left at random
// moments, and checks in each: what was fsynced reads back, every rename is
// whole, nothing fsynced is unreadable, a second mount shows the same, and
// fsck finds no damage.
func TestPowerCut(t *testing.T) {
	fstest.RequireRoot(t)
	states := 240
	if fstest.Long() {
		states = 4000
	}
	const perRecording = 120
	seed := uint64(time.Now().UnixNano())
	if *flagSeed >= 0 {
		seed = uint64(*flagSeed)
	}
	t.Logf("-kmsfs.seed=%d", seed)
	for i := range states / perRecording {
		shape := []string{"--keys", []string{"path", "volume"}[i%2]}
		t.Run(fmt.Sprintf("%s%d", shape[1], i), func(t *testing.T) {
			recordAndCut(t, shape, seed+uint64(i), perRecording)
		})
	}
}

func recordAndCut(t *testing.T, init []string, seed uint64, states int) {
	disk := fstest.Tmpfs(t, "size=2g")
	bin, err := fstest.Build("kmsfs.dev/kmsfs/fs/fstest/powercut/recorder", false)
	if err != nil {
		t.Fatal(err)
	}
	v := fstest.New(t, fstest.Unmounted(), fstest.InitArgs(init...), fstest.Backing(disk))
	w, events := recordDisk(t, v, bin, seed)
	for shard := range 2 {
		t.Run(fmt.Sprintf("shard%d", shard), func(t *testing.T) {
			t.Parallel()
			replayed := fstest.New(t, fstest.Uninitialised(), fstest.StateOf(v))
			rng := rand.New(rand.NewPCG(seed, uint64(shard)))
			for i := range states / 2 {
				replayed.Cipher = filepath.Join(disk, fmt.Sprintf("%d.%d", shard, i))
				cutOnce(t, replayed, w, events, rng, i)
			}
		})
	}
}

// recordDisk runs a workload on a mount whose ciphertext directory is a recorder,
// with two remounts in it, and has all keys re-wrapped now and then.
func recordDisk(t *testing.T, v *fstest.Volume, bin string, seed uint64) (*workload.Workload, []powercut.Event) {
	t.Helper()
	dir := fstest.Dir(t)
	mnt := filepath.Join(dir, "rec")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	rec, err := powercut.Start(bin, mnt, v.Cipher, dir)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			if out := rec.Stop(); out != "" {
				t.Errorf("recorder: %s", out)
			}
		}
	}
	t.Cleanup(stop)
	sub := fstest.New(t, fstest.Uninitialised(), fstest.StateOf(v), fstest.Through(bin, "exec", rec.Socket))
	sub.Cipher = mnt
	sub.Mount()
	w := workload.New(filepath.Join(sub.Mnt, "w"), seed)
	if err := os.Mkdir(w.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	// The workload's own directory is there in every state.
	sub.Remount()
	w.Position = func() int64 {
		at, err := rec.Position()
		if err != nil {
			t.Error(err)
		}
		return at
	}
	w.Steps[0].Start, w.Steps[0].End = w.Position(), w.Position()
	for range 3 {
		for i := range 60 {
			if i == 30 {
				sub.Must("key", "rotate", kmsKey(t, sub))
				sub.Must("rewrap", sub.Mnt)
			}
			if err := w.Step(); err != nil {
				t.Fatalf("%v\n%s", err, w.Log(10))
			}
		}
		w.Close()
		sub.Remount()
	}
	sub.Unmount()
	events, err := rec.Events()
	if err != nil {
		t.Fatal(err)
	}
	stop()
	t.Logf("%d steps, %d events", len(w.Steps), len(events))
	return w, events
}

// cutOnce checks one state.
func cutOnce(t *testing.T, v *fstest.Volume, w *workload.Workload, events []powercut.Event, rng *rand.Rand, i int) {
	t.Helper()
	from := int(w.Steps[0].End)
	cut := from + rng.IntN(len(events)-from+1)
	choice := powercut.RandomChoice(rng)
	state := powercut.New(events, cut, choice, rng)
	limits := w.Cut(int64(state.Cut), int64(state.Ordered))
	var before string
	fail := func(format string, args ...any) {
		t.Helper()
		t.Log(before)
		kept := filepath.Join(os.TempDir(), "kmsfs-powercut-"+strconv.Itoa(os.Getpid()))
		if *flagKeep {
			if err := os.Mkdir(kept, 0o755); err == nil {
				_ = state.Write(kept)
			}
			t.Logf("the state is in %s", kept)
			if v.Worker() != 0 {
				t.Log(describe(v.Cipher))
				v.Unmount()
			}
			out, stderr, exit := v.Run("fsck", v.Cipher)
			t.Logf("fsck: exit %d\n%s%s", exit, out, stderr)
		}
		t.Fatalf("state %d, %v, choice %d, steps %+v: %s\n%s", i, state, choice, limits,
			fmt.Sprintf(format, args...), stepsAround(w, limits)+eventsBefore(events, state))
	}
	if err := os.Mkdir(v.Cipher, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(v.Cipher)
	if err := state.Write(v.Cipher); err != nil {
		t.Fatal(err)
	}
	if *flagKeep {
		before = describe(v.Cipher)
	}
	// Sometimes the check comes first, as it does at boot.
	if i%4 == 0 {
		if out, stderr, exit := v.Run("fsck", v.Cipher); exit != 0 {
			fail("fsck before the mount: exit %d\n%s%s", exit, out, stderr)
		}
	}
	if stderr, exit := v.TryMount(); exit != 0 {
		fail("mount: exit %d\n%s", exit, stderr)
	}
	root := filepath.Join(v.Mnt, "w")
	first, err := workload.Observe(root)
	if err == nil {
		err = w.Verify(first, limits)
	}
	if err != nil {
		fail("%v", err)
	}
	if i%8 == 0 {
		v.Remount()
		again, err := workload.Observe(root)
		if err == nil {
			err = first.Same(again)
		}
		if err != nil {
			fail("after a second mount: %v", err)
		}
	}
	v.CheckAlive()
	v.Unmount()
	if out, stderr, exit := v.Run("fsck", v.Cipher); exit != 0 {
		fail("fsck: exit %d\n%s%s", exit, out, stderr)
	}
}

// stepsAround lists what the workload did around a cut.
func stepsAround(w *workload.Workload, l workload.Limits) string {
	var s string
	for i := max(0, l.NamesFrom-12); i <= l.ContentTo && i < len(w.Steps); i++ {
		step := &w.Steps[i]
		s += fmt.Sprintf("%5d [%d,%d] %s\n", i, step.Start, step.End, step.What)
	}
	return s
}

// eventsBefore lists what reached the disk last.
func eventsBefore(events []powercut.Event, s *powercut.State) string {
	text := "events:\n"
	for i := max(0, min(s.Ordered, s.Cut-40)-10); i < s.Cut; i++ {
		text += fmt.Sprintf("%5d %v\n", i, events[i])
	}
	return text
}

// describe lists the ciphertext files with what their headers say in clear.
func describe(dir string) string {
	var b strings.Builder
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil || len(data) < headerSize {
			fmt.Fprintf(&b, "%s: %d bytes, %v\n", filepath.Base(p), len(data), err)
			return nil
		}
		u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(data[off:]) }
		fmt.Fprintf(&b, "%s: inode %d, %d bytes (%d pages and %d), generation %d, durable %d, pages", filepath.Base(p), inode(p), len(data),
			len(data)/4096, len(data)%4096, u64(40), u64(48))
		for at := 0; at+4096 <= len(data); at += 4096 {
			page := data[at : at+4096]
			if at == 0 {
				page = page[headerSize:]
			}
			switch mark := binary.LittleEndian.Uint16(data[at+4080:]); {
			case len(bytes.TrimLeft(page, "\x00")) == 0:
				b.WriteString(" -")
			case mark&0x8000 != 0:
				fmt.Fprintf(&b, " final:%d", mark&0x7fff)
			default:
				fmt.Fprintf(&b, " %d", mark)
			}
		}
		key := headerKey + int(binary.LittleEndian.Uint16(data[96:])) + int(binary.LittleEndian.Uint16(data[98:]))
		for i := range int(data[100]) {
			if at := key + 12*i; at+12 <= 480 {
				fmt.Fprintf(&b, " hole(%d,%d)", u64(at)&(1<<48-1), u64(at+4)>>16)
			}
		}
		b.WriteByte('\n')
		return nil
	})
	return b.String()
}

func inode(p string) uint64 {
	var st unix.Stat_t
	_ = unix.Lstat(p, &st)
	return st.Ino
}
