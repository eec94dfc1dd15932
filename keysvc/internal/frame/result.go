package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const (
	resultHeader = 8 + 4 + 1
	maxResult    = resultHeader + 4*5 + kmsapi.MaxKeyID + 2*kmsapi.MaxCiphertextBlob

	outcomeOK    = 0
	outcomeError = 1

	lockedLen = secret.MaxLen
)

// Result is the outcome of one item as the service sends it.
type Result struct {
	CiphertextBlob []byte
	Plaintext      []byte
	KeyID          string
	Err            *kmsapi.Error
}

// Results are results that wait to be sent. They are in locked memory, since data
// keys are among them, and wiped when they are sent or dropped. A Results is for
// one goroutine at a time.
type Results struct {
	full []*secret.Buffer
	last *secret.Buffer
	n    int // bytes in last
}

// NewResults returns one without results. Close frees it.
func NewResults() (*Results, error) {
	buf, err := secret.New(lockedLen)
	if err != nil {
		return nil, err
	}
	return &Results{last: buf}, nil
}

// Add appends the result of item index of request id. After an error the Results
// can only be dropped.
func (q *Results) Add(id uint64, index int, r *Result) error {
	var head [4 + resultHeader]byte
	binary.LittleEndian.PutUint64(head[4:], id)
	binary.LittleEndian.PutUint32(head[12:], uint32(index))
	if r.Err != nil {
		head[16] = outcomeError
		n := resultHeader + sizeOf(len(r.Err.Code)) + sizeOf(len(r.Err.Message))
		binary.LittleEndian.PutUint32(head[:], uint32(n))
		return errors.Join(q.put(head[:]), q.member([]byte(r.Err.Code)), q.member([]byte(r.Err.Message)))
	}
	n := resultHeader + sizeOf(len(r.KeyID)) + sizeOf(len(r.CiphertextBlob)) + sizeOf(len(r.Plaintext))
	binary.LittleEndian.PutUint32(head[:], uint32(n))
	return errors.Join(q.put(head[:]), q.member([]byte(r.KeyID)), q.member(r.CiphertextBlob), q.member(r.Plaintext))
}

func sizeOf(n int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], uint64(n)) + n
}

func (q *Results) member(p []byte) error {
	var b [binary.MaxVarintLen64]byte
	if err := q.put(b[:binary.PutUvarint(b[:], uint64(len(p)))]); err != nil {
		return err
	}
	return q.put(p)
}

func (q *Results) put(p []byte) error {
	for len(p) > 0 {
		if q.n == lockedLen {
			buf, err := secret.New(lockedLen)
			if err != nil {
				return err
			}
			q.full, q.last, q.n = append(q.full, q.last), buf, 0
		}
		k := copy(q.last.Bytes()[q.n:], p)
		q.n += k
		p = p[k:]
	}
	return nil
}

// Drop wipes the results. What follows begins anew.
func (q *Results) Drop() {
	for _, buf := range q.full {
		buf.Free()
	}
	q.full = q.full[:0]
	secret.Wipe(q.last.Bytes()[:q.n])
	q.n = 0
}

// Close drops the results and frees the memory.
func (q *Results) Close() {
	q.Drop()
	q.last.Free()
}

// Writer sends results to one peer. Results of several goroutines do not
// interleave.
type Writer struct {
	mu  sync.Mutex // guards what follows
	w   io.Writer
	err error
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Send sends q, and drops it.
func (w *Writer) Send(q *Results) error {
	defer q.Drop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, buf := range q.full {
		w.writeLocked(buf.Bytes())
	}
	w.writeLocked(q.last.Bytes()[:q.n])
	return w.err
}

func (w *Writer) writeLocked(p []byte) {
	if w.err == nil && len(p) > 0 {
		_, w.err = w.w.Write(p)
	}
}

// Reader receives results through a locked buffer.
type Reader struct {
	r        io.Reader
	buf      *secret.Buffer
	from, to int    // unread bytes of buf
	left     int    // unread bytes of the frame
	arn      string // the last key ARN: results mostly name the same
}

// NewReader returns a Reader from r. Close frees it.
func NewReader(r io.Reader) (*Reader, error) {
	buf, err := secret.New(lockedLen)
	if err != nil {
		return nil, err
	}
	return &Reader{r: r, buf: buf}, nil
}

// Close wipes the buffer. No Read may be running.
func (r *Reader) Close() { r.buf.Free() }

// Read returns the next result. The caller wipes its Plaintext.
func (r *Reader) Read() (id uint64, index int, res kmsapi.BatchResult, err error) {
	var head [4 + resultHeader]byte
	r.left = len(head)
	if err := r.full(head[:]); err != nil {
		return 0, 0, res, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < resultHeader || n > maxResult {
		return 0, 0, res, ErrFormat
	}
	r.left = int(n) - resultHeader
	id = binary.LittleEndian.Uint64(head[4:])
	index = int(binary.LittleEndian.Uint32(head[12:]))
	switch head[16] {
	case outcomeOK:
		err = r.success(&res)
	case outcomeError:
		err = r.failure(&res)
	default:
		err = ErrFormat
	}
	if err == nil && r.left != 0 {
		err = ErrFormat
	}
	if err != nil {
		secret.Wipe(res.Plaintext)
		return 0, 0, kmsapi.BatchResult{}, fmt.Errorf("batch result: %w", err)
	}
	return id, index, res, nil
}

func (r *Reader) success(res *kmsapi.BatchResult) error {
	arn, err := r.member()
	if err != nil {
		return err
	}
	if string(arn) != r.arn {
		r.arn = string(arn)
	}
	res.KeyID = r.arn
	if res.CiphertextBlob, err = r.member(); err != nil {
		return err
	}
	res.Plaintext, err = r.member()
	return err
}

func (r *Reader) failure(res *kmsapi.BatchResult) error {
	code, err := r.member()
	if err != nil {
		return err
	}
	message, err := r.member()
	if err != nil {
		return err
	}
	res.Err = &kmsapi.Error{Code: string(code), Message: string(message)}
	return nil
}

// member reads a length and as many bytes; nil for none.
func (r *Reader) member() ([]byte, error) {
	var n, shift int
	for {
		var b [1]byte
		if err := r.full(b[:]); err != nil {
			return nil, err
		}
		n |= int(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			if b[0] == 0 && shift > 0 {
				return nil, ErrFormat
			}
			break
		}
		if shift += 7; shift > 14 {
			return nil, ErrFormat
		}
	}
	if n == 0 {
		return nil, nil
	}
	if n > r.left {
		return nil, ErrFormat
	}
	p := make([]byte, n)
	return p, r.full(p)
}

// full fills p from the frame.
func (r *Reader) full(p []byte) error {
	if len(p) > r.left {
		return ErrFormat
	}
	r.left -= len(p)
	b := r.buf.Bytes()
	for len(p) > 0 {
		if r.from == r.to {
			n, err := r.r.Read(b)
			if n == 0 && err == nil {
				err = io.ErrNoProgress
			}
			if n == 0 {
				return err
			}
			r.from, r.to = 0, n
		}
		k := copy(p, b[r.from:r.to])
		secret.Wipe(b[r.from : r.from+k])
		r.from += k
		p = p[k:]
	}
	return nil
}
