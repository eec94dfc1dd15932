package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Place is where a line is.
type Place struct {
	Segment  string `json:"segment"`  // file name
	Line     uint64 `json:"line"`     // in the segment, from 1
	Offset   int64  `json:"offset"`   // of the line's first byte in the segment
	Sequence uint64 `json:"sequence"` // in the log, from 1
}

func (p Place) String() string {
	return fmt.Sprintf("%s, line %d, byte %d (record %d)", p.Segment, p.Line, p.Offset, p.Sequence)
}

// lineReader reads a segment line by line in bounded memory.
type lineReader struct {
	f      *os.File
	r      *bufio.Reader
	long   []byte // a line that does not fit into the reader's buffer
	line   uint64 // lines returned
	offset int64  // of the next line
}

func newLineReader(f *os.File) *lineReader {
	return &lineReader{f: f, r: bufio.NewReaderSize(f, 64<<10)}
}

// next returns the next line with its newline, valid until the next call, and
// its offset. Without a newline it is the end of the file, or maxLine bytes or a few
// more, which no line has. io.EOF means that there is none.
func (r *lineReader) next() (line []byte, offset int64, err error) {
	line, err = r.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		r.long = r.long[:0]
		for errors.Is(err, bufio.ErrBufferFull) && len(r.long)+len(line) < maxLine {
			r.long = append(r.long, line...)
			line, err = r.r.ReadSlice('\n')
		}
		r.long = append(r.long, line...)
		line = r.long
	}
	if len(line) == 0 && err != nil {
		return nil, r.offset, err
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, r.offset, err
	}
	offset = r.offset
	r.offset += int64(len(line))
	r.line++
	return line, offset, nil
}

// seek makes the line at offset the next one. It does not know its number.
func (r *lineReader) seek(offset int64) error {
	if _, err := r.f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	r.r.Reset(r.f)
	r.offset = offset
	return nil
}

// back returns to the line that begins at offset, the last one that was read.
func (r *lineReader) back(offset int64) error {
	r.line--
	return r.seek(offset)
}

func complete(line []byte) bool {
	return len(line) >= 2 && line[0] == '{' && line[len(line)-1] == '\n'
}

// seen is what is read of a line.
type seen struct {
	EventName string `json:"eventName"`
	ErrorCode string `json:"errorCode"`
	Chain     *Chain `json:"kmsfs"`

	place Place
}

const notALine = "the line is neither a record nor a checkpoint"

// parseLine reads a line and says whether it can be one that the log wrote: a
// record, or a checkpoint, whose signature is still to be looked at.
func parseLine(line []byte) (*seen, bool) {
	s := new(seen)
	ok := complete(line) && (IsCheckpoint(line) || bytes.HasPrefix(line, recordStart)) &&
		json.Unmarshal(line, s) == nil && s.Chain != nil
	return s, ok
}

// lastLine returns the last line of a file, which must be complete.
func lastLine(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, st.Size()-maxLine)
	b := make([]byte, st.Size()-from)
	if _, err := f.ReadAt(b, from); err != nil {
		return nil, err
	}
	start := 0
	for i := len(b) - 2; i >= 0; i-- {
		if b[i] == '\n' {
			start = i + 1
			break
		}
	}
	if line := b[start:]; complete(line) {
		return line, nil
	}
	return nil, errors.New("its last line is not complete")
}
