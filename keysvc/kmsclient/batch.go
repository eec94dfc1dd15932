package kmsclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/internal/frame"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// reconnectPatience is how long Batch looks for a service that went away.
const reconnectPatience = 10 * time.Second

// Batch performs items and returns one result for each, in their order. Items
// fail by themselves, in BatchResult.Err; the error is for a service that could
// not be asked.
//
// When the service goes away in the middle, the batch is sent again to the next
// one. That is safe: no operation of a batch changes anything in the service.
func (c *Client) Batch(ctx context.Context, items []kmsapi.BatchItem) ([]kmsapi.BatchResult, error) {
	results := make([]kmsapi.BatchResult, len(items))
	for from := 0; from < len(items); {
		n, err := c.part(ctx, items[from:], results[from:])
		if err != nil {
			wipeResults(results)
			return nil, err
		}
		from += n
	}
	return results, nil
}

// Begin is Batch in two halves: the service works on the items until the
// function that Begin returns, which must be called once, waits for it. laneTimeout
// bounds each step of the first try; only where that fails, and everything is asked
// again, the deadline does: a context costs as much as a system call, and mostly the
// answer is there in microseconds.
func (c *Client) Begin(deadline time.Time, items []kmsapi.BatchItem) func() ([]kmsapi.BatchResult, error) {
	again := func() ([]kmsapi.BatchResult, error) {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		return c.Batch(ctx, items)
	}
	if len(items) > laneItems {
		return again
	}
	l, err := c.takeLane(context.Background())
	if err != nil || l == nil {
		return again
	}
	if err := l.send(context.Background(), items); err != nil {
		c.giveBack(l, err)
		return again
	}
	return func() ([]kmsapi.BatchResult, error) {
		results := make([]kmsapi.BatchResult, len(items))
		err := l.receive(results)
		c.giveBack(l, err)
		if err != nil {
			wipeResults(results)
			return again()
		}
		return results, nil
	}
}

func wipeResults(results []kmsapi.BatchResult) {
	for i := range results {
		secret.Wipe(results[i].Plaintext)
	}
}

// part performs as many of the first items as fit into one request.
func (c *Client) part(ctx context.Context, items []kmsapi.BatchItem, results []kmsapi.BatchResult) (int, error) {
	n, err := fit(items)
	if err != nil {
		return 0, err
	}
	err = retryLost(ctx, func() error {
		err := c.tryPart(ctx, items[:n], results[:n])
		if err != nil {
			wipeResults(results[:n])
		}
		if errors.Is(err, frame.ErrFormat) {
			return c.foreign(err)
		}
		return err
	})
	return n, err
}

// retryLost calls try again as long as the connection breaks under it.
func retryLost(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(reconnectPatience)
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		err := try()
		var lost *lostError
		if !errors.As(err, &lost) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("key service: %w", ctx.Err())
		case <-time.After(delay):
		}
	}
}

func (c *Client) tryPart(ctx context.Context, items []kmsapi.BatchItem, results []kmsapi.BatchResult) error {
	if len(items) <= laneItems {
		l, err := c.takeLane(ctx)
		if err != nil {
			return err
		}
		if l != nil {
			err := l.roundTrip(ctx, items, results)
			c.giveBack(l, err)
			return err
		}
	}
	b, err := c.batchConn(ctx)
	if err != nil {
		return err
	}
	return b.roundTrip(ctx, items, results)
}

// lostError is a connection that broke: the batch may be sent again.
type lostError struct{ err error }

func (e *lostError) Error() string { return "the key service went away: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// broken is the error of a connection on which err ended the reading of
// results. It was lost, unless the peer made no sense: the next time it would
// make none either.
func broken(err error) error {
	if errors.Is(err, frame.ErrFormat) {
		return err
	}
	return &lostError{err}
}

// softRequest is where a request ends and the next one begins: the service
// refuses frames over frame.MaxRequest.
const softRequest = frame.MaxRequest / 4

// fit returns how many items fit into one request, at least one.
func fit(items []kmsapi.BatchItem) (int, error) {
	size := 0
	for i := range items {
		one := itemSize(&items[i])
		if one > frame.MaxRequest/2 {
			return 0, fmt.Errorf("key service: an item of %d bytes is too large", one)
		}
		if i == frame.MaxItems || (i > 0 && size+one > softRequest) {
			return i, nil
		}
		size += one
	}
	return len(items), nil
}

// itemSize is at least what the item takes in a frame.
func itemSize(it *kmsapi.BatchItem) int {
	n := 64 + len(it.KeyID) + len(it.SourceKeyID) + len(it.CiphertextBlob)
	for _, ctx := range []map[string]string{it.EncryptionContext, it.DestinationEncryptionContext} {
		for k, v := range ctx {
			n += 10 + len(k) + len(v)
		}
	}
	return n
}
