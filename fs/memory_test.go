package fs_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// residentKiB reads how much memory of its own a process has resident. VmRSS of
// /proc/PID/status may count pages for a while that the process has given back.
func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	var kib int
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Rss:"); ok {
			if kib, err = strconv.Atoi(strings.Fields(rest)[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kib == 0 {
		t.Fatalf("process %d has no memory:\n%s", pid, b)
	}
	return kib
}

// TestMemoryBound walks and reads many files, and looks at how much memory
// the worker then has. 100,000 files have to stay under 200 MB.
func TestMemoryBound(t *testing.T) {
	files, limit := 10_000, 100
	if fstest.Long() {
		files, limit = 100_000, 200
	}
	v := fstest.New(t)
	for i := range files {
		dir := filepath.Join(v.Mnt, fmt.Sprintf("d%d", i/500))
		if i%500 == 0 {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), []byte("some content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// What it holds on to: a collection of garbage may be under way.
	settled := func() (kib int) {
		t.Helper()
		_ = fstest.Poll(commandWait, func() (bool, error) {
			kib = residentKiB(t, v.Worker())
			return kib <= limit<<10 || fstest.Race, nil
		})
		return kib
	}
	written := settled()
	v.Remount()
	n := 0
	err := filepath.WalkDir(v.Mnt, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if _, err := d.Info(); err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		if err == nil && string(b) != "some content" {
			err = fmt.Errorf("%s: %q", p, b)
		}
		n++
		return err
	})
	if err != nil || n != files {
		t.Fatalf("%d files, %v", n, err)
	}
	read := settled()
	t.Logf("%d files: %d MiB after writing, %d MiB after reading", files, written>>10, read>>10)
	if fstest.Race {
		return // the race detector's own memory is several times this
	}
	for what, kib := range map[string]int{"writing": written, "reading": read} {
		if kib > limit<<10 {
			t.Errorf("%d MiB resident after %s %d files, want at most %d", kib>>10, what, files, limit)
		}
	}
}

// mapsLine is a line of /proc/PID/maps.
var mapsLine = regexp.MustCompile(`^([0-9a-f]+)-([0-9a-f]+) (\S+) `)

// scanMemory calls look with each readable mapping of a process.
func scanMemory(t *testing.T, pid int, look func(mem []byte, where string)) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		m := mapsLine.FindStringSubmatch(line)
		if m == nil || !strings.HasPrefix(m[3], "r") || strings.Contains(line, "[v") {
			continue
		}
		from, _ := strconv.ParseInt(m[1], 16, 64)
		to, _ := strconv.ParseInt(m[2], 16, 64)
		// In parts that overlap: a reserved arena can be large and absent.
		const part = 4 << 20
		buf := make([]byte, part+64)
		for at := from; at < to; at += part {
			n, err := mem.ReadAt(buf[:min(part+64, to-at)], at)
			if n == 0 && err != nil && err != io.EOF {
				continue
			}
			look(buf[:n], strings.TrimSpace(line))
		}
	}
}

// fileKeys unwraps a file's data key at the key service, as the worker does,
// and derives the key of its pages: the two secrets a worker's memory holds
// of a file (fs/FORMAT.md). An expanded AES key begins with the key.
func fileKeys(t *testing.T, v *fstest.Volume, rel string) map[string][]byte {
	t.Helper()
	conf, err := os.ReadFile(filepath.Join(v.Cipher, "kmsfs.conf"))
	if err != nil {
		t.Fatal(err)
	}
	var fields struct{ Volume string }
	if err := json.Unmarshal(conf, &fields); err != nil {
		t.Fatal(err)
	}
	header, err := os.ReadFile(v.BackingPath(t, rel))
	if err != nil {
		t.Fatal(err)
	}
	wrapped := header[headerKey:][:binary.LittleEndian.Uint16(header[headerKeyLen:])]
	client, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: v.State})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	results, err := client.Batch(t.Context(), []kmsapi.BatchItem{{
		Op: kmsapi.OpDecrypt, CiphertextBlob: wrapped,
		EncryptionContext: map[string]string{"kmsfs:volume": fields.Volume, "kmsfs:path": "/" + rel},
	}})
	if err == nil && results[0].Err != nil {
		err = results[0].Err
	}
	if err != nil {
		t.Fatal(err)
	}
	info := append([]byte("kmsfs v1 content"), header[headerAlg], header[headerEpoch], header[headerEpoch+1])
	page, err := hkdf.Key(sha256.New, results[0].Plaintext, header[headerFileID:headerFileID+16], string(info), 32)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"data key": results[0].Plaintext, "page key": page}
}

// TestKeysLeaveMemory (T37): the keys of a file are in the worker's memory
// while it is open, which shows that the search finds them, and in no part of
// it, nor of the key service's, after it was closed.
//
// Where the Go runtime interrupts a thread it keeps its registers in memory, and they may
// hold part of a key just then: of three files one is enough to show that nothing
// else keeps keys.
func TestKeysLeaveMemory(t *testing.T) {
	fstest.RequireRoot(t)
	const files, wait = 3, 10 * time.Second // beside a cache of a second
	for _, alg := range []string{"aes-256-gcm", "xchacha20-poly1305"} {
		t.Run(alg, func(t *testing.T) {
			v := fstest.New(t, fstest.InitArgs("--algorithm", alg), fstest.MountArgs("--key-cache-ttl", "1s"))
			if v.KeyService() == 0 {
				t.Fatal("no key service runs")
			}
			for i := range files {
				left := keysLeft(t, v, fmt.Sprint("f", i), wait)
				if left == "" {
					return
				}
				t.Logf("file %d: %s", i, left)
			}
			t.Errorf("after each of %d files was closed, keys were left", files)
		})
	}
}

// keysLeft makes a file, closes it, reads it, and says where its keys are then.
func keysLeft(t *testing.T, v *fstest.Volume, name string, wait time.Duration) string {
	t.Helper()
	f, err := os.Create(filepath.Join(v.Mnt, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content(name, attackSize)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	keys := fileKeys(t, v, name)
	find := func(pid int) (found []string) {
		scanMemory(t, pid, func(mem []byte, where string) {
			for name, key := range keys {
				if bytes.Contains(mem, key) {
					found = append(found, name+" in "+where)
				}
			}
		})
		return found
	}
	if len(find(v.Worker())) == 0 {
		t.Fatal("no key of an open file was found in the worker: the search does not work")
	}
	await := func(pid int) (left []string) {
		_ = fstest.Poll(wait, func() (bool, error) {
			left = find(pid)
			return len(left) == 0, nil
		})
		return left
	}
	f.Close()
	if left := await(v.Worker()); len(left) > 0 {
		return "worker, after it was closed: " + strings.Join(left, "; ")
	}
	if left := await(v.KeyService()); len(left) > 0 {
		return "key service: " + strings.Join(left, "; ")
	}
	// Reading again and closing leaves nothing either.
	if b, err := os.ReadFile(filepath.Join(v.Mnt, name)); err != nil || !bytes.Equal(b, content(name, attackSize)) {
		t.Fatalf("read again: %d bytes, %v", len(b), err)
	}
	if left := await(v.Worker()); len(left) > 0 {
		return "worker, after it was read: " + strings.Join(left, "; ")
	}
	return ""
}

// TestProcessIsHardened (T37): no core dumps, and key memory that is locked
// and left out of dumps.
func TestProcessIsHardened(t *testing.T) {
	fstest.RequireRoot(t)
	v := fstest.New(t)
	pids := map[string]int{"worker": v.Worker(), "key service": v.KeyService()}
	for who, pid := range pids {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`Max core file size\s+0\s+0\s`).Match(limits) {
			t.Errorf("%s: core dumps are not off:\n%s", who, limits)
		}
		if flags := mappingFlags(t, pid); !slices.ContainsFunc(flags, func(f string) bool {
			return strings.Contains(f, " dd") && strings.Contains(f, " lo")
		}) {
			t.Errorf("%s: no memory that is locked and left out of dumps", who)
		}
		if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil && bytes.Contains(environ, []byte("PASSPHRASE=")) {
			t.Errorf("%s: a passphrase in the environment", who)
		}
	}
}

// mappingFlags returns the flags of each mapping: "dd" is left out of core
// dumps, "lo" locked.
func mappingFlags(t *testing.T, pid int) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var flags []string
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			flags = append(flags, rest)
		}
	}
	return flags
}

// TestLogsHoldNoSecrets (T37): what the worker and the key service write at
// the default level names no file and holds no content, whatever happens:
// here damage, a rename and an error too.
func TestLogsHoldNoSecrets(t *testing.T) {
	v := fstest.New(t)
	name := fmt.Sprintf("secretname%d", rand.Uint64())
	secret := fmt.Sprintf("secretcontent%d", rand.Uint64())
	path := filepath.Join(v.Mnt, name)
	if err := os.WriteFile(path, []byte(secret), 0o644); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(v.Mnt, name+"moved")
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	backing := v.BackingPath(t, name+"moved")
	v.Unmount()
	f, err := os.OpenFile(backing, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1, 2, 3}, 1000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	v.Mount()
	if _, err := os.ReadFile(moved); !refused(err) {
		t.Errorf("damaged file: %v", err)
	}
	v.Unmount()
	v.StopKeyService()
	logs := 0
	err = filepath.WalkDir(v.State, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if strings.HasSuffix(p, ".log") {
			logs++
		}
		for _, s := range []string{secret, name} {
			// The key service's audit log names paths: that is what it is for.
			if bytes.Contains(b, []byte(s)) && !strings.Contains(p, "audit") {
				t.Errorf("%s holds %q", p, s)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if logs == 0 {
		t.Error("no log was found to look at")
	}
	err = filepath.WalkDir(v.Cipher, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, rerr := os.ReadFile(p)
			if bytes.Contains(b, []byte(secret)) {
				t.Errorf("the ciphertext %s holds the plaintext", p)
			}
			err = rerr
		}
		if strings.Contains(p, name) {
			t.Errorf("the ciphertext directory names %s", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
