package keysvc_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/internal/store"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// put makes the store hold these records and no others.
func (s *state) put(t *testing.T, records map[string][]byte) {
	t.Helper()
	there := s.records(t)
	s.edit(t, func(tx store.Tx) error {
		for name := range there {
			if err := tx.Delete(name); err != nil {
				return err
			}
		}
		for name, value := range records {
			if err := tx.Set(name, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// refuses expects that the service does not start and says that the store was
// changed, something with word, and what to do about it.
func (s *state) refuses(t *testing.T, what, word string) {
	t.Helper()
	err := s.decrypts(t)
	if err == nil {
		t.Errorf("%s: the service starts", what)
		return
	}
	for _, want := range []string{word, s.opts.Dir + " was changed or restored in part", "Restore all of it from one backup"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the service says %v, without %q", what, err, want)
		}
	}
}

// with calls do with a running service.
func (s *state) with(t *testing.T, do func(svc *keysvc.Service, root keysvc.Caller) error) {
	t.Helper()
	svc, err := keysvc.Open(s.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(do(svc, svc.LocalCaller(0)), svc.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestChangedRecordsAreRefused edits, swaps and moves each record.
func TestChangedRecordsAreRefused(t *testing.T) {
	s := newState(t)
	was := s.records(t)
	names := slices.Sorted(maps.Keys(was))
	try := func(what string, change func(map[string][]byte)) {
		t.Helper()
		now := maps.Clone(was)
		change(now)
		s.put(t, now)
		s.refuses(t, what, "changed")
	}
	for i, n := range names {
		for _, at := range []int{0, 24, len(was[n]) - 1} {
			try(fmt.Sprintf("byte %d of %q changed", at, n), func(m map[string][]byte) {
				m[n] = bytes.Clone(m[n])
				m[n][at] ^= 1
			})
		}
		try("a cut "+n, func(m map[string][]byte) { m[n] = m[n][:10] })
		try("an empty "+n, func(m map[string][]byte) { m[n] = []byte{} })
		other := names[(i+1)%len(names)]
		try("swapping "+n+" and "+other, func(m map[string][]byte) { m[n], m[other] = m[other], m[n] })
	}
	s.put(t, was)
	if err := s.decrypts(t); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// TestDroppedAndOldRecordsAreRefused takes a store at two moments, and puts
// each record of the older one into the newer one, by itself.
func TestDroppedAndOldRecordsAreRefused(t *testing.T) {
	s := newState(t)
	if err := s.decrypts(t); err != nil { // there is a use from now on
		t.Fatal(err)
	}
	var doomed string
	s.with(t, func(svc *keysvc.Service, root keysvc.Caller) error {
		out, err := keysvc.Call(t.Context(), svc, root, kmsapi.OpCreateKey, (*keysvc.Service).CreateKey, &kmsapi.CreateKeyInput{})
		if err != nil {
			return err
		}
		doomed = out.KeyMetadata.KeyID
		_, err = keysvc.Call(t.Context(), svc, root, kmsapi.OpCreateAlias, (*keysvc.Service).CreateAlias, &kmsapi.AliasInput{AliasName: "alias/gone", TargetKeyID: doomed})
		return err
	})
	old := s.records(t)
	s.with(t, func(svc *keysvc.Service, root keysvc.Caller) error {
		_, err := keysvc.Call(t.Context(), svc, root, kmsapi.OpUpdateKeyDescription, (*keysvc.Service).UpdateKeyDescription, &kmsapi.UpdateKeyDescriptionInput{KeyID: s.key, Description: new(string)})
		_, err2 := keysvc.Call(t.Context(), svc, root, kmsapi.OpUpdateAlias, (*keysvc.Service).UpdateAlias, &kmsapi.AliasInput{AliasName: "alias/a", TargetKeyID: doomed})
		_, err3 := keysvc.Call(t.Context(), svc, root, kmsapi.OpDeleteAlias, (*keysvc.Service).DeleteAlias, &kmsapi.DeleteAliasInput{AliasName: "alias/gone"})
		_, err4 := keysvc.Call(t.Context(), svc, root, kmsapi.OpRotateKeyOnDemand, (*keysvc.Service).RotateKeyOnDemand, &kmsapi.KeyIDInput{KeyID: s.key})
		_, err5 := keysvc.Call(t.Context(), svc, root, kmsapi.OpEncrypt, (*keysvc.Service).Encrypt, &kmsapi.EncryptInput{KeyID: s.key, Plaintext: []byte("p")})
		return errors.Join(err, err2, err3, err4, err5)
	})
	now := s.records(t)
	try := func(what, word string, change func(map[string][]byte)) {
		t.Helper()
		m := maps.Clone(now)
		change(m)
		s.put(t, m)
		s.refuses(t, what, word)
	}
	rolledBack, back := 0, 0
	for n, v := range old {
		current, there := now[n]
		switch {
		case strings.HasSuffix(n, "manifest"):
			try("the old manifest", "older", func(m map[string][]byte) { m[n] = v })
		case !there:
			back++
			try(n+" is back", "dropped, added or put back", func(m map[string][]byte) { m[n] = v })
		case !bytes.Equal(v, current):
			rolledBack++
			try("the old "+n, "dropped, added or put back", func(m map[string][]byte) { m[n] = v })
		}
	}
	if rolledBack < 3 || back != 1 {
		t.Fatalf("%d records were rolled back and %d came back: this proves less than it should", rolledBack, back)
	}
	for n := range now {
		word := "dropped, added or put back"
		if strings.HasSuffix(n, "manifest") {
			word = "lost its manifest"
		}
		try("without "+n, word, func(m map[string][]byte) { delete(m, n) })
	}
	try("all records gone", "empty", func(m map[string][]byte) { clear(m) })
	try("all as it was", "older", func(m map[string][]byte) { clear(m); maps.Copy(m, old) })
	s.put(t, now)
	s.with(t, func(*keysvc.Service, keysvc.Caller) error { return nil })
}

// copyTree copies a directory and nothing else.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// TestPartlyRestoredFiles takes copies of a service's directory at two moments
// and mixes their files. Whatever the mixture, the service runs on the newer
// state or not at all.
func TestPartlyRestoredFiles(t *testing.T) {
	t.Run("stopped", func(t *testing.T) { partlyRestored(t, false) })
	t.Run("killed", func(t *testing.T) { partlyRestored(t, true) })
}

func partlyRestored(t *testing.T, killed bool) {
	s := newState(t)
	copies := keysvctest.TempDir(t)
	old, now := filepath.Join(copies, "old"), filepath.Join(copies, "now")
	copyTree(t, s.opts.Dir, old)
	s.with(t, func(svc *keysvc.Service, root keysvc.Caller) error {
		_, err := keysvc.Call(t.Context(), svc, root, kmsapi.OpDisableKey, (*keysvc.Service).DisableKey, &kmsapi.KeyIDInput{KeyID: s.key})
		if killed { // what a kill would leave now
			copyTree(t, s.opts.Dir, now)
		}
		return err
	})
	if !killed {
		copyTree(t, s.opts.Dir, now)
	}

	// state is the key's, or an error.
	state := func() (string, error) {
		svc, err := keysvc.Open(s.opts)
		if err != nil {
			return "", err
		}
		out, err := keysvc.Call(t.Context(), svc, svc.LocalCaller(0), kmsapi.OpDescribeKey, (*keysvc.Service).DescribeKey, &kmsapi.DescribeKeyInput{KeyID: s.key})
		if err := errors.Join(err, svc.Close()); err != nil {
			return "", err
		}
		return out.KeyMetadata.KeyState, nil
	}
	files := map[string]bool{}
	for _, dir := range []string{old, now} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			files[rel] = true
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	try := func(what string, change func(path string) error, file string) {
		t.Helper()
		copyTree(t, now, s.opts.Dir)
		if err := change(filepath.Join(s.opts.Dir, file)); err != nil {
			t.Fatalf("%s %s: %v", what, file, err)
		}
		got, err := state()
		switch {
		case err == nil && got != kmsapi.StateDisabled:
			t.Errorf("%s %s: the key is %s", what, file, got)
		case err != nil:
			refused++
			if !strings.Contains(err.Error(), "estore ") {
				t.Errorf("%s %s: the error says not what to do: %v", what, file, err)
			}
		}
	}
	for file := range files {
		then, err := os.ReadFile(filepath.Join(old, file))
		if err == nil {
			try("old", func(path string) error { return os.WriteFile(path, then, 0o600) }, file)
		}
		is, err := os.ReadFile(filepath.Join(now, file))
		if err != nil {
			continue
		}
		try("no", os.Remove, file)
		if len(is) == 0 {
			continue
		}
		try("empty", func(path string) error { return os.WriteFile(path, nil, 0o600) }, file)
		try("half of", func(path string) error { return os.WriteFile(path, is[:len(is)/2], 0o600) }, file)
		for _, at := range []int{0, 30, 300, len(is) - 1} {
			if at >= len(is) {
				continue
			}
			try(fmt.Sprint("byte ", at, " changed in"), func(path string) error {
				bad := bytes.Clone(is)
				bad[at] ^= 1
				return os.WriteFile(path, bad, 0o600)
			}, file)
		}
	}
	// The database alone, and the rest alone.
	for what, from := range map[string]string{"old": old, "no": filepath.Join(copies, "none")} {
		try(what, func(path string) error {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			if what == "no" {
				return nil
			}
			copyTree(t, filepath.Join(from, "db"), path)
			return nil
		}, "db")
	}
	if refused < 10 {
		t.Errorf("only %d mixtures were refused", refused)
	}
	// Of all files together an older state is a backup, and is not told apart.
	copyTree(t, old, s.opts.Dir)
	if got, err := state(); got != kmsapi.StateEnabled || err != nil {
		t.Errorf("the backup: %q, %v", got, err)
	}
}

// TestWrongRootKey exchanges the files that unlock the store for another
// service's.
func TestWrongRootKey(t *testing.T) {
	s, other := newState(t), newState(t)
	raw, err := os.ReadFile(filepath.Join(other.opts.Dir, "rootkey.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.opts.Dir, "rootkey.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, "another root key", "another root key")
	s.opts.AcceptChanged = true
	s.refuses(t, "another root key, accepted", "another root key")
}

// TestAcceptChangedStore goes on with what is left, once.
func TestAcceptChangedStore(t *testing.T) {
	drop := func(prefix string) func(*testing.T, *state) {
		return func(t *testing.T, s *state) {
			m := s.records(t)
			maps.DeleteFunc(m, func(n string, _ []byte) bool { return strings.HasPrefix(n, prefix) })
			s.put(t, m)
		}
	}
	write := func(data []byte) func(*testing.T, *state) {
		return func(t *testing.T, s *state) {
			if err := os.WriteFile(filepath.Join(s.opts.Dir, "watermark"), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, change := range map[string]func(*testing.T, *state){
		"a record is missing":       drop("alias/"),
		"the manifest is missing":   drop("\x00"),
		"the watermark is empty":    write(nil),
		"the watermark was changed": write(make([]byte, 1024)),
		"the watermark is missing": func(t *testing.T, s *state) {
			if err := os.Remove(filepath.Join(s.opts.Dir, "watermark")); err != nil {
				t.Fatal(err)
			}
		},
		"the manifest was changed": func(t *testing.T, s *state) {
			s.edit(t, func(tx store.Tx) error { return tx.Set("\x00manifest", []byte("x")) })
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := newState(t)
			change(t, s)
			s.refuses(t, what, "--accept-changed-store")
			s.opts.AcceptChanged = true
			if err := s.decrypts(t); err != nil {
				t.Fatal(err)
			}
			s.opts.AcceptChanged = false
			if err := s.decrypts(t); err != nil {
				t.Errorf("once accepted: %v", err)
			}
		})
	}
}

// TestCrashBeforeTheMark: a crash between a commit and its mark is none of
// these, and the mark catches up.
func TestCrashBeforeTheMark(t *testing.T) {
	s := newState(t)
	mark := filepath.Join(s.opts.Dir, "watermark")
	before, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	old := s.records(t)
	s.with(t, func(svc *keysvc.Service, root keysvc.Caller) error {
		_, err := keysvc.Call(t.Context(), svc, root, kmsapi.OpUpdateKeyDescription, (*keysvc.Service).UpdateKeyDescription, &kmsapi.UpdateKeyDescriptionInput{KeyID: s.key, Description: new(string)})
		return err
	})
	if err := os.WriteFile(mark, before, 0o600); err != nil {
		t.Fatal(err)
	}
	s.with(t, func(*keysvc.Service, keysvc.Caller) error { return nil })
	s.put(t, old)
	s.refuses(t, "the state before", "older")
}

// TestStoreWithoutManifest opens what kmsfs wrote before stores had one.
func TestStoreWithoutManifest(t *testing.T) {
	unpack := func(t *testing.T) *state {
		dir := keysvctest.TempDir(t)
		if out, err := exec.Command("tar", "-C", dir, "-xzf", "testdata/state-v1.tar.gz").CombinedOutput(); err != nil {
			t.Fatalf("tar: %v: %s", err, out)
		}
		read := func(name string) string {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(raw))
		}
		// Unpacked by root it belongs to whoever made it.
		for _, name := range []string{"keysvc", "root.key"} {
			if err := os.Chown(filepath.Join(dir, name), os.Geteuid(), os.Getegid()); err != nil {
				t.Fatal(err)
			}
		}
		blob, err := base64.StdEncoding.DecodeString(read("blob"))
		if err != nil {
			t.Fatal(err)
		}
		s := &state{key: read("key"), blob: blob}
		s.opts = keysvc.Options{Dir: filepath.Join(dir, "keysvc"), RootKeyFile: filepath.Join(dir, "root.key"), Log: quiet}
		return s
	}
	s := unpack(t)
	old := s.records(t)
	if len(old) == 0 || old["\x00manifest"] != nil {
		t.Fatalf("%d records, and the manifest is %v", len(old), old["\x00manifest"])
	}
	for range 2 {
		if err := s.decrypts(t); err != nil {
			t.Fatal(err)
		}
	}
	now := s.records(t)
	if now["\x00manifest"] == nil {
		t.Error("the store did not get a manifest")
	}
	m := maps.Clone(now)
	delete(m, "alias/a")
	s.put(t, m)
	s.refuses(t, "an old record dropped from a store that was upgraded", "dropped")
	// It cannot be made to look like one that was not.
	m = maps.Clone(now)
	delete(m, "\x00manifest")
	s.put(t, m)
	if err := os.Remove(filepath.Join(s.opts.Dir, "watermark")); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, "an upgraded store without manifest and mark", "manifest")

	s = unpack(t)
	s.edit(t, func(tx store.Tx) error { return tx.Set("alias/a", []byte("x")) })
	s.refuses(t, "an edited store of then", "alias/a")
}
