// Package frame is the encoding of the private batch protocol: what a client
// and the service exchange after the HTTP Upgrade to kmsapi.BatchUpgrade.
//
//	request   u32 length | u64 request id | uvarint count | items
//	result    u32 length | u64 request id | u32 index | u8 outcome | members
//
// A request is answered by one result frame for each item, in any order. Numbers
// of fixed size are little-endian; a string or byte member is its length as a
// uvarint and its bytes. Binary frames, unlike JSON, put a data key into one place
// in memory, and that place is locked and wiped.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const (
	// MaxRequest bounds what a peer can make the service hold for one request.
	MaxRequest = 4 << 20
	// MaxItems of one request.
	MaxItems = 4096

	requestHeader = 8
	maxPairs      = 1024 // pairs of one encryption context
)

// ErrFormat is a frame that no writer makes. The connection is useless after it.
var ErrFormat = errors.New("malformed batch frame")

// The wire numbers of the operations.
var ops = [...]string{
	1: kmsapi.OpGenerateDataKey,
	2: kmsapi.OpGenerateDataKeyWithoutPlaintext,
	3: kmsapi.OpDecrypt,
	4: kmsapi.OpReEncrypt,
}

func opNumber(op string) (byte, bool) {
	for i, name := range ops {
		if name == op && i > 0 {
			return byte(i), true
		}
	}
	return 0, false
}

// BeginRequest appends a request frame without items to dst. The frame is not
// valid before EndRequest.
func BeginRequest(dst []byte, id uint64, count int) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, id)
	return binary.AppendUvarint(dst, uint64(count))
}

// AppendItem appends one item to a request frame.
func AppendItem(dst []byte, it *kmsapi.BatchItem) ([]byte, error) {
	op, ok := opNumber(it.Op)
	if !ok {
		return nil, fmt.Errorf("batch: operation %q", it.Op)
	}
	if it.NumberOfBytes < 0 || it.NumberOfBytes > math.MaxInt32 {
		return nil, fmt.Errorf("batch: NumberOfBytes %d", it.NumberOfBytes)
	}
	dst = append(dst, op)
	dst = appendBytes(dst, it.KeyID)
	dst = appendBytes(dst, it.SourceKeyID)
	dst = appendBytes(dst, it.CiphertextBlob)
	dst = appendContext(dst, it.EncryptionContext)
	dst = appendContext(dst, it.DestinationEncryptionContext)
	dst = binary.AppendUvarint(dst, uint64(it.NumberOfBytes))
	if it.ActAs == nil {
		return append(dst, 0), nil
	}
	return binary.LittleEndian.AppendUint32(append(dst, 1), *it.ActAs), nil
}

// EndRequest fills in the length of the frame that is all of frame.
func EndRequest(frame []byte) error {
	n := len(frame) - 4
	if n > MaxRequest {
		return fmt.Errorf("batch: request of %d bytes: at most %d", n, MaxRequest)
	}
	binary.LittleEndian.PutUint32(frame, uint32(n))
	return nil
}

// ReadRequest reads a frame into buf, which it grows as needed, and returns the
// frame's body.
func ReadRequest(r io.Reader, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return buf[:0], err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < requestHeader || n > MaxRequest {
		return buf[:0], ErrFormat
	}
	if cap(buf) < int(n) {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := io.ReadFull(r, buf)
	return buf, err
}

// ParseRequest decodes the body of a request frame. The items do not refer to
// body.
func ParseRequest(body []byte) (id uint64, items []kmsapi.BatchItem, err error) {
	if len(body) < requestHeader {
		return 0, nil, ErrFormat
	}
	id = binary.LittleEndian.Uint64(body)
	d := decoder{b: body[requestHeader:]}
	n := d.number(MaxItems)
	items = make([]kmsapi.BatchItem, 0, min(n, 64))
	for range n {
		var it kmsapi.BatchItem
		op := d.byte()
		if op == 0 || int(op) >= len(ops) {
			return 0, nil, ErrFormat
		}
		it.Op = ops[op]
		it.KeyID = string(d.bytes())
		it.SourceKeyID = string(d.bytes())
		if b := d.bytes(); len(b) > 0 {
			it.CiphertextBlob = append([]byte(nil), b...)
		}
		it.EncryptionContext = d.context()
		it.DestinationEncryptionContext = d.context()
		it.NumberOfBytes = d.number(math.MaxInt32)
		it.ActAs = d.user()
		if d.bad {
			return 0, nil, ErrFormat
		}
		items = append(items, it)
	}
	if d.bad || len(d.b) > 0 {
		return 0, nil, ErrFormat
	}
	return id, items, nil
}
