package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

var sampleItems = []kmsapi.BatchItem{
	{Op: kmsapi.OpGenerateDataKey, KeyID: "alias/a", EncryptionContext: map[string]string{"b": "2", "a": "1", "": ""}, NumberOfBytes: 32},
	{Op: kmsapi.OpGenerateDataKeyWithoutPlaintext, KeyID: "k", NumberOfBytes: 1024},
	{Op: kmsapi.OpDecrypt, CiphertextBlob: bytes.Repeat([]byte{7}, 300), EncryptionContext: map[string]string{"p": strings.Repeat("x", 5000)}},
	{Op: kmsapi.OpReEncrypt, KeyID: "to", SourceKeyID: "from", CiphertextBlob: []byte{1}, EncryptionContext: map[string]string{"a": "b"}, DestinationEncryptionContext: map[string]string{"a": "c"}},
	{Op: kmsapi.OpDecrypt},
	{Op: kmsapi.OpDecrypt, KeyID: "k", ActAs: new(uint32)},
	{Op: kmsapi.OpDecrypt, KeyID: "k", ActAs: &aUser},
}

var aUser uint32 = 1<<32 - 2

func request(t testing.TB, id uint64, items []kmsapi.BatchItem) []byte {
	t.Helper()
	b := BeginRequest(nil, id, len(items))
	var err error
	for i := range items {
		if b, err = AppendItem(b, &items[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := EndRequest(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestRoundTrip(t *testing.T) {
	b := request(t, 1<<63, sampleItems)
	body, err := ReadRequest(iotest.OneByteReader(bytes.NewReader(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	id, items, err := ParseRequest(body)
	if err != nil || id != 1<<63 || !reflect.DeepEqual(items, sampleItems) {
		t.Errorf("ParseRequest: %d, %+v, %v", id, items, err)
	}
	for n := range b {
		body, err := ReadRequest(bytes.NewReader(b[:n]), nil)
		if err == nil {
			t.Errorf("a frame cut to %d bytes is read: %q", n, body)
		}
	}
	for n := range body {
		if _, _, err := ParseRequest(body[:n]); !errors.Is(err, ErrFormat) {
			t.Errorf("a body cut to %d bytes: %v", n, err)
		}
	}
	if _, _, err := ParseRequest(append(bytes.Clone(body), 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte too many: %v", err)
	}
}

// TestUserHasOneForm: of whom an item is for there must be no two readings.
func TestUserHasOneForm(t *testing.T) {
	for _, b := range [][]byte{nil, {2}, {1}, {1, 0, 0, 0}, {255, 0, 0, 0, 0}} {
		d := decoder{b: b}
		if user := d.user(); user != nil || !d.bad {
			t.Errorf("%v is read as %v", b, user)
		}
	}
}

func TestRequestLimits(t *testing.T) {
	for n, want := range map[uint32]error{7: ErrFormat, 8: io.EOF, MaxRequest: io.EOF, MaxRequest + 1: ErrFormat, 1<<32 - 1: ErrFormat} {
		if _, err := ReadRequest(bytes.NewReader(binary.LittleEndian.AppendUint32(nil, n)), nil); !errors.Is(err, want) {
			t.Errorf("length %d: %v", n, err)
		}
	}
	if err := EndRequest(make([]byte, 4+MaxRequest)); err != nil {
		t.Error(err)
	}
	if err := EndRequest(make([]byte, 4+MaxRequest+1)); err == nil {
		t.Error("a frame over the limit is finished")
	}
	for op := range map[string]bool{"": true, "Encrypt": true} {
		if _, err := AppendItem(nil, &kmsapi.BatchItem{Op: op}); err == nil {
			t.Errorf("operation %q is sent", op)
		}
	}
}

// TestContextOrder refuses what leaves open which value was authorized.
func TestContextOrder(t *testing.T) {
	pair := func(kv ...string) []byte {
		b := []byte{0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, byte(len(kv) / 2)} // one Decrypt
		for _, s := range kv {
			b = append(append(b, byte(len(s))), s...)
		}
		return append(b, 0, 0, 0) // no second context, length or user
	}
	if _, items, err := ParseRequest(pair("a", "1", "b", "2")); err != nil || items[0].EncryptionContext["b"] != "2" {
		t.Errorf("sorted pairs: %v", err)
	}
	for _, kv := range [][]string{{"a", "1", "a", "2"}, {"b", "1", "a", "2"}, {"", "1", "", "2"}} {
		if _, _, err := ParseRequest(pair(kv...)); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %v", kv, err)
		}
	}
}

var sampleResults = []Result{
	{KeyID: "arn:aws:kms:us-east-1:000000000000:key/a", CiphertextBlob: bytes.Repeat([]byte{1}, 145), Plaintext: bytes.Repeat([]byte{2}, 32)},
	{Err: &kmsapi.Error{Code: kmsapi.CodeInvalidCiphertext}},
	{Err: &kmsapi.Error{Code: kmsapi.CodeDisabled, Message: "it is disabled."}},
	{KeyID: "arn:aws:kms:us-east-1:000000000000:key/a", CiphertextBlob: bytes.Repeat([]byte{3}, 6144)},
	{KeyID: "arn:aws:kms:us-east-1:000000000000:key/b", Plaintext: bytes.Repeat([]byte{4}, 4096)},
}

func TestResultRoundTrip(t *testing.T) {
	var wire bytes.Buffer
	q, err := NewResults()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Add(7, 7, &sampleResults[len(sampleResults)-1]); err != nil {
		t.Fatal(err)
	}
	q.Drop()
	for i := range sampleResults {
		if err := q.Add(uint64(i)<<40, i, &sampleResults[i]); err != nil {
			t.Fatal(err)
		}
	}
	w := NewWriter(&wire)
	if err := w.Send(q); err != nil {
		t.Fatal(err)
	}
	if len(q.full) > 0 || !bytes.Equal(q.last.Bytes(), make([]byte, lockedLen)) {
		t.Error("what was sent is still in memory")
	}
	if n := wire.Len(); w.Send(q) != nil || wire.Len() != n {
		t.Error("results were sent twice")
	}
	q.Close()
	for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
		r, err := NewReader(wrap(bytes.NewReader(wire.Bytes())))
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range sampleResults {
			id, index, got, err := r.Read()
			if err != nil || id != uint64(i)<<40 || index != i || got.KeyID != want.KeyID || !reflect.DeepEqual(got.Err, want.Err) ||
				!bytes.Equal(got.CiphertextBlob, want.CiphertextBlob) || !bytes.Equal(got.Plaintext, want.Plaintext) {
				t.Errorf("result %d: %d, %d, %+v, %v", i, id, index, got, err)
			}
		}
		if _, _, _, err := r.Read(); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
		if !bytes.Equal(r.buf.Bytes(), make([]byte, lockedLen)) {
			t.Error("the reader's buffer still holds results")
		}
		r.Close()
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(request(f, 1, sampleItems)[4:])
	f.Add(request(f, 2, sampleItems[:1])[4:])
	f.Add(request(f, 3, nil)[4:])
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0x81, 0})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 2, 1, 'a', 0, 1, 'a', 0, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		id, items, err := ParseRequest(body)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v", err)
			}
			return
		}
		if again := request(t, id, items)[4:]; !bytes.Equal(again, body) {
			t.Fatalf("%x is accepted, a writer makes %x", body, again)
		}
	})
}

// sent is the frame of a result.
func sent(t testing.TB, id uint64, index int, r *Result) []byte {
	t.Helper()
	q, err := NewResults()
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var wire bytes.Buffer
	if err := errors.Join(q.Add(id, index, r), NewWriter(&wire).Send(q)); err != nil {
		t.Fatal(err)
	}
	return wire.Bytes()
}

func FuzzResult(f *testing.F) {
	for i := range sampleResults {
		f.Add(sent(f, uint64(i), i, &sampleResults[i]))
	}
	f.Add([]byte{13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2})
	f.Add([]byte{16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := NewReader(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		id, index, got, err := r.Read()
		if err != nil {
			return
		}
		again := sent(t, id, index, &Result{CiphertextBlob: got.CiphertextBlob, Plaintext: got.Plaintext, KeyID: got.KeyID, Err: got.Err})
		if !bytes.HasPrefix(in, again) {
			t.Fatalf("%x is accepted, a writer makes %x", in, again)
		}
	})
}
