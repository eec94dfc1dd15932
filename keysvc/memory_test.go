package keysvc

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/seal"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// TestKeyMaterialStaysInLockedMemory is the proof of the memory rules: after a
// service was made, stopped, loaded again and used for thousands of data keys, a
// scan of the process's whole memory finds key material, the root key and
// the data keys nowhere but in locked mappings. The client runs in the same
// process and wipes its results, so that its half is proved as well.
func TestKeyMaterialStaysInLockedMemory(t *testing.T) {
	state, err := os.MkdirTemp("", "kmsfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	opts := Options{
		Dir:                filepath.Join(state, "keysvc"),
		DefaultRootKeyFile: filepath.Join(state, "root.key"),
		Log:                slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	svc, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Call(t.Context(), svc, svc.LocalCaller(0), kmsapi.OpCreateKey, (*Service).CreateKey, &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id := out.KeyMetadata.KeyID
	needles := map[string]*secret.Buffer{}
	keep := func(what string, b []byte) {
		buf, err := secret.New(len(b))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(buf.Free)
		copy(buf.Bytes(), b)
		needles[what] = buf
	}
	if _, err := Call(t.Context(), svc, svc.LocalCaller(0), kmsapi.OpRotateKeyOnDemand, (*Service).RotateKeyOnDemand, &kmsapi.KeyIDInput{KeyID: id}); err != nil {
		t.Fatal(err)
	}
	keep("key material", svc.index.key(id).materials[0].bytes.Bytes())
	keep("rotated key material", svc.index.key(id).materials[1].bytes.Bytes())
	root, err := seal.RootKey(opts.Dir, seal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keep("root key", root.Bytes())
	root.Free()
	if err := svc.Close(); err != nil {
		t.Fatal(err)
	}
	if svc, err = Open(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { svc.Close() })

	socket := filepath.Join(state, "keysvc.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := NewServer(svc, ServerOptions{})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(t.Context(), l) }()
	c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for round := range 20 {
		items := make([]kmsapi.BatchItem, 100)
		for i := range items {
			items[i] = kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: id, NumberOfBytes: 32, EncryptionContext: map[string]string{"i": fmt.Sprint(i)}}
		}
		made, err := c.Batch(t.Context(), items)
		if err != nil {
			t.Fatal(err)
		}
		for i := range items {
			items[i].Op, items[i].CiphertextBlob, items[i].NumberOfBytes = kmsapi.OpDecrypt, made[i].CiphertextBlob, 0
			if i == 99 {
				keep(fmt.Sprint("data key of round ", round), made[i].Plaintext)
			}
			secret.Wipe(made[i].Plaintext)
		}
		opened, err := c.Batch(t.Context(), items)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range opened {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			secret.Wipe(r.Plaintext)
			items[i] = kmsapi.BatchItem{Op: kmsapi.OpReEncrypt, KeyID: id, CiphertextBlob: items[i].CiphertextBlob, EncryptionContext: items[i].EncryptionContext}
		}
		if _, err := c.Batch(t.Context(), items); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	for what, n := range scanUnlocked(t, needles) {
		t.Errorf("%s is in unlocked memory %d times", what, n)
	}

	// The scan would have seen it.
	planted := bytes.Clone(needles["key material"].Bytes())
	if scanUnlocked(t, needles)["key material"] == 0 {
		t.Error("the scan misses a planted copy")
	}
	secret.Wipe(planted)
	runtime.KeepAlive(planted)
}

// scanUnlocked counts the needles in all of this process's writable memory that
// is not locked.
func scanUnlocked(t *testing.T, needles map[string]*secret.Buffer) map[string]int {
	t.Helper()
	// The window is a mapping of its own, so that the scan can leave it out.
	const step = 1 << 20
	const overlap = 64
	window, err := unix.Mmap(-1, 0, step+overlap, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(window); err != nil {
			t.Error(err)
		}
	}()
	if err := unix.Mlock(window); err != nil { // marks it as one to leave out
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	found := map[string]int{}
	for _, r := range unlockedRegions(t) {
		for at := r[0]; at < r[1]; at += step {
			n, err := mem.ReadAt(window[:min(step+overlap, r[1]-at)], int64(at))
			if n == 0 && err != nil {
				continue // unmapped meanwhile, or not readable (vvar)
			}
			for what, needle := range needles {
				found[what] += bytes.Count(window[:n], needle.Bytes())
				if found[what] == 0 {
					delete(found, what)
				}
			}
		}
	}
	return found
}

// unlockedRegions lists writable mappings without the "lo" flag.
func unlockedRegions(t *testing.T) (regions [][2]uint64) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var from, to uint64
	var perms string
	locked := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		// Other lines set some of the variables before they fail to match.
		var a, b uint64
		var p string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &a, &b, &p); n == 3 {
			from, to, perms = a, b, p
			continue
		}
		flags, ok := strings.CutPrefix(line, "VmFlags:")
		if !ok || perms[0] != 'r' || perms[1] != 'w' {
			continue
		}
		if strings.Contains(flags+" ", " lo ") {
			locked++
			continue
		}
		if to-from > 1<<36 {
			continue // the race detector's shadow, which holds no data
		}
		regions = append(regions, [2]uint64{from, to})
	}
	if locked == 0 || len(regions) == 0 {
		t.Fatalf("%d locked and %d other mappings: the scan cannot tell them apart", locked, len(regions))
	}
	return regions
}
