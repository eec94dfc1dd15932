package store

import (
	"bytes"
	"context"
	"strings"
	"sync"
)

// maxPending is how many transactions a watcher may be behind.
const maxPending = 256

// watcher is one call of Watch.
type watcher struct {
	prefix string
	wake   chan struct{} // has room for one

	mu      sync.Mutex // guards what follows
	pending []Changes
	behind  bool // it is to begin anew, and pending is empty
	closed  bool
}

// tell notes a committed transaction. It does not wait for the watcher.
func (w *watcher) tell(changes map[string]Change) {
	var c Changes
	for name, change := range changes {
		if strings.HasPrefix(name, w.prefix) {
			change.Value = bytes.Clone(change.Value)
			c.Records = append(c.Records, change)
		}
	}
	if len(c.Records) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == maxPending {
		w.pending, w.behind = nil, true
	}
	if !w.behind {
		w.pending = append(w.pending, c)
	}
	w.wakeUp()
}

func (w *watcher) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.wakeUp()
}

func (w *watcher) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Watch is described at Store.
func (b *Badger) Watch(ctx context.Context, prefix string, fn func(Changes) error) error {
	w := &watcher{prefix: prefix, wake: make(chan struct{}, 1), behind: true}
	defer b.unwatch(w)
	for {
		next, err := b.next(w)
		if err != nil {
			return err
		}
		for _, c := range next {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(c); err != nil {
				return err
			}
		}
		if len(next) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
		}
	}
}

// next takes what w has not seen yet.
func (b *Badger) next(w *watcher) ([]Changes, error) {
	w.mu.Lock()
	next, behind, closed := w.pending, w.behind, w.closed
	w.pending = nil
	w.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case behind:
		all, err := b.beginWatch(w)
		return []Changes{all}, err
	}
	return next, nil
}

// beginWatch reads all that w watches. No transaction is committed between that
// and the first one that w is told of.
func (b *Badger) beginWatch(w *watcher) (Changes, error) {
	b.committing.Lock()
	defer b.committing.Unlock()
	all := Changes{All: true}
	if b.closed {
		return all, ErrClosed
	}
	err := b.View(func(x Tx) error {
		return x.Scan(w.prefix, func(name string, value []byte) error {
			all.Records = append(all.Records, Change{Name: name, Value: value})
			return nil
		})
	})
	if err != nil {
		return all, err
	}
	b.watchers[w] = struct{}{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending, w.behind = nil, false
	return all, nil
}

func (b *Badger) unwatch(w *watcher) {
	b.committing.Lock()
	defer b.committing.Unlock()
	delete(b.watchers, w)
}
