package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// aheadTree makes directories of small files and returns the files' paths below
// the mountpoint, in the order of a walk.
func aheadTree(t *testing.T, v *fstest.Volume, dirs, files int) []string {
	t.Helper()
	var all []string
	for d := range dirs {
		dir := fmt.Sprintf("d%02d", d)
		if err := os.Mkdir(filepath.Join(v.Mnt, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range files {
			name := fmt.Sprintf("%s/f%02d", dir, f)
			if err := os.WriteFile(filepath.Join(v.Mnt, name), aheadContent(name), 0o644); err != nil {
				t.Fatal(err)
			}
			all = append(all, name)
		}
	}
	return all
}

// aheadContent is of one page or of several.
func aheadContent(name string) []byte {
	b := []byte(name)
	for len(b) < 300*(1+int(name[len(name)-1]-'0')*5) {
		b = append(b, b...)
	}
	return b
}

func aheadRead(v *fstest.Volume, name string) error {
	got, err := os.ReadFile(filepath.Join(v.Mnt, name))
	if err == nil && string(got) != string(aheadContent(name)) {
		err = errors.New("wrong content")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// backingFiles counts the worker's descriptors of regular files below the
// ciphertext directory.
func backingFiles(v *fstest.Volume) (n int) {
	for _, open := range backingInodes(v) {
		n += open
	}
	return n
}

// backingInodes counts them by inode number, which is the plaintext file's too.
func backingInodes(v *fstest.Volume) map[uint64]int {
	open := map[uint64]int{}
	dir := fmt.Sprintf("/proc/%d/fd", v.Worker())
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		var st unix.Stat_t
		name, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if rel, relErr := filepath.Rel(v.Cipher, name); err == nil && relErr == nil && filepath.IsLocal(rel) &&
			rel != "kmsfs.conf" && unix.Stat(filepath.Join(dir, fd.Name()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			open[st.Ino]++
		}
	}
	return open
}

// aheadOrders are orders in which programs work through a directory.
var aheadOrders = map[string]func(t *testing.T, dir string) []string{
	"by name": func(t *testing.T, dir string) []string { // a pattern of a shell
		names, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	},
	"as listed": func(t *testing.T, dir string) []string { // find
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		names, err := f.Readdirnames(-1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
		return names
	},
	"by number": func(t *testing.T, dir string) (names []string) { // a loop that counts
		for i := range aheadNumbered {
			names = append(names, filepath.Join(dir, fmt.Sprint("f", i*aheadStride)))
		}
		return names
	},
}

const (
	// aheadNumbered is how many files a directory has whose order is looked for: many
	// more than are opened ahead in a wrong one.
	aheadNumbered = 1500
	aheadStride   = 37 // of the numbers in their names: neighbours begin with other digits
)

// TestOpenAheadInOrder: files are opened ahead in the order of the opens before,
// whatever order the last directory was worked through in.
func TestOpenAheadInOrder(t *testing.T) {
	v := fstest.New(t)
	walks := []string{"as listed", "by number", "by name", "by name"}
	for i := range walks {
		dir := filepath.Join(v.Mnt, fmt.Sprint("d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range aheadNumbered {
			n := fmt.Sprint(i * aheadStride)
			if err := os.WriteFile(filepath.Join(dir, "f"+n), []byte(n), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	v.Remount()
	for i, walk := range walks {
		names := aheadOrders[walk](t, filepath.Join(v.Mnt, fmt.Sprint("d", i)))
		inodes := make([]uint64, len(names))
		for i, name := range names {
			var st unix.Stat_t
			if err := unix.Stat(name, &st); err != nil {
				t.Fatal(err)
			}
			inodes[i] = st.Ino
		}
		readAll := func(names []string) {
			for _, name := range names {
				got, err := os.ReadFile(name)
				if want := strings.TrimPrefix(filepath.Base(name), "f"); err != nil || string(got) != want {
					t.Fatalf("%s: %q, %v", name, got, err)
				}
			}
		}
		// On a slow machine what was opened ahead is closed again before we look.
		const ahead = 6
		read, found := 12, false
		readAll(names[:read])
		for ; !found && read < 150; read++ {
			found = fstest.Poll(100*time.Millisecond, func() (bool, error) {
				open := backingInodes(v)
				return !slices.ContainsFunc(inodes[read:][:ahead], func(ino uint64) bool { return open[ino] == 0 }), nil
			}) == nil
			readAll(names[read:][:1])
		}
		if !found {
			t.Errorf("directory %d, %s: the next files are not open", i, walk)
		}
		readAll(names[read:200]) // who opens ahead in vain stops for a while
	}
}

// tries gives try a fresh mount, each time, until it has seen files opened ahead: on a
// machine that others keep busy they may be closed again before anybody looks.
func tries(t *testing.T, v *fstest.Volume, what string, try func(n int) bool) {
	t.Helper()
	const most = 10
	for n := range most {
		v.Remount()
		if try(n) {
			return
		}
		if t.Failed() {
			return
		}
	}
	t.Errorf("%s, in %d tries", what, most)
}

// TestOpenAhead: opens one after the other find their files open without asking
// the key service; what is not used is closed again.
func TestOpenAhead(t *testing.T) {
	for name, c := range map[string]struct {
		ttl   string
		ahead bool
	}{
		"as a rule":             {"1m", true},
		"each open is to ask":   {"0s", false},
		"and after a short one": {"999ms", false},
	} {
		t.Run(name, func(t *testing.T) {
			v := fstest.New(t, fstest.MountArgs("--key-cache-ttl", c.ttl), fstest.Unmounted())
			service := newValve(t, v)
			v.Mount()
			all := aheadTree(t, v, 1, 30)
			what := map[bool]string{true: "the key service was asked", false: "files were read without the key service"}[c.ahead]
			tries(t, v, what, func(int) bool {
				const walked = 5
				for _, name := range all[:walked] {
					if err := aheadRead(v, name); err != nil {
						t.Fatal(err)
					}
				}
				asked, err := service.askedBy(func() error { return aheadRead(v, all[walked]) })
				if err != nil {
					t.Error(err)
				}
				return asked != c.ahead
			})
			err := fstest.Poll(commandWait, func() (bool, error) { return backingFiles(v) == 0, nil })
			if err != nil {
				t.Errorf("%d files stay open: %v", backingFiles(v), err)
			}
		})
	}
}

// TestOpenAheadRenamed: the keys of files below a renamed directory are
// re-wrapped on the way.
func TestOpenAheadRenamed(t *testing.T) {
	v := fstest.New(t)
	all := aheadTree(t, v, 2, 50)
	if err := os.Rename(filepath.Join(v.Mnt, "d01"), filepath.Join(v.Mnt, "moved")); err != nil {
		t.Fatal(err)
	}
	v.Remount() // which the sweep does not outlive
	for _, name := range all[50:] {
		got, err := os.ReadFile(filepath.Join(v.Mnt, "moved", filepath.Base(name)))
		if err != nil || string(got) != string(aheadContent(name)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	v.Unmount()
	v.Fsck()
}

// TestOpenAheadOfChanges changes, moves and removes files while others are
// walked, so that some are open ahead.
func TestOpenAheadOfChanges(t *testing.T) {
	v := fstest.New(t)
	all := aheadTree(t, v, 4, 40)
	v.Remount()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for _, name := range all {
				got, err := os.ReadFile(filepath.Join(v.Mnt, name))
				if want := string(aheadContent(name)); err == nil && !strings.HasPrefix(string(got), want) {
					t.Errorf("%s: wrong content, %d bytes of %d", name, len(got), len(want))
				}
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i, name := range all {
			path := filepath.Join(v.Mnt, name)
			var err error
			switch i % 4 {
			case 0:
				err = os.Remove(path)
			case 1:
				err = os.Rename(path, path+"-moved")
			case 2:
				err = errors.Join(os.WriteFile(path+".new", aheadContent(name), 0o644), os.Rename(path+".new", path))
			case 3:
				// Longer for a moment, so that what was learnt of it before is wrong.
				f, openErr := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
				if openErr != nil {
					t.Error(openErr)
					continue
				}
				_, err = f.WriteString("and more")
				err = errors.Join(err, f.Truncate(int64(len(aheadContent(name)))), f.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	v.Remount()
	for i, name := range all {
		switch i % 4 {
		case 2, 3:
			if err := aheadRead(v, name); err != nil {
				t.Error(err)
			}
		}
	}
	v.Unmount()
	v.Fsck()
}

// TestOpenAheadAstray: opens in no order open hardly any files in vain.
func TestOpenAheadAstray(t *testing.T) {
	v := fstest.New(t)
	const files = 1000
	name := func(i int) string { return filepath.Join(v.Mnt, fmt.Sprintf("f%03d", i)) }
	for i := range files {
		if err := os.WriteFile(name(i), []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	v.Remount()
	const opens = 100
	for i := range opens {
		if _, err := os.ReadFile(name(i * 377 % files)); err != nil {
			t.Fatal(err)
		}
	}
	// One alone is not out of order yet: that may begin a batch.
	if asked := keysAsked(t, v); asked < opens || asked > opens+8 {
		t.Errorf("asked for %d keys for %d opens", asked, opens)
	}
}

// TestOpenAheadSlowService: the key service may take longer over a batch than
// a run waits for its next open.
func TestOpenAheadSlowService(t *testing.T) {
	v := fstest.New(t, fstest.Unmounted())
	service := newValve(t, v)
	v.Mount()
	all := aheadTree(t, v, 1, 30)
	tries(t, v, "the opens did not find their files open", func(int) bool {
		service.delay.Store(int64(1200 * time.Millisecond))
		defer service.delay.Store(0)
		for _, name := range all[:3] {
			if err := aheadRead(v, name); err != nil {
				t.Fatal(err)
			}
		}
		// These were opened with the third.
		asked, err := service.askedBy(func() error {
			for _, name := range all[3:7] {
				if err := aheadRead(v, name); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return !asked
	})
}

// TestOpenAheadAsksOnce: who comes to a file that is just being opened waits for that, and
// does not ask for its key as well.
func TestOpenAheadAsksOnce(t *testing.T) {
	v := fstest.New(t, fstest.Unmounted())
	service := newValve(t, v)
	v.Mount()
	all := aheadTree(t, v, 1, 100)
	v.Remount()
	service.delay.Store(int64(20 * time.Millisecond))
	for _, name := range all {
		if err := aheadRead(v, name); err != nil {
			t.Fatal(err)
		}
	}
	if asked := keysAsked(t, v); asked != len(all) {
		t.Errorf("asked for %d keys of %d files", asked, len(all))
	}
}

// keysAsked counts in the audit log the keys of files that were asked for to open these.
func keysAsked(t *testing.T, v *fstest.Volume) (n int) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(v.State, "audit", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range segments {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, `"eventName":"Decrypt"`) && strings.Contains(line, `"kmsfs:path"`) {
				n++
			}
		}
	}
	return n
}

// TestOpenAheadCorrectsSize: a size that is found to be wrong when a file is
// opened ahead is not what the kernel goes by when the file is opened.
func TestOpenAheadCorrectsSize(t *testing.T) {
	v := fstest.New(t)
	content := make([]byte, 40_000)
	var all []string
	for i := range 20 {
		all = append(all, filepath.Join(v.Mnt, fmt.Sprintf("f%02d", i)))
		if err := os.WriteFile(all[i], content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	victim := v.BackingPath(t, "f07")
	v.Unmount()
	st, err := os.Stat(victim)
	if err == nil {
		err = os.Truncate(victim, st.Size()-100)
	}
	if err != nil {
		t.Fatal(err)
	}
	ino := st.Sys().(*syscall.Stat_t).Ino
	v.Mount()
	tries(t, v, "the file was not opened ahead", func(int) bool {
		if st, err := os.Stat(all[7]); err != nil || st.Size() != int64(len(content))-100 {
			t.Fatalf("%v, %v", st, err)
		}
		for _, name := range all[:4] {
			if _, err := os.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
		return backingInodes(v)[ino] > 0
	})
	if err := fstest.Poll(commandWait, func() (bool, error) { return backingFiles(v) == 0, nil }); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(all[7]); err != nil || len(got) != len(content) {
		t.Errorf("read %d bytes of %d, %v", len(got), len(content), err)
	}
}

// TestOpenAheadFillsCache: an open hands a small file's content to the kernel,
// whether it was opened ahead before the kernel knew of it or not.
func TestOpenAheadFillsCache(t *testing.T) {
	v := fstest.New(t)
	all := aheadTree(t, v, 1, 30)
	v.Remount()
	for i, name := range all[:8] {
		f, err := os.Open(filepath.Join(v.Mnt, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Kill(v.Worker(), unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { _, err := f.Read(make([]byte, 10)); done <- err }()
		select {
		case err = <-done:
		case <-time.After(commandWait):
			err = errors.New("it asks for it")
		}
		if cont := unix.Kill(v.Worker(), unix.SIGCONT); err != nil || cont != nil {
			t.Fatalf("reading file %d, %s: %v, %v", i, name, err, cont)
		}
	}
}

// TestOpenAheadRemoved: what is removed is not kept by having been opened ahead.
func TestOpenAheadRemoved(t *testing.T) {
	v := fstest.New(t)
	const files = 12
	all := aheadTree(t, v, 10, files)
	tries(t, v, "files that were removed stay open", func(n int) bool {
		these := all[n*files:][:files]
		other := filepath.Join(v.Mnt, "other")
		if err := os.WriteFile(other, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, name := range these[:2] {
			if err := aheadRead(v, name); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		if err := aheadRead(v, these[2]); err != nil {
			t.Fatal(err)
		}
		ahead := backingFiles(v)
		for i, name := range these[3:] {
			path := filepath.Join(v.Mnt, name)
			var err error
			if i == 0 {
				err = os.Rename(other, path)
			} else {
				err = os.Remove(path)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := fstest.Poll(commandWait, func() (bool, error) { return backingFiles(v) == 0, nil }); err != nil {
			t.Fatalf("%d files stay open", backingFiles(v))
		}
		// A released file is closed at once. After a second of idleness the others would
		// have been closed, too.
		return ahead >= 4 && time.Since(begun) < time.Second
	})
}
