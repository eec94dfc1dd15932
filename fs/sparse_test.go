package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// TestTerabyte writes at both ends and in the middle of a file of 1 TiB.
func TestTerabyte(t *testing.T) {
	const size = int64(1) << 40
	v := fstest.New(t)
	name := filepath.Join(v.Mnt, "tera")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	marks := map[int64]string{0: "start", 1<<32 - 3: "across 4 GiB", size / 2: "middle", size - 3: "end"}
	for off, text := range marks {
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			t.Fatalf("write at %d: %v", off, err)
		}
	}
	check := func() {
		t.Helper()
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil || st.Size() != size {
			t.Fatalf("size %d, %v", st.Size(), err)
		}
		for off, text := range marks {
			b := make([]byte, len(text)+20)
			n, err := f.ReadAt(b, off-min(off, 10))
			if err != nil && err != io.EOF {
				t.Fatalf("read at %d: %v", off, err)
			}
			if got := bytes.Trim(b[:n], "\x00"); string(got) != text {
				t.Errorf("at %d: %q, want %q", off, got, text)
			}
		}
		// Walk the data: few segments, all near the marks.
		segments, covered := 0, int64(0)
		for off := int64(0); off < size; {
			start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
			if err != nil || end <= start {
				t.Fatalf("hole after %d: %d, %v", start, end, err)
			}
			segments, covered, off = segments+1, covered+end-start, end
		}
		if segments > 8 || covered > 1<<20 {
			t.Errorf("%d segments of data, %d bytes", segments, covered)
		}
		if b := st.Sys(); b != nil && covered > 1<<24 {
			t.Errorf("%d bytes allocated", covered)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	check()
	v.Remount()
	check()
	if err := os.Truncate(name, 2); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "st" {
		t.Errorf("after the cut: %q, %v", b, err)
	}
	v.Unmount()
	v.Fsck()
	v.Mount()
}

// TestManyHoles makes more holes than a header holds, in every order, and
// compares with a model.
func TestManyHoles(t *testing.T) {
	v := fstest.New(t)
	for _, alg := range []struct {
		name  string
		order func(i, n int) int
	}{
		{"ascending", func(i, n int) int { return i }},
		{"descending", func(i, n int) int { return n - 1 - i }},
		{"inside out", func(i, n int) int { return (n/2 + (i+1)/2*(1-2*(i%2)) + n) % n }},
	} {
		t.Run(alg.name, func(t *testing.T) {
			name := filepath.Join(v.Mnt, alg.name)
			const step, count = 40_000, 60
			f, err := os.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			model := make([]byte, step*count+10)
			for i := range count {
				at := alg.order(i, count) * step
				text := fmt.Sprintf("block %d", at)
				copy(model[at:], text)
				if _, err := f.WriteAt([]byte(text), int64(at)); err != nil {
					t.Fatal(err)
				}
			}
			for i := range count / 2 {
				at := int64(i*2*step + 5000)
				if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, 20_000); err != nil {
					t.Fatal(err)
				}
			}
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			model = model[:st.Size()]
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				b, err := os.ReadFile(name)
				if err != nil || !bytes.Equal(b, model) {
					t.Fatalf("%d bytes, %v, same: %t", len(b), err, bytes.Equal(b, model))
				}
				v.Remount()
			}
		})
	}
	v.Unmount()
	v.Fsck()
}

// TestBoundaries truncates and extends between all lengths around the page
// borders of both geometries.
func TestBoundaries(t *testing.T) {
	for _, alg := range []string{"aes-256-gcm", "xchacha20-poly1305"} {
		t.Run(alg, func(t *testing.T) {
			v := fstest.New(t, fstest.InitArgs("--algorithm", alg))
			first, page := 3552, 4064
			if alg != "aes-256-gcm" {
				first, page = 3540, 4052
			}
			var sizes []int
			for _, border := range []int{0, first, first + page, first + 2*page, 4096, 8192} {
				for _, d := range []int{-1, 0, 1} {
					if border+d >= 0 {
						sizes = append(sizes, border+d)
					}
				}
			}
			name := filepath.Join(v.Mnt, "f")
			full := content("f", 20_000)
			for _, from := range sizes {
				for _, to := range sizes {
					if err := os.WriteFile(name, full[:from], 0o644); err != nil {
						t.Fatal(err)
					}
					if err := os.Truncate(name, int64(to)); err != nil {
						t.Fatalf("%d to %d: %v", from, to, err)
					}
					want := make([]byte, to)
					copy(want, full[:min(from, to)])
					b, err := os.ReadFile(name)
					if err != nil || !bytes.Equal(b, want) {
						t.Fatalf("%d to %d: %d bytes, %v", from, to, len(b), err)
					}
				}
			}
			// Each length survives a remount, and so does an append to it.
			for _, size := range sizes {
				p := fmt.Sprintf("%s%d", name, size)
				if err := os.WriteFile(p, full[:size], 0o644); err != nil {
					t.Fatal(err)
				}
			}
			v.Remount()
			for _, size := range sizes {
				p := fmt.Sprintf("%s%d", name, size)
				f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(full[size : size+7]); err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			v.Remount()
			for _, size := range sizes {
				if b, err := os.ReadFile(fmt.Sprintf("%s%d", name, size)); err != nil || !bytes.Equal(b, full[:size+7]) {
					t.Errorf("length %d: %d bytes, %v", size, len(b), err)
				}
			}
			v.Unmount()
			v.Fsck()
		})
	}
}
