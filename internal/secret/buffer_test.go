package secret

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestBufferLengths(t *testing.T) {
	for _, n := range []int{1, 32, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025, 4095, 4096} {
		b, err := New(n)
		if err != nil {
			t.Fatalf("New(%d): %v", n, err)
		}
		got := b.Bytes()
		if len(got) != n || cap(got) != n || b.Len() != n {
			t.Errorf("New(%d): len %d, cap %d, Len %d", n, len(got), cap(got), b.Len())
		}
		if !bytes.Equal(got, make([]byte, n)) {
			t.Errorf("New(%d) is not zero", n)
		}
		for i := range got {
			got[i] = 0xa5
		}
		b.Free()
		if b.Bytes() != nil {
			t.Errorf("Bytes after Free is not nil")
		}
		b.Free()
	}
	for _, n := range []int{-1, 0, 4097} {
		if _, err := New(n); err == nil {
			t.Errorf("New(%d) is allowed", n)
		}
	}
	var none *Buffer
	none.Free()
	if none.Bytes() != nil || none.Len() != 0 {
		t.Error("a nil buffer has bytes")
	}
}

func TestFromWipesItsSource(t *testing.T) {
	src := []byte("a key of thirty-two bytes, maybe")
	want := bytes.Clone(src)
	b, err := From(src)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("From holds %q", b.Bytes())
	}
	if !bytes.Equal(src, make([]byte, len(src))) {
		t.Errorf("From left its source: %q", src)
	}
	long := bytes.Repeat([]byte{1}, MaxLen+1)
	if _, err := From(long); err == nil {
		t.Fatal("From accepts more than MaxLen")
	}
	if !bytes.Equal(long, make([]byte, len(long))) {
		t.Error("a failing From left its source")
	}
}

// The memory behind a freed buffer is still mapped when its arena is the last
// of its class: it must hold nothing.
func TestFreeWipes(t *testing.T) {
	b, err := New(300)
	if err != nil {
		t.Fatal(err)
	}
	mem := b.Bytes()
	for i := range mem {
		mem[i] = 0xa5
	}
	keep, err := New(300) // keeps the arena mapped
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Free()
	b.Free()
	if !bytes.Equal(mem, make([]byte, len(mem))) {
		t.Error("Free left the key")
	}
}

// 100,000 data keys fit the 8 MiB that the kernel lets any process lock.
func TestManyBuffersFitTheDefaultLimit(t *testing.T) {
	const n = 100_000
	before := lockedKiB(t)
	buffers := make([]*Buffer, n)
	seen := make(map[unsafe.Pointer]bool, n)
	for i := range buffers {
		b, err := New(32)
		if err != nil {
			t.Fatalf("buffer %d: %v", i, err)
		}
		b.Bytes()[0], b.Bytes()[31] = byte(i), byte(i>>8)
		p := unsafe.Pointer(&b.Bytes()[0])
		if seen[p] {
			t.Fatal("two live buffers share their memory")
		}
		seen[p] = true
		buffers[i] = b
	}
	if locked := lockedKiB(t) - before; locked >= 8<<10 {
		t.Errorf("%d buffers lock %d KiB", n, locked)
	}
	for i, b := range buffers {
		if b.Bytes()[0] != byte(i) || b.Bytes()[31] != byte(i>>8) {
			t.Fatalf("buffer %d was overwritten", i)
		}
		b.Free()
	}
	if locked := lockedKiB(t) - before; locked > 2*arenaSize>>10 {
		t.Errorf("%d KiB stay locked after the last Free", locked)
	}
}

func lockedKiB(t *testing.T) int {
	t.Helper()
	return vmField(t, "VmLck:")
}

func vmField(t *testing.T, name string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(status), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n := 0
			for _, c := range f[1] {
				n = n*10 + int(c-'0')
			}
			return n
		}
	}
	t.Fatalf("no %s in /proc/self/status", name)
	return 0
}

// Every flag that keeps an arena from leaking must be on its mapping.
func TestArenaFlags(t *testing.T) {
	b, err := New(32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free()
	flags := vmFlags(t, uintptr(unsafe.Pointer(&b.Bytes()[0])))
	for flag, what := range map[string]string{"lo": "locked", "dd": "left out of core dumps", "wf": "wiped on fork"} {
		if !strings.Contains(flags+" ", " "+flag+" ") {
			t.Errorf("the arena is not %s: VmFlags:%s", what, flags)
		}
	}
}

func vmFlags(t *testing.T, addr uintptr) string {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for _, line := range strings.Split(string(smaps), "\n") {
		head, _, _ := strings.Cut(line, " ")
		if from, to, ok := strings.Cut(head, "-"); ok && !strings.HasSuffix(head, ":") {
			inside = hex(from) <= addr && addr < hex(to)
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return flags
		}
	}
	t.Fatal("the arena is not in /proc/self/smaps")
	return ""
}

func hex(s string) (n uintptr) {
	for _, c := range s {
		n = n<<4 | uintptr(strings.IndexRune("0123456789abcdef", c))
	}
	return n
}

func TestConcurrentUse(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				b, err := New(1 + (g*997+i*131)%MaxLen)
				if err != nil {
					t.Error(err)
					return
				}
				mem := b.Bytes()
				for j := range mem {
					if mem[j] != 0 {
						t.Error("a new buffer is not zero")
						return
					}
					mem[j] = byte(g)
				}
				for j := range mem {
					if mem[j] != byte(g) {
						t.Error("a buffer is shared")
						return
					}
				}
				wg.Go(b.Free)
				b.Free()
			}
		})
	}
	wg.Wait()
}

// TestLimit runs in a child with a tiny RLIMIT_MEMLOCK and no CAP_IPC_LOCK.
func TestLimit(t *testing.T) {
	if os.Getenv("SECRET_TEST_LIMIT") != "" {
		childLimit()
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestLimit$")
	cmd.Env = append(os.Environ(), "SECRET_TEST_LIMIT=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"RLIMIT_MEMLOCK is 16 KiB", "LimitMEMLOCK=", "is ENOMEM or EPERM"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the error does not say %q: %s", want, out)
		}
	}
}

func childLimit() {
	lim := unix.Rlimit{Cur: 16 << 10, Max: 16 << 10}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
		panic(err)
	}
	runtime.LockOSThread() // so that New runs on it
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // drops every capability of this thread
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		panic(err)
	}
	_, err := New(32)
	if err == nil {
		panic("New ignores RLIMIT_MEMLOCK")
	}
	os.Stdout.WriteString(err.Error() + "\n")
	if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EPERM) {
		os.Stdout.WriteString("is ENOMEM or EPERM\n")
	}
}

func TestHardenProcess(t *testing.T) {
	if os.Getenv("SECRET_TEST_HARDEN") != "" {
		if err := HardenProcess(); err != nil {
			panic(err)
		}
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil || dumpable != 0 {
			panic("still dumpable")
		}
		var lim unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &lim); err != nil || lim.Max != 0 {
			panic("core files are still allowed")
		}
		if err := HardenProcess(); err != nil {
			panic(err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHardenProcess$")
	cmd.Env = append(os.Environ(), "SECRET_TEST_HARDEN=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func BenchmarkNewFree(b *testing.B) {
	for b.Loop() {
		buf, err := New(32)
		if err != nil {
			b.Fatal(err)
		}
		buf.Free()
	}
}
