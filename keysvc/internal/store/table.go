package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// Badger ends the process over a damaged table, from a goroutine of its own and
// without a word that helps. So each table's checksums are looked at before
// Badger is: that of the index, which is at the table's end, and those of the
// blocks, which the index lists. Tables here are neither compressed nor encrypted.

func checkTables(dir string) error {
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		return err
	}
	for _, path := range tables {
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
