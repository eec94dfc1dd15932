package content

import (
	"fmt"
	"math"
	"testing"
)

var geometries = []struct {
	alg          Algorithm
	kind         GeometryKind
	data0, dataN int
}{
	{AES256GCM, Files, 3552, 4064},
	{XChaCha20Poly1305, Files, 3540, 4052},
	{AES256GCM, BlockImage, 3072, 3584},
	{XChaCha20Poly1305, BlockImage, 3072, 3584},
}

func eachGeometry(t *testing.T, f func(t *testing.T, g Geometry)) {
	for _, tt := range geometries {
		t.Run(fmt.Sprintf("algorithm %d, geometry %d", tt.alg, tt.kind), func(t *testing.T) {
			g, err := GeometryFor(tt.alg, tt.kind)
			if err != nil {
				t.Fatal(err)
			}
			f(t, g)
		})
	}
}

func TestGeometryFor(t *testing.T) {
	for _, tt := range geometries {
		g, err := GeometryFor(tt.alg, tt.kind)
		if err != nil {
			t.Fatal(err)
		}
		if g.DataIn(0) != tt.data0 || g.DataIn(1) != tt.dataN || g.DataIn(1<<47) != tt.dataN {
			t.Errorf("algorithm %d, geometry %d: %d, %d bytes", tt.alg, tt.kind, g.DataIn(0), g.DataIn(1))
		}
		page := make([]byte, PageSize)
		if d := g.Data(page, 0); len(d) != tt.data0 || cap(d) != tt.data0 || &d[0] != &page[512] {
			t.Errorf("data area of page 0: %d bytes", len(d))
		}
		if d := g.Data(page, 7); len(d) != tt.dataN || cap(d) != tt.dataN || &d[0] != &page[0] {
			t.Errorf("data area of page 7: %d bytes", len(d))
		}
	}
	for _, bad := range [][2]uint8{{0, 1}, {3, 1}, {1, 0}, {1, 3}, {255, 255}} {
		if _, err := GeometryFor(Algorithm(bad[0]), GeometryKind(bad[1])); err == nil {
			t.Errorf("algorithm %d, geometry %d is allowed", bad[0], bad[1])
		}
	}
}

// checkLength proves every relation of the arithmetic for one length.
func checkLength(t *testing.T, g Geometry, n int64) {
	t.Helper()
	last, used := g.FinalPage(n)
	if g.Start(last)+int64(used) != n {
		t.Fatalf("length %d: page %d, used %d does not end there", n, last, used)
	}
	if used < 0 || used > g.DataIn(last) || (used == 0) != (n == 0) {
		t.Fatalf("length %d: %d bytes used of page %d", n, used, last)
	}
	size := g.BackingSize(n)
	if size/PageSize != last+1 || size%PageSize != int64(used) {
		t.Fatalf("length %d: backing size %d", n, size)
	}
	if back, ok := g.LengthFromSize(size); !ok || back != n {
		t.Fatalf("length %d: backing size %d reads as %d, %v", n, size, back, ok)
	}
	page, in := g.Locate(n)
	if in < 0 || in >= g.DataIn(page) || g.Start(page)+int64(in) != n {
		t.Fatalf("offset %d: byte %d of page %d", n, in, page)
	}
}

func TestLengthsNearPageBorders(t *testing.T) {
	eachGeometry(t, func(t *testing.T, g Geometry) {
		for n := int64(0); n < 5*PageSize; n++ {
			checkLength(t, g, n)
		}
		for _, page := range []int64{1, 2, 3, 7, 8, 1000, 1 << 20, 1<<32 - 1, 1 << 32, 1<<44 - 1} {
			for d := int64(-3); d <= 3; d++ {
				if n := g.Start(page) + d; n <= MaxLength {
					checkLength(t, g, n)
				}
			}
		}
		for d := int64(0); d < 3*PageSize; d++ {
			checkLength(t, g, MaxLength-d)
		}
	})
}

// Sizes that BackingSize never returns are refused: all sizes of up to six
// pages, and those around MaxLength.
func TestSizesNoWriterMakes(t *testing.T) {
	eachGeometry(t, func(t *testing.T, g Geometry) {
		sizes := make(map[int64]int64)
		for n := int64(0); g.BackingSize(n) < 6*PageSize; n++ {
			sizes[g.BackingSize(n)] = n
		}
		for size := int64(-2); size < 6*PageSize; size++ {
			want, wantOK := sizes[size]
			if got, ok := g.LengthFromSize(size); ok != wantOK || ok && got != want {
				t.Fatalf("size %d: length %d, %v; want %d, %v", size, got, ok, want, wantOK)
			}
		}
		largest := g.BackingSize(MaxLength)
		if largest <= MaxLength || largest > math.MaxInt64/2 {
			t.Errorf("backing size of MaxLength: %d", largest)
		}
		for _, size := range []int64{largest + 1, largest + PageSize, math.MaxInt64, math.MaxInt64 - 4095, math.MinInt64, math.MinInt64 + 1, -4096} {
			if n, ok := g.LengthFromSize(size); ok {
				t.Errorf("size %d reads as length %d", size, n)
			}
		}
		if page, _ := g.Locate(MaxLength); page >= 1<<48 {
			t.Errorf("page %d does not fit a hole extent", page)
		}
	})
}

func FuzzLengthFromSize(f *testing.F) {
	f.Add(int64(4096), uint8(0))
	f.Add(int64(8193), uint8(1))
	f.Add(int64(math.MaxInt64), uint8(2))
	f.Fuzz(func(t *testing.T, size int64, which uint8) {
		tt := geometries[int(which)%len(geometries)]
		g, err := GeometryFor(tt.alg, tt.kind)
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := g.LengthFromSize(size); ok {
			if n < 0 || n > MaxLength || g.BackingSize(n) != size {
				t.Fatalf("size %d reads as %d, which has size %d", size, n, g.BackingSize(n))
			}
			checkLength(t, g, n)
		}
	})
}
