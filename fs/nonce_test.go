package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// TestNonceNeverRepeats (T28, T29) writes, appends to and truncates the same
// pages over and over, through several handles at once, with crashes and
// remounts, and looks at the ciphertext after each write: no nonce comes twice
// under a file's key.
func TestNonceNeverRepeats(t *testing.T) {
	writes := 20_000
	if fstest.Long() {
		writes = 1_000_000
	}
	for _, c := range []struct {
		alg   string
		nonce int64 // its length: it ends the page
	}{{"aes-256-gcm", 12}, {"xchacha20-poly1305", 24}} {
		t.Run(c.alg, func(t *testing.T) {
			t.Parallel()
			v := fstest.New(t, fstest.InitArgs("--algorithm", c.alg), fstest.Backing(fstest.Tmpfs(t, "size=64m")))
			name := filepath.Join(v.Mnt, "f")
			if err := os.WriteFile(name, make([]byte, 9000), 0o644); err != nil {
				t.Fatal(err)
			}
			backing := v.BackingPath(t, "f")
			seen := map[string]string{}
			var pages [3]string // the nonce that each page has now
			look := func() {
				t.Helper()
				f, err := os.Open(backing)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				for i := range pages {
					b := make([]byte, c.nonce)
					if _, err := f.ReadAt(b, int64(i+1)*4096-c.nonce); err != nil {
						continue // truncated
					}
					nonce := string(b)
					if nonce == pages[i] || nonce == string(make([]byte, c.nonce)) {
						continue // the same page still, or a hole
					}
					if where, ok := seen[nonce]; ok {
						t.Fatalf("page %d has the nonce %x of %s", i, nonce, where)
					}
					seen[nonce] = fmt.Sprintf("page %d, the %dth nonce seen", i, len(seen))
					pages[i] = nonce
				}
			}
			const rounds = 8
			for round := range rounds {
				writeAllWays(t, name, writes/rounds, look)
				switch round % 3 {
				case 0:
					v.Kill()
					v.Mount()
				case 1:
					v.Remount()
				}
			}
			if len(seen) < writes/4 {
				t.Errorf("only %d nonces seen of %d writes", len(seen), writes)
			}
			t.Logf("%d nonces", len(seen))
		})
	}
}

// writeAllWays overwrites, appends and truncates through three handles.
func writeAllWays(t *testing.T, name string, writes int, look func()) {
	t.Helper()
	var handles [3]*os.File
	for i, flags := range []int{os.O_RDWR, os.O_RDWR, os.O_WRONLY | os.O_APPEND} {
		f, err := os.OpenFile(name, flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		handles[i] = f
	}
	data := []byte("the same bytes every time")
	for i := 0; i < writes; i += 3 {
		var wg sync.WaitGroup
		for j, f := range handles {
			wg.Go(func() {
				var err error
				switch {
				case j == 2 && i%30 == 0:
					err = unix.Ftruncate(int(f.Fd()), 5000)
				case j == 2:
					_, err = f.Write(data)
				default:
					_, err = f.WriteAt(data, int64(j)*2000)
				}
				if err == nil && i%3 == 0 {
					err = f.Sync()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		look()
	}
}

// TestOneMountPerVolume: a second mount, by the same or another path, is
// refused while the first lives, and not after it died.
func TestOneMountPerVolume(t *testing.T) {
	v := fstest.New(t)
	second := fstest.New(t, fstest.StateOf(v), fstest.Uninitialised())
	second.Cipher = v.Cipher
	refusesMount(t, second, "a second mount")
	link := filepath.Join(fstest.Dir(t), "link")
	if err := os.Symlink(v.Cipher, link); err != nil {
		t.Fatal(err)
	}
	second.Cipher = link
	refusesMount(t, second, "a second mount by another path")
	v.Kill()
	second.Mount()
	second.Unmount()
	v.Mount()
}
