package keysvc

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/audit"
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
	direct, err := c.(*conn).leavePoller()
	if err != nil {
		s.log.Error("upgrade a connection", "error", err)
		return
	}
	// What the client sent too early is in the reader already.
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	b := &batchConn{Server: s, conn: c, w: frame.NewWriter(direct), caller: caller, origin: originOf(r),
		free: make(chan *batchWork, max(2, runtime.GOMAXPROCS(0)))}
	err = b.loop(bufio.NewReader(io.MultiReader(bytes.NewReader(early), direct)))
	switch {
	case errors.Is(err, frame.ErrFormat):
		s.log.Warn("closed a batch connection", "principal", caller.ARN, "pid", caller.Peer.PID, "error", err)
		s.svc.recordRefusal(refusedBatch, caller, b.origin, &kmsapi.Error{Code: kmsapi.CodeSerialization, Message: "The frame is malformed."})
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
		s.log.Debug("batch connection", "error", err)
	}
}

// batchConn is a connection that speaks the batch protocol.
type batchConn struct {
	*Server
	conn   net.Conn
	w      *frame.Writer
	caller Caller
	origin origin
	hired  int
	free   chan *batchWork // of those who work on large requests
}

// batchWork is what one goroutine needs to work off items.
type batchWork struct {
	results *frame.Results
	calls   []call
	records []*audit.Record
}

// loop reads requests until the peer hangs up. Requests overlap: up to as
// many chunks as there are processors are worked off at once, and the next
// request is read meanwhile.
func (b *batchConn) loop(r *bufio.Reader) error {
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		for len(b.free) > 0 {
			(<-b.free).results.Close()
		}
	}()
	own, err := newBatchWork()
	if err != nil {
		return err
	}
	defer own.results.Close()
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
			if err := b.chunk(own, id, 0, items); err != nil {
				return err
			}
			continue
		}
		if err := b.hire(); err != nil {
			return err
		}
		for from := 0; from < len(items); from += chunkItems {
			chunk := items[from:min(from+chunkItems, len(items))]
			work := <-b.free
			wg.Go(func() {
				defer func() { b.free <- work }()
				if err := b.chunk(work, id, from, chunk); err != nil {
					b.conn.Close() // ends the loop as well
				}
			})
		}
		if cap(buf) > 64<<10 {
			buf = nil // one large request must not cost memory for ever
		}
	}
}

// hire makes what the work on large requests needs: many connections never have
// one, and locked memory is scarce.
func (b *batchConn) hire() error {
	for b.hired < cap(b.free) {
		work, err := newBatchWork()
		if err != nil {
			return err
		}
		b.free <- work
		b.hired++
	}
	return nil
}

func newBatchWork() (*batchWork, error) {
	results, err := frame.NewResults()
	if err != nil {
		return nil, err
	}
	return &batchWork{results: results}, nil
}

// chunk performs items, writes all their records and only then sends their
// results. When the records cannot be written, the results are wiped and all of the
// items are refused.
func (b *batchConn) chunk(work *batchWork, id uint64, from int, items []kmsapi.BatchItem) error {
	defer work.results.Drop()
	work.begin(len(items))
	var made remade // by the item before, for a Decrypt that takes it
	defer made.drop()
	for i := range items {
		it := &items[i]
		if it.Op == kmsapi.OpDecrypt && len(it.CiphertextBlob) == 0 {
			it.CiphertextBlob = made.blob
		}
		if err := b.item(work, id, from+i, &work.calls[i], it, &made); err != nil {
			return err
		}
		if it.Op != kmsapi.OpReEncrypt {
			made.drop()
		}
	}
	if err := b.svc.recordAll(work.records); err != nil {
		work.results.Drop()
		refusal := frame.Result{Err: apiError(b.log, "batch", err)}
		for i := range items {
			if err := work.results.Add(id, from+i, &refusal); err != nil {
				return err
			}
		}
	}
	return b.w.Send(work.results)
}

// begin makes room for the calls of n items.
func (work *batchWork) begin(n int) {
	if cap(work.calls) < n {
		work.calls = make([]call, n)
		work.records = make([]*audit.Record, n)
		for i := range work.calls {
			work.records[i] = &work.calls[i].record
		}
	}
	work.calls, work.records = work.calls[:n], work.records[:n]
	clear(work.calls)
}

// item performs one item as its action would be performed alone. The data
// key is in locked memory from here to the socket. A ReEncrypt fills in made, for the
// Decrypt that follows.
func (b *batchConn) item(work *batchWork, id uint64, index int, c *call, it *kmsapi.BatchItem, made *remade) error {
	c.begin(it.Op, b.origin)
	caller := b.caller
	caller.call = c
	c.madeBy(caller)
	c.takesItem(it)
	var added error
	add := func(r *frame.Result) error {
		added = work.results.Add(id, index, r)
		return nil
	}
	if err := b.svc.itemFor(caller, it, made, add); err != nil {
		made.drop() // nobody gets what was refused
		e := apiError(b.log, it.Op, err)
		c.ends(e)
		return work.results.Add(id, index, &frame.Result{Err: e})
	}
	return added
}

// itemFor is batchItem for whom the item is to be decided.
func (s *Service) itemFor(caller Caller, it *kmsapi.BatchItem, made *remade, write func(*frame.Result) error) error {
	if it.ActAs != nil {
		other, err := s.actAs(caller, *it.ActAs)
		if err != nil {
			return err
		}
		caller = other
		caller.call.madeBy(caller)
	}
	return s.batchItem(caller, it, made, write)
}

// batchItem performs it and calls write with the result, whose plaintext is
// valid during the call only.
func (s *Service) batchItem(caller Caller, it *kmsapi.BatchItem, made *remade, write func(*frame.Result) error) error {
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
		o := opening{caller: caller, action: it.Op, keyID: it.KeyID, blob: it.CiphertextBlob, context: it.EncryptionContext, made: made}
		return s.open(o, func(p opened) error {
			return write(&frame.Result{KeyID: p.key.arn, Plaintext: p.plaintext.Bytes()})
		})
	}
	o := opening{caller: caller, action: reEncryptFrom, keyID: it.SourceKeyID, blob: it.CiphertextBlob, context: it.EncryptionContext}
	var out kmsapi.ReEncryptOutput
	to := sealing{keyID: it.KeyID, context: it.DestinationEncryptionContext, made: made}
	if err := s.reEncrypt(o, to, &out); err != nil {
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
