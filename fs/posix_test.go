package fs_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// TestPosix runs go-fuse's conformance suite whole, over the filesystem of
// the scratch directory and over tmpfs, in every key mode and algorithm that
// changes the format. A test of the suite that skips itself has met a limit.
// Only XAttrLarge may, and only where ext4 is below, which holds less than
// 4 KiB of extended attributes; tmpfs runs it.
func TestPosix(t *testing.T) {
	for _, c := range []struct {
		name  string
		tmpfs bool
		init  []string
	}{
		{name: "disk"},
		{name: "tmpfs", tmpfs: true},
		{name: "volume-key", tmpfs: true, init: []string{"--keys", "volume"}},
		{name: "xchacha", tmpfs: true, init: []string{"--algorithm", "XChaCha20-Poly1305"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			options := []fstest.Option{fstest.InitArgs(c.init...)}
			if c.tmpfs {
				options = append(options, fstest.Backing(fstest.Tmpfs(t, "size=256m")))
			}
			v := fstest.New(t, options...)
			for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
				dir := filepath.Join(v.Mnt, name)
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				var skipped bool
				t.Run(name, func(t *testing.T) {
					defer func() { skipped = t.Skipped() }()
					posixtest.All[name](t, dir)
				})
				if skipped && (c.tmpfs || name != "XAttrLarge") {
					t.Errorf("%s skipped itself", name)
				}
			}
			v.CheckAlive()
			v.Unmount()
			v.Fsck()
		})
	}
}
