package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDisk: a write that stores any number of bytes and fails leaves the log
// as it was, and the next one succeeds when there is space again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	o := quiet(fixed(Options{Dir: dir, CheckpointEvery: 5}))
	d := faultyDisk(&o)
	l := open(t, o)
	want := uint64(0)
	for n := 0; n < 1400; n += 61 {
		for _, stuck := range []bool{false, true} {
			mustAppend(t, l, named(fmt.Sprint(n)))
			want++
			before := readDir(t, dir)[segmentName(1)]
			d.write.Store(&writeFault{n, unix.ENOSPC})
			if stuck {
				d.truncate.Store(ptr[error](unix.EIO))
			}
			if _, err := l.AppendAll([]*Record{named("x"), named("y")}, false); !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("%d bytes written: %v", n, err)
			}
			d.write.Store(nil)
			if stuck {
				// What was written cannot be taken back, so nothing may follow it.
				if _, err := l.Append(named("z"), false); !errors.Is(err, unix.EIO) {
					t.Fatalf("%d bytes not taken back: %v", n, err)
				}
			}
			d.truncate.Store(nil)
			if !stuck && string(readDir(t, dir)[segmentName(1)]) != string(before) {
				t.Fatalf("%d bytes are left", n)
			}
		}
	}
	closeLog(t, l)
	if r := mustVerify(t, dir, VerifyOptions{}); r.Records != want {
		t.Errorf("%d records, want %d", r.Records, want)
	}
}

// TestCrashWithGarbage: what a failed write left and nothing removed is a torn
// end.
func TestCrashWithGarbage(t *testing.T) {
	for n := 1; n < 1400; n += 97 {
		dir := t.TempDir()
		o := quiet(fixed(Options{Dir: dir}))
		d := faultyDisk(&o)
		l := open(t, o)
		mustAppend(t, l, named("a"))
		d.write.Store(&writeFault{n, unix.ENOSPC})
		d.truncate.Store(ptr[error](unix.EIO))
		if _, err := l.AppendAll([]*Record{named("x"), named("y")}, false); err == nil {
			t.Fatal("written")
		}
		crash(t, l)
		closeLog(t, open(t, quiet(fixed(Options{Dir: dir}))))
		mustVerify(t, dir, VerifyOptions{})
		if got := records(t, dir); got[2] != "a" {
			t.Errorf("%d bytes left: records %v", n, got)
		}
	}
}

// TestENOSPC is on a real filesystem that fills up.
func TestENOSPC(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small tmpfs")
	}
	mnt := t.TempDir()
	if err := unix.Mount("none", mnt, "tmpfs", 0, "size=256k"); err != nil {
		if os.Getenv("KMSFS_REQUIRE_FUSE") != "" {
			t.Fatalf("mount a tmpfs: %v", err)
		}
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mnt, "audit")
	ballast := filepath.Join(mnt, "ballast")
	l := open(t, quiet(Options{Dir: dir}))
	var mu sync.Mutex
	acked := make(map[uint64]string)
	for round := range 5 {
		free := 100 << 10
		if round > 0 {
			free = 20 << 10
		}
		var st unix.Statfs_t
		if err := unix.Statfs(mnt, &st); err != nil {
			t.Fatal(err)
		}
		if fill := int(st.Bavail)*int(st.Bsize) - free; fill > 0 {
			if err := os.WriteFile(ballast, make([]byte, fill), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		var full atomic.Bool
		for c := range 4 {
			wg.Go(func() {
				for i := 0; !full.Load() && i < 10000; i++ {
					id := fmt.Sprintf("%d-%d-%d", round, c, i)
					n, err := l.Append(named(id), i%7 == 0)
					if err != nil {
						if !errors.Is(err, unix.ENOSPC) {
							t.Error(err)
						}
						full.Store(true)
						return
					}
					mu.Lock()
					acked[n] = id
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if !full.Load() {
			t.Fatal("the disk never was full")
		}
		if err := os.Remove(ballast); err != nil && round > 0 {
			t.Fatal(err)
		}
		n, err := l.Append(named("space"), true)
		if err != nil {
			t.Fatalf("with space again: %v", err)
		}
		acked[n] = "space"
		if round == 4 {
			break
		}
	}
	closeLog(t, l)
	r := mustVerify(t, dir, VerifyOptions{})
	got := records(t, dir)
	for n, id := range acked {
		if got[n] != id {
			t.Errorf("record %d is %q, was acknowledged as %q", n, got[n], id)
		}
	}
	if r.Records != uint64(len(acked)) {
		t.Errorf("%d records, %d were acknowledged", r.Records, len(acked))
	}
}
