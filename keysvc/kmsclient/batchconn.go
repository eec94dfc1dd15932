package kmsclient

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/frame"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// upgradeTimeout bounds the HTTP exchange before the first frame.
const upgradeTimeout = 10 * time.Second

// batchConn is a connection that speaks the batch protocol. Requests overlap;
// one goroutine reads all results.
type batchConn struct {
	conn net.Conn

	writing sync.Mutex // held while a frame is written; guards buf
	buf     []byte

	mu      sync.Mutex // guards what follows
	next    uint64
	pending map[uint64]*pending
	err     error // why the connection is of no use any more
}

// pending is a request that waits for results.
type pending struct {
	results []kmsapi.BatchResult // the caller's, until done or given up
	seen    []bool
	missing int
	done    chan struct{}
	err     error // set before done is closed
}

// batchConn returns the client's connection, or makes a new one.
func (c *Client) batchConn(ctx context.Context) (*batchConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if c.batch != nil && c.batch.usable() {
		return c.batch, nil
	}
	c.batch = nil
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.upgrade(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	b := &batchConn{conn: conn, pending: map[uint64]*pending{}}
	results, err := frame.NewReader(r)
	if err != nil {
		conn.Close()
		return nil, err
	}
	go b.readLoop(results)
	c.batch = b
	return b, nil
}

// upgrade asks for the batch protocol and returns what to read results from.
func (c *Client) upgrade(ctx context.Context, conn net.Conn) (io.Reader, error) {
	deadline := time.Now().Add(upgradeTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodGet, "http://kmsfs"+kmsapi.BatchPath, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", kmsapi.BatchUpgrade)
	if err := req.Write(conn); err != nil {
		return nil, &lostError{err}
	}
	// Nothing follows the answer before our first request, so this reader
	// takes nothing that the results' locked buffer should have.
	r := bufio.NewReader(conn)
	if _, err := r.Peek(1); err != nil {
		return nil, &lostError{err} // a service that leaves says nothing
	}
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, c.foreign(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || r.Buffered() != 0 {
		return nil, c.foreign(fmt.Errorf("%s to %s", resp.Status, kmsapi.BatchUpgrade))
	}
	return conn, conn.SetDeadline(time.Time{})
}

func (b *batchConn) usable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err == nil
}

// close fails all pending requests with err.
func (b *batchConn) close(err error) {
	b.conn.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	for id, p := range b.pending {
		delete(b.pending, id)
		p.err = b.err
		close(p.done)
	}
}

// roundTrip sends items and waits for all of their results.
func (b *batchConn) roundTrip(ctx context.Context, items []kmsapi.BatchItem, results []kmsapi.BatchResult) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("key service: %w", err)
	}
	p := &pending{results: results, seen: make([]bool, len(items)), missing: len(items), done: make(chan struct{})}
	id, err := b.register(p)
	if err != nil {
		return err
	}
	if err := b.send(id, items); err != nil {
		b.forget(id)
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		b.forget(id) // results that still come are wiped
		return fmt.Errorf("key service: %w", ctx.Err())
	}
}

func (b *batchConn) register(p *pending) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	b.next++
	b.pending[b.next] = p
	return b.next, nil
}

// forget returns with results no longer written to.
func (b *batchConn) forget(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pending, id)
}

func (b *batchConn) send(id uint64, items []kmsapi.BatchItem) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	buf := frame.BeginRequest(b.buf[:0], id, len(items))
	var err error
	for i := range items {
		if buf, err = frame.AppendItem(buf, &items[i]); err != nil {
			return err
		}
	}
	if err := frame.EndRequest(buf); err != nil {
		return err
	}
	if cap(buf) <= 64<<10 {
		b.buf = buf // one large batch must not cost memory for ever
	}
	if _, err := b.conn.Write(buf); err != nil {
		lost := &lostError{err}
		b.close(lost) // half a frame may be out
		return lost
	}
	return nil
}

func (b *batchConn) readLoop(r *frame.Reader) {
	defer r.Close()
	for {
		id, index, res, err := r.Read()
		if err == nil {
			err = b.deliver(id, index, res)
		}
		if err != nil {
			b.close(broken(err))
			return
		}
	}
}

// deliver puts a result where it belongs.
func (b *batchConn) deliver(id uint64, index int, res kmsapi.BatchResult) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pending[id]
	if p == nil {
		secret.Wipe(res.Plaintext) // its caller gave up
		return nil
	}
	if index >= len(p.results) || p.seen[index] {
		secret.Wipe(res.Plaintext)
		return frame.ErrFormat
	}
	p.results[index], p.seen[index] = res, true
	if p.missing--; p.missing == 0 {
		delete(b.pending, id)
		close(p.done)
	}
	return nil
}
