package audit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kmsfs.dev/kmsfs/internal/durable"
)

// keptSegments are the newest segments: a service that starts reads both.
const keptSegments = 2

// Archive moves all but the newest two segments of the log in dir to the
// directory to, which it creates, and returns their names. The service may be
// running. A segment is durable in its new place before it is removed from the
// old one, so that after a crash Archive can be called again.
//
// VerifyOptions.Archives checks both places as the one log that they are.
func Archive(dir, to string) (moved []string, err error) {
	segs, err := listSegments(dir)
	if err != nil || len(segs) <= keptSegments {
		return nil, err
	}
	key, err := PublicKey(dir)
	if err != nil {
		return nil, err
	}
	if err := makeDir(to); err != nil {
		return nil, err
	}
	if err := archiveKey(to, publicKeyText(key)); err != nil {
		return nil, err
	}
	for _, seg := range segs[:len(segs)-keptSegments] {
		if err := moveSegment(seg, to); err != nil {
			return moved, fmt.Errorf("archive %s: %w", seg.name, err)
		}
		moved = append(moved, seg.name)
	}
	return moved, durable.SyncDir(dir)
}

// archiveKey puts the public key beside the segments. An archive is of one log.
func archiveKey(to string, text []byte) error {
	have, err := os.ReadFile(filepath.Join(to, publicKeyFile))
	switch {
	case missing(err):
		return durable.WriteFile(filepath.Join(to, publicKeyFile), text)
	case err != nil:
		return fmt.Errorf("archive: %w", err)
	case !bytes.Equal(have, text):
		return fmt.Errorf("archive: %s holds another audit log: choose another directory", to)
	}
	return nil
}

func moveSegment(seg segment, to string) error {
	path := filepath.Join(to, seg.name)
	if _, err := os.Lstat(path); missing(err) {
		if err := copyFile(seg.path(), to, seg.name); err != nil {
			return err
		}
	}
	// Read again from the disk, and after a crash before the removal for the
	// first time: the only copy is not given up for one that differs.
	if err := sameContent(seg.path(), path); err != nil {
		return err
	}
	return os.Remove(seg.path())
}

// copyFile makes a copy in dir that is whole and durable, or not there.
func copyFile(path, dir, name string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	return durable.Create(filepath.Join(dir, name), func(to *os.File) error {
		_, err := io.Copy(to, from)
		return err
	})
}

// sameContent refuses two files that differ.
func sameContent(a, b string) error {
	var sums [2]Hash
	for i, path := range [...]string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close() // it was only read
		if err != nil {
			return err
		}
		h.Sum(sums[i][:0])
	}
	if sums[0] != sums[1] {
		return fmt.Errorf("%s differs from %s", b, a)
	}
	return nil
}
