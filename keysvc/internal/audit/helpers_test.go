package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// testKey is a key that is the same in every run.
func testKey(name byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{name}, ed25519.SeedSize))
}

func publicOf(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// fixed is o with the same clock and event ids in every run, and no
// checkpoints or syncs by time.
func fixed(o Options) Options {
	if o.Signer == nil {
		o.Signer = testKey(1)
	}
	if o.TellDelay == 0 {
		o.TellDelay = time.Nanosecond
	}
	o.Region, o.Account = "us-east-1", "000000000000"
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var ticks, ids atomic.Int64
	o.Clock = func() time.Time { return start.Add(time.Duration(ticks.Add(1)) * 250 * time.Millisecond) }
	o.newID = func() string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", ids.Add(1)) }
	o.CheckpointAfter, o.SyncDelay = time.Hour, time.Hour
	return o
}

func quiet(o Options) Options {
	o.Log = slog.New(slog.DiscardHandler)
	return o
}

func open(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Signer == nil {
		o.Signer = testKey(1)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustAppend(t testing.TB, l *Log, r *Record) uint64 {
	t.Helper()
	n, err := l.Append(r, false)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// named is a small record that can be told from others.
func named(id string) *Record {
	return &Record{EventName: "Decrypt", RequestID: id, ReadOnly: true,
		RequestParameters: &RequestParameters{EncryptionContext: map[string]string{"kmsfs:path": "/" + id}}}
}

// crash ends l as kill -9 would: nothing more is written, nothing is synced.
func crash(t testing.TB, l *Log) {
	t.Helper()
	l.mu.Lock()
	was := l.closed
	l.closed = true
	l.mu.Unlock()
	if was {
		t.Fatal("crash of a closed log")
	}
	close(l.stop)
	l.ending.Wait()
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
	l.tells.Wait()
}

func verify(t testing.TB, dir string, o VerifyOptions) *Report {
	t.Helper()
	r, err := Verify(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mustVerify fails the test if there is a fault.
func mustVerify(t testing.TB, dir string, o VerifyOptions) *Report {
	t.Helper()
	r := verify(t, dir, o)
	if r.Fault != nil {
		t.Fatal(r.Fault)
	}
	return r
}

// files is the content of a directory.
type files map[string][]byte

func readDir(t testing.TB, dir string) files {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := make(files)
	for _, e := range entries {
		if f[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// write makes dir hold exactly f.
func (f files) write(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := f[e.Name()]; !ok {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, b := range f {
		overwrite(t, filepath.Join(dir, name), b)
	}
}

// overwrite is os.WriteFile without O_TRUNC, after which ext4 flushes a file when
// it is closed.
func overwrite(t testing.TB, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(b, 0)
	if err := errors.Join(err, f.Truncate(int64(len(b))), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func (f files) clone() files {
	c := make(files)
	for name, b := range f {
		c[name] = slices.Clone(b)
	}
	return c
}

// segments are the names of segments, oldest first.
func (f files) segments() []string {
	var names []string
	for name := range f {
		if strings.HasPrefix(name, segmentPrefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// lines splits a segment, newlines included.
func lines(b []byte) [][]byte {
	ls := bytes.SplitAfter(b, []byte("\n"))
	if len(ls[len(ls)-1]) == 0 {
		ls = ls[:len(ls)-1]
	}
	return ls
}

// await polls until ok, for conditions that other goroutines bring about.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
