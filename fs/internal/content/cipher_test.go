package content

import (
	"bytes"
	"errors"
	"sync"
	"testing"
)

func TestTick(t *testing.T) {
	c := newCipher(t, AES256GCM, Files, testFile)
	page, plain := make([]byte, PageSize), text(4064)
	ticks := func(nonce ...byte) bool {
		c.random = func(b []byte) {
			for i := range b {
				b[i] = 0xff
			}
			copy(b, nonce)
		}
		tick, err := c.Seal(page, 1, 0, plain, false)
		if err != nil {
			t.Fatal(err)
		}
		return tick
	}
	for _, tt := range []struct {
		bits  int
		nonce []byte
		want  bool
	}{
		{24, []byte{0, 0, 0}, true},
		{24, []byte{0, 0, 0x80}, false},
		{24, []byte{1, 0, 0}, false},
		{24, []byte{0, 1, 0}, false},
		{24, []byte{0xff, 0xff, 0xff}, false},
		{8, []byte{0, 0xff, 0xff}, true},
		{8, []byte{0x80, 0, 0}, false},
		{9, []byte{0, 0xfe, 0xff}, true},
		{9, []byte{0, 0x01, 0}, false},
		{0, []byte{0xff, 0xff, 0xff}, true},
	} {
		c.SetTickBits(tt.bits)
		if got := ticks(tt.nonce...); got != tt.want {
			t.Errorf("%d bits, nonce %x: tick %v", tt.bits, tt.nonce, got)
		}
	}
	if newCipher(t, AES256GCM, Files, testFile).tickMask != 1<<24-1 {
		t.Error("the default is not 24 bits")
	}
}

// Nonces differ, and their ticks come at the rate that the write count assumes.
func TestRandomNonces(t *testing.T) {
	c := newCipher(t, AES256GCM, Files, testFile)
	c.SetTickBits(4)
	page := make([]byte, PageSize)
	seen := make(map[string]bool)
	const n = 4096
	count := 0
	for range n {
		tick, err := c.Seal(page, 0, 0, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		if tick {
			count++
		}
		nonce := string(page[PageSize-12:])
		if seen[nonce] {
			t.Fatal("a nonce repeats")
		}
		seen[nonce] = true
	}
	// Expected 256, standard deviation 15.5: eight of them either way.
	if count < 132 || count > 380 {
		t.Errorf("%d ticks in %d pages", count, n)
	}
}

func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool allocate")
	}
	eachCipher(t, func(t *testing.T, c *Cipher) {
		page, dst := make([]byte, PageSize), make([]byte, PageSize)
		full, short := text(c.geom.DataIn(1)), text(100)
		for what, f := range map[string]func() error{
			"Seal":        func() error { _, err := c.Seal(page, 1, 0, full, false); return err },
			"Seal, short": func() error { _, err := c.Seal(page, 1, 0, short, true); return err },
			"Open":        func() error { _, _, err := c.Open(dst, page, 1, 0); return err },
		} {
			mustSeal(t, c, page, 1, 0, full, false)
			if n := testing.AllocsPerRun(200, func() {
				if err := f(); err != nil {
					t.Error(err)
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations", what, n)
			}
		}
	})
}

// More epochs than the cache holds still open, each with its own key.
func TestManyEpochs(t *testing.T) {
	eachCipher(t, func(t *testing.T, c *Cipher) {
		pages := make([][]byte, 3*maxAEADs)
		for e := range pages {
			pages[e] = make([]byte, PageSize)
			mustSeal(t, c, pages[e], 1, uint16(e), []byte{byte(e)}, true)
		}
		dst := make([]byte, PageSize)
		for range 2 {
			for e, page := range pages {
				if n, _, err := c.Open(dst, page, 1, 1<<16-1); err != nil || n != 1 || dst[0] != byte(e) {
					t.Fatalf("epoch %d: %d bytes: %v", e, n, err)
				}
			}
		}
		if len(c.aeads) != maxAEADs {
			t.Errorf("%d page keys are kept", len(c.aeads))
		}
	})
}

func TestConcurrentUseAndWipe(t *testing.T) {
	eachCipher(t, func(t *testing.T, c *Cipher) {
		reader := newCipher(t, c.alg, GeometryKind(c.geom.Kind()), testFile)
		var wg sync.WaitGroup
		started := make(chan struct{}, 4)
		for g := range 4 {
			wg.Go(func() {
				page, dst := make([]byte, PageSize), make([]byte, PageSize)
				plain := bytes.Repeat([]byte{byte(g)}, c.geom.DataIn(1))
				for i := 0; ; i++ {
					if i == 10 {
						started <- struct{}{}
					}
					epoch := uint16(i % (2 * maxAEADs))
					_, err := c.Seal(page, int64(1+g), epoch, plain, false)
					if errors.Is(err, ErrWiped) {
						return
					}
					// Sealed under the whole key or not at all.
					if _, _, err := reader.Open(dst, page, int64(1+g), epoch); err != nil {
						t.Error(err)
						return
					}
					if _, _, err := c.Open(dst, page, int64(1+g), epoch); err != nil {
						if !errors.Is(err, ErrWiped) {
							t.Error(err)
						}
						return
					}
					if dst[0] != byte(g) {
						t.Error("another's page was opened")
						return
					}
				}
			})
		}
		for range 4 {
			<-started
		}
		c.Wipe()
		wg.Wait()
		page := make([]byte, PageSize)
		if _, err := c.Seal(page, 0, 0, nil, true); !errors.Is(err, ErrWiped) {
			t.Errorf("Seal after Wipe: %v", err)
		}
		mustSeal(t, reader, page, 0, 0, nil, true)
		if _, _, err := c.Open(make([]byte, PageSize), page, 0, 0); !errors.Is(err, ErrWiped) {
			t.Errorf("Open after Wipe: %v", err)
		}
		c.Wipe()
		(*Cipher)(nil).Wipe()
	})
}

func TestAlgorithmByName(t *testing.T) {
	for name, want := range map[string]Algorithm{"AES-256-GCM": AES256GCM, "XChaCha20-Poly1305": XChaCha20Poly1305} {
		if got, err := AlgorithmByName(name); err != nil || got != want {
			t.Errorf("%s is %d: %v", name, got, err)
		}
	}
	for _, name := range []string{"", "aes-256-gcm", "AES-256-SIV"} {
		if _, err := AlgorithmByName(name); err == nil {
			t.Errorf("%q is known", name)
		}
	}
}
