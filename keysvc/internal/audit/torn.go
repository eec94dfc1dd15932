package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"kmsfs.dev/kmsfs/internal/durable"
)

// tornName is the file for what was cut off before a record.
func tornName(sequence uint64, n int) string {
	return fmt.Sprintf("%s%0*d-%d%s", tornPrefix, digits, sequence, n, tornSuffix)
}

// saveTorn copies a segment's end to a file of its own.
func saveTorn(dir string, segment *os.File, from, to int64, sequence uint64) error {
	for n := 1; ; n++ {
		path := filepath.Join(dir, tornName(sequence, n))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(f, io.NewSectionReader(segment, from, to-from))
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return errors.Join(err, os.Remove(path))
		}
		return durable.SyncDir(dir)
	}
}

// tornHere describes what was cut off at the log's end, by this Open or by one
// that did not come to note it.
func (l *Log) tornHere() ([]ServiceEventDetails, error) {
	var found []ServiceEventDetails
	for n := 1; ; n++ {
		name := tornName(l.next.sequence, n)
		b, err := os.ReadFile(filepath.Join(l.opts.Dir, name))
		if missing(err) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		found = append(found, ServiceEventDetails{
			Segment: filepath.Base(l.file.Name()), Offset: l.size, BytesCut: int64(len(b)),
			SavedAs: name, SavedBytes: fmt.Sprintf("%x", sha256.Sum256(b)),
		})
	}
}
