package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// prepareFiles makes Badger's files ones that it can open, or says what is wrong
// with them.
//
// Badger ends the process over a damaged table, from a goroutine of its own and
// without a word that helps. So each table's checksums are looked at before
// Badger is: that of the index, which is at the table's end, and those of the
// blocks, which the index lists. Tables here are neither compressed nor encrypted.
func prepareFiles(opts badger.Options) error {
	if err := removeEmptyLogs(opts.Dir); err != nil {
		return err
	}
	tables, err := listedTables(opts)
	if err != nil {
		return err
	}
	for id := range tables {
		path := table.NewFilename(id, opts.Dir)
		raw, err := os.ReadFile(path)
		if err == nil {
			err = checkTable(raw)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// removeEmptyLogs removes logs that were not given a length yet when the service
// was killed. Badger refuses to open them.
func removeEmptyLogs(dir string) error {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		logs, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range logs {
			st, err := os.Lstat(path)
			if err != nil {
				return err
			}
			if st.Mode().IsRegular() && st.Size() == 0 {
				if err := os.Remove(path); err != nil {
					return fmt.Errorf("remove an empty log: %w", err)
				}
			}
		}
	}
	return nil
}

// listedTables are the tables that Badger's list of them has. Others are what a
// kill left of unfinished ones, and Badger removes them.
func listedTables(opts badger.Options) (map[uint64]badger.TableManifest, error) {
	f, err := os.Open(filepath.Join(opts.Dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		if all, err := filepath.Glob(filepath.Join(opts.Dir, "*.sst")); err != nil || len(all) == 0 {
			return nil, err // a new store
		}
		// Without its list Badger would remove them all.
		return nil, fmt.Errorf("there are tables, and their list, %s, is missing", badger.ManifestFilename)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, _, err := badger.ReplayManifestFile(f, opts.ExternalMagicVersion, opts)
	if err != nil {
		return nil, fmt.Errorf("the list of tables, %s: %w", badger.ManifestFilename, err)
	}
	return list.Tables, nil
}

var errTable = errors.New("the file is damaged")

func checkTable(raw []byte) (err error) {
	defer func() {
		// An index that was made up, checksum and all, is damage too.
		if recover() != nil {
			err = errTable
		}
	}()
	rest, sum, err := cutChecksum(raw)
	if err != nil {
		return err
	}
	rest, index, err := cutSized(rest)
	if err != nil {
		return err
	}
	if err := y.VerifyChecksum(index, sum); err != nil {
		return errTable
	}
	t := fb.GetRootAsTableIndex(index, 0)
	var at fb.BlockOffset
	for i := range t.OffsetsLength() {
		if !t.Offsets(&at, i) || uint64(at.Offset())+uint64(at.Len()) > uint64(len(rest)) {
			return errTable
		}
		block, sum, err := cutChecksum(rest[at.Offset():][:at.Len()])
		if err != nil {
			return err
		}
		if err := y.VerifyChecksum(block, sum); err != nil {
			return errTable
		}
	}
	if t.OffsetsLength() == 0 {
		return errTable
	}
	return nil
}

// cutChecksum takes a checksum from the end of b.
func cutChecksum(b []byte) (rest []byte, sum *pb.Checksum, err error) {
	rest, raw, err := cutSized(b)
	if err != nil {
		return nil, nil, err
	}
	sum = new(pb.Checksum)
	if err := proto.Unmarshal(raw, sum); err != nil {
		return nil, nil, errTable
	}
	return rest, sum, nil
}

// cutSized takes from the end of b what a length follows.
func cutSized(b []byte) (rest, last []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errTable
	}
	b, size := b[:len(b)-4], int64(binary.BigEndian.Uint32(b[len(b)-4:]))
	if size > int64(len(b)) {
		return nil, nil, errTable
	}
	at := int64(len(b)) - size
	return b[:at], b[at:], nil
}
