package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// followEvery is how often Tail looks for new lines.
const followEvery = 100 * time.Millisecond

// Tail calls fn with each of the last n lines of the log in dir, newline
// included, and with follow then with each new one, across segments, until fn
// fails or ctx is done, which is no error. A line is a record or a checkpoint;
// fn must not keep it. Tail checks nothing: Verify does.
func Tail(ctx context.Context, dir string, n int, follow bool, fn func(line []byte) error) error {
	t, err := tailFrom(dir, n)
	if err != nil {
		return err
	}
	defer t.close()
	for {
		if err := t.print(ctx, fn); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// tail is a place in a log from which lines are read.
type tail struct {
	dir string
	seg string // "" while the log has none
	f   *os.File
	r   *lineReader
}

// tailFrom finds the place before the last n lines, from the end backwards.
func tailFrom(dir string, n int) (*tail, error) {
	segs, err := listSegments(dir)
	if err != nil {
		return nil, err
	}
	t := &tail{dir: dir}
	for i := len(segs) - 1; i >= 0; i-- {
		t.close()
		if err := t.open(segs[i].name); err != nil {
			return nil, err
		}
		from, found, err := backwards(t.f, n)
		if err == nil {
			err = t.r.seek(from)
		}
		if err != nil {
			t.close()
			return nil, fmt.Errorf("read %s: %w", t.seg, err)
		}
		if n -= found; n <= 0 {
			break
		}
	}
	return t, nil
}

func (t *tail) open(name string) error {
	f, err := os.Open(filepath.Join(t.dir, name))
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	t.seg, t.f, t.r = name, f, newLineReader(f)
	return nil
}

func (t *tail) close() {
	if t.f != nil {
		t.f.Close() // it was only read
		t.f = nil
	}
}

// backwards returns the offset of the last n whole lines of f, and how many
// there are: n or fewer.
func backwards(f *os.File, n int) (int64, int, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	var block [64 << 10]byte
	ends := 0 // newlines seen; the first ends the last line
	for to := st.Size(); to > 0; {
		from := max(0, to-int64(len(block)))
		b := block[:to-from]
		if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for len(b) > 0 {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if ends == n {
				return from + int64(i) + 1, n, nil
			}
			ends++
			b = b[:i]
		}
		to = from
	}
	return 0, ends, nil
}

// print passes on the whole lines that there are, in this segment and in those
// after it.
func (t *tail) print(ctx context.Context, fn func([]byte) error) error {
	for {
		// Looked up first: what is in the segment by then is all that ever will
		// be, if there is a next one.
		next, err := t.nextSegment()
		if err != nil {
			return err
		}
		if err := t.lines(ctx, fn); err != nil {
			return err
		}
		if next == "" || ctx.Err() != nil {
			return nil
		}
		t.close()
		if err := t.open(next); err != nil {
			return err
		}
	}
}

func (t *tail) nextSegment() (string, error) {
	segs, err := listSegments(t.dir)
	if err != nil {
		return "", err
	}
	for _, s := range segs {
		if s.name > t.seg {
			return s.name, nil
		}
	}
	return "", nil
}

func (t *tail) lines(ctx context.Context, fn func([]byte) error) error {
	if t.f == nil {
		return nil
	}
	for ctx.Err() == nil {
		line, offset, err := t.r.next()
		if err == nil && line[len(line)-1] != '\n' && len(line) < maxLine {
			err = t.r.seek(offset) // its end is being written
			if err == nil {
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return t.shrunk()
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", t.seg, err)
		}
		if err := fn(line); err != nil {
			return err
		}
	}
	return nil
}

// shrunk goes back to the end of the segment if a write that failed half-way was
// taken back.
func (t *tail) shrunk() error {
	st, err := t.f.Stat()
	if err == nil && st.Size() < t.r.offset {
		err = t.r.seek(st.Size())
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", t.seg, err)
	}
	return nil
}
