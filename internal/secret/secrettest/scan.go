// Package secrettest looks for keys in the memory of a process, to prove that
// none is left where it should have been wiped.
package secrettest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/internal/secret"
)

// mask is xored onto what a test remembers of a key, so that it does not find
// its own memory.
const mask = 0xa7

// Key returns a random key and the masked copy of it that Copies takes. No
// other copy is made.
func Key(t testing.TB, n int) (key *secret.Buffer, masked []byte) {
	t.Helper()
	key, err := secret.New(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Free)
	masked = make([]byte, n)
	rand.Read(masked)
	for i := range masked {
		key.Bytes()[i] = masked[i] ^ mask
	}
	return key, masked
}

// Mask returns a masked copy of a key that the test did not make.
func Mask(key []byte) []byte {
	masked := make([]byte, len(key))
	for i := range key {
		masked[i] = key[i] ^ mask
	}
	return masked
}

// Copies counts a key, given masked, in the writable memory of a process: of
// this one if pid is 0.
func Copies(t testing.TB, pid int, masked []byte) int {
	t.Helper()
	if race && pid == 0 {
		t.Skip("the race detector's own memory is too large to scan")
	}
	proc := "/proc/self"
	if pid != 0 {
		proc = fmt.Sprintf("/proc/%d", pid)
	}
	maps, err := os.ReadFile(proc + "/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(proc + "/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	// Shared, so that it is a mapping of its own, and skipped: a scan of what it
	// has just read would count twice.
	buf, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(buf)
	own := int64(uintptr(unsafe.Pointer(&buf[0])))
	found, overlap := 0, int64(len(masked)-1)
	for _, line := range strings.Split(string(maps), "\n") {
		var from, to int64
		var perms string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &perms); n != 3 || !strings.HasPrefix(perms, "rw") || from == own && pid == 0 {
			continue
		}
		for at := from; at < to; at += int64(len(buf)) - overlap {
			n, err := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			for i := range buf[:n] {
				buf[i] ^= mask
			}
			found += bytes.Count(buf[:n], masked)
			if err != nil && err != io.EOF {
				break // a page that cannot be read holds nothing
			}
		}
	}
	return found
}
