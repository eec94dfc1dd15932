package keysvc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/frame"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const (
	// inlineItems is the size up to which a lone request is worked off by the
	// goroutine that read it: handing it over costs more than it gains.
	inlineItems = 8
	// chunkItems is what one goroutine takes of a larger request.
	chunkItems = 64
)

// batch answers the upgrade to the private batch protocol.
func (s *Server) batch(w http.ResponseWriter, r *http.Request) {
	caller, ok := r.Context().Value(callerKey{}).(Caller)
	if !ok || r.Header.Get("Upgrade") != kmsapi.BatchUpgrade {
		w.Header().Set("Upgrade", kmsapi.BatchUpgrade)
		http.Error(w, "this path speaks "+kmsapi.BatchUpgrade, http.StatusUpgradeRequired)
		return
	}
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.log.Error("upgrade a connection", "error", err)
		return
	}
	defer c.Close()
	if err := c.SetDeadline(time.Time{}); err != nil {
		s.log.Debug("upgrade a connection", "error", err)
		return
	}
	if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+kmsapi.BatchUpgrade+"\r\n\r\n"); err != nil {
		return // the peer has left
	}
	direct, err := directConn(c)
	if err != nil {
		s.log.Error("upgrade a connection", "error", err)
		return
	}
	defer direct.Close()
	// What the client sent too early is in the reader already.
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	err = s.batchLoop(direct, bufio.NewReader(io.MultiReader(bytes.NewReader(early), direct)), caller)
	switch {
	case errors.Is(err, frame.ErrFormat):
		s.log.Warn("closed a batch connection", "principal", caller.ARN, "pid", caller.Peer.PID, "error", err)
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
		s.log.Debug("batch connection", "error", err)
	}
}

// direct is a connection read and written by blocking system calls. A request
// then wakes the thread that waits for it; through the poller it would wait for
// another thread and for the scheduler first.
type direct struct {
	*os.File
	conn net.Conn // shuts the socket down when closed, which ends a read
}

func directConn(c net.Conn) (*direct, error) {
	wrapped, ok := c.(*conn)
	if !ok {
		return nil, fmt.Errorf("connection of type %T", c)
	}
	unixConn, ok := wrapped.Conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("connection of type %T", wrapped.Conn)
	}
	f, err := unixConn.File()
	if err != nil {
		return nil, err
	}
	f.Fd() // makes it blocking
	return &direct{f, c}, nil
}

func (d *direct) Close() error { return errors.Join(d.conn.Close(), d.File.Close()) }

// batchLoop reads requests until the peer hangs up. Requests overlap: up to as
// many chunks as there are processors are worked off at once, and the next
// request is read meanwhile.
func (s *Server) batchLoop(c *direct, r *bufio.Reader, caller Caller) error {
	w, err := frame.NewWriter(c)
	if err != nil {
		return err
	}
	defer w.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))
	var buf []byte
	for {
		if buf, err = frame.ReadRequest(r, buf); err != nil {
			return err
		}
		id, items, err := frame.ParseRequest(buf)
		if err != nil {
			return err
		}
		if len(items) <= inlineItems && r.Buffered() == 0 {
			if err := s.batchChunk(w, caller, id, 0, items); err != nil {
				return err
			}
			continue
		}
		for from := 0; from < len(items); from += chunkItems {
			chunk := items[from:min(from+chunkItems, len(items))]
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := s.batchChunk(w, caller, id, from, chunk); err != nil {
					c.conn.Close() // ends the loop as well
				}
			})
		}
		if cap(buf) > 64<<10 {
			buf = nil // one large request must not cost memory for ever
		}
	}
}

func (s *Server) batchChunk(w *frame.Writer, caller Caller, id uint64, from int, items []kmsapi.BatchItem) error {
	var made []byte // by the item before, for a Decrypt that takes it
	for i := range items {
		it := &items[i]
		if it.Op == kmsapi.OpDecrypt && len(it.CiphertextBlob) == 0 {
			it.CiphertextBlob = made
		}
		made = nil
		if err := s.batchItem(w, caller, id, from+i, it, &made); err != nil {
			return err
		}
	}
	return w.Flush()
}

// batchItem performs one item as its action would be performed alone. The data
// key is in locked memory from here to the socket; made gets a re-wrapped blob.
func (s *Server) batchItem(w *frame.Writer, caller Caller, id uint64, index int, it *kmsapi.BatchItem, made *[]byte) error {
	var written error
	write := func(r *frame.Result) error {
		if it.Op == kmsapi.OpReEncrypt {
			*made = r.CiphertextBlob
		}
		written = w.Write(id, index, r)
		return nil
	}
	if err := s.svc.batchItem(caller, it, write); err != nil {
		return w.Write(id, index, &frame.Result{Err: apiError(s.log, it.Op, err)})
	}
	return written
}

// batchItem performs it and calls write with the result, whose plaintext is
// valid during the call only.
func (s *Service) batchItem(caller Caller, it *kmsapi.BatchItem, write func(*frame.Result) error) error {
	if err := checkItem(it); err != nil {
		return err
	}
	switch it.Op {
	case kmsapi.OpGenerateDataKey, kmsapi.OpGenerateDataKeyWithoutPlaintext:
		g := generating{caller: caller, action: it.Op, keyID: it.KeyID, context: it.EncryptionContext, length: it.NumberOfBytes}
		return s.generate(g, func(d dataKey) error {
			r := frame.Result{CiphertextBlob: d.sealed, KeyID: d.key.arn}
			if it.Op == kmsapi.OpGenerateDataKey {
				r.Plaintext = d.plaintext.Bytes()
			}
			return write(&r)
		})
	case kmsapi.OpDecrypt:
		o := opening{caller: caller, action: it.Op, keyID: it.KeyID, blob: it.CiphertextBlob, context: it.EncryptionContext}
		return s.open(o, func(p opened) error {
			return write(&frame.Result{KeyID: p.key.arn, Plaintext: p.plaintext.Bytes()})
		})
	}
	o := opening{caller: caller, action: reEncryptFrom, keyID: it.SourceKeyID, blob: it.CiphertextBlob, context: it.EncryptionContext}
	var out kmsapi.ReEncryptOutput
	if err := s.reEncrypt(o, sealing{keyID: it.KeyID, context: it.DestinationEncryptionContext}, &out); err != nil {
		return err
	}
	return write(&frame.Result{KeyID: out.KeyID, CiphertextBlob: out.CiphertextBlob})
}

// checkItem applies the limits of the API to an item.
func checkItem(it *kmsapi.BatchItem) error {
	var v violations
	switch it.Op {
	case kmsapi.OpGenerateDataKey, kmsapi.OpGenerateDataKeyWithoutPlaintext:
		v.text(it.KeyID, "keyId", kmsapi.MaxKeyID)
		v.number(&it.NumberOfBytes, "numberOfBytes", 1, kmsapi.MaxDataKey)
	case kmsapi.OpDecrypt:
		v.blob(it.CiphertextBlob, "ciphertextBlob", kmsapi.MaxCiphertextBlob)
		if it.KeyID != "" {
			v.text(it.KeyID, "keyId", kmsapi.MaxKeyID)
		}
	case kmsapi.OpReEncrypt:
		v.blob(it.CiphertextBlob, "ciphertextBlob", kmsapi.MaxCiphertextBlob)
		v.text(it.KeyID, "destinationKeyId", kmsapi.MaxKeyID)
		if it.SourceKeyID != "" {
			v.text(it.SourceKeyID, "sourceKeyId", kmsapi.MaxKeyID)
		}
	default:
		return errorf(kmsapi.CodeUnsupportedOperation, "%s is no operation of a batch.", it.Op)
	}
	return v.err()
}
