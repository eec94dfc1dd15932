package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// A watermark file has two slots, written in turn: a write that a crash tears
// leaves the one before. They lie in sectors of their own.
const (
	slotLen      = 512
	watermarkLen = 2 * slotLen
)

// watermarkName is what the number is sealed as. No record's name has a zero byte.
const watermarkName = "\x00watermark"

// Watermark is a number in a file of its own that only grows: the number of the
// last change of the store. A database that was put back to an older state, be
// it whole and sound in itself, falls behind it.
type Watermark struct {
	path    string
	records *Records
	f       *os.File // nil until there is a file
}

// NewWatermark is the watermark in the file path, which need not exist.
func NewWatermark(path string, r *Records) *Watermark { return &Watermark{path: path, records: r} }

// Load returns the number. Without a file the error is fs.ErrNotExist; one that
// was changed or is another root key's is ErrRecord.
func (w *Watermark) Load() (uint64, error) {
	raw, err := os.ReadFile(w.path)
	if err != nil {
		return 0, fmt.Errorf("read the watermark: %w", err)
	}
	var n uint64
	found := false
	for at := 0; at < watermarkLen && at+sealedNumberLen <= len(raw); at += slotLen {
		v, err := w.records.Open(nil, watermarkName, raw[at:at+sealedNumberLen])
		if err == nil && len(v) == 8 {
			n, found = max(n, binary.BigEndian.Uint64(v)), true
		}
	}
	if !found {
		return 0, ErrRecord
	}
	return n, nil
}

// sealedNumberLen is the length of eight sealed bytes.
const sealedNumberLen = 24 + 8 + 16

// Save makes n, which is larger than it was, the number. It is durable when Save
// returns.
func (w *Watermark) Save(n uint64) error {
	if w.f == nil {
		f, err := os.OpenFile(w.path, os.O_WRONLY|syscall.O_DSYNC|syscall.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return w.create(n)
		}
		if err != nil {
			return fmt.Errorf("write the watermark: %w", err)
		}
		w.f = f
	}
	slot, err := w.slot(n)
	if err != nil {
		return err
	}
	if _, err := w.f.WriteAt(slot, int64(n%2)*slotLen); err != nil {
		return fmt.Errorf("write the watermark: %w", err)
	}
	return nil
}

func (w *Watermark) create(n uint64) error {
	file := make([]byte, 0, watermarkLen)
	for range 2 {
		slot, err := w.slot(n)
		if err != nil {
			return err
		}
		file = append(file, slot...)
	}
	if err := writeNew(w.path, file); err != nil {
		return fmt.Errorf("make the watermark: %w", err)
	}
	return nil
}

func (w *Watermark) slot(n uint64) ([]byte, error) {
	sealed, err := w.records.Seal(watermarkName, binary.BigEndian.AppendUint64(nil, n))
	if err != nil {
		return nil, err
	}
	return append(sealed, make([]byte, slotLen-len(sealed))...), nil
}

// Close closes the file.
func (w *Watermark) Close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close the watermark: %w", err)
	}
	return nil
}
