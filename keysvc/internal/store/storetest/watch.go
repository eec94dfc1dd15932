package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/store"
)

// watching is a watcher that runs.
type watching struct {
	told  chan store.Changes
	done  chan error
	stop  context.CancelFunc
	known map[string]string // what it knows of the records
}

func watch(t *testing.T, s store.Store, prefix string) *watching {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{told: make(chan store.Changes), done: make(chan error, 1), stop: cancel}
	t.Cleanup(cancel)
	go func() {
		w.done <- s.Watch(ctx, prefix, func(c store.Changes) error {
			select {
			case w.told <- c:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	if first := w.next(t); !first.All {
		t.Errorf("a watcher begins with %+v", first)
	}
	return w
}

// next waits for what the watcher is told.
func (w *watching) next(t *testing.T) store.Changes {
	t.Helper()
	select {
	case c := <-w.told:
		if c.All {
			w.known = map[string]string{}
		}
		seen := map[string]bool{}
		for _, r := range c.Records {
			if seen[r.Name] {
				t.Errorf("%s is in a transaction twice", r.Name)
			}
			seen[r.Name] = true
			if r.Deleted {
				delete(w.known, r.Name)
			} else {
				w.known[r.Name] = string(r.Value)
			}
		}
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("a watcher is told nothing")
		panic("unreachable")
	}
}

func (w *watching) ended(t *testing.T, want error) {
	t.Helper()
	select {
	case err := <-w.done:
		if !errors.Is(err, want) {
			t.Errorf("Watch ends with %v, not with %v", err, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Watch does not end")
	}
}

// testWatch leaves the store closed.
func testWatch(t *testing.T, s store.Store) {
	update := func(fn func(store.Tx) error) {
		t.Helper()
		if err := s.Update(fn); err != nil {
			t.Fatal(err)
		}
	}
	set := func(name, value string) {
		t.Helper()
		update(func(x store.Tx) error { return x.Set(name, []byte(value)) })
	}
	is := func(w *watching, want map[string]string) {
		t.Helper()
		if !maps.Equal(w.known, want) {
			t.Errorf("a watcher knows %v, not %v", w.known, want)
		}
	}
	set("w/1", "a")
	set("w/2", "b")
	set("wx", "no")
	w := watch(t, s, "w/")
	is(w, map[string]string{"w/1": "a", "w/2": "b"})

	// A transaction comes whole, with its last word on each record, and nothing
	// of what others watch.
	set("wx", "still not")
	update(func(x store.Tx) error {
		return errors.Join(x.Set("w/1", []byte("x")), x.Set("w/1", []byte("a2")), x.Set("wy", nil), x.Set("w/3", nil), x.Delete("w/2"))
	})
	if c := w.next(t); c.All || len(c.Records) != 3 {
		t.Errorf("a transaction of 3 records is %+v", c)
	}
	is(w, map[string]string{"w/1": "a2", "w/3": ""})

	// What is not committed is not told.
	boom := errors.New("boom")
	if err := s.Update(func(x store.Tx) error { return errors.Join(x.Set("w/1", []byte("never")), boom) }); !errors.Is(err, boom) {
		t.Errorf("Update returns %v", err)
	}
	set("w/4", "d")
	w.next(t)
	is(w, map[string]string{"w/1": "a2", "w/3": "", "w/4": "d"})

	// In the order of commits, for each of several watchers.
	other := watch(t, s, "")
	for i := range 50 {
		set("w/n", fmt.Sprint(i))
	}
	for i := range 50 {
		for _, x := range []*watching{w, other} {
			if x.next(t); x.known["w/n"] != fmt.Sprint(i) {
				t.Fatalf("change %d arrives as %s", i, x.known["w/n"])
			}
		}
	}
	other.stop()
	other.ended(t, context.Canceled)

	// One that does not listen holds up nobody, and knows all in the end.
	const many = 2000
	for i := range many {
		set("w/n", fmt.Sprint(i))
	}
	update(func(x store.Tx) error { return x.Delete("w/3") })
	for n := 0; ; n++ {
		w.next(t)
		if _, there := w.known["w/3"]; !there {
			break
		}
		if n > many {
			t.Fatal("a slow watcher never hears of the last change")
		}
	}
	is(w, map[string]string{"w/1": "a2", "w/4": "d", "w/n": fmt.Sprint(many - 1)})

	// fn's error ends the watch.
	if err := s.Watch(t.Context(), "", func(store.Changes) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("Watch returns %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Watch(over, "", func(store.Changes) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch returns %v", err)
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	w.ended(t, store.ErrClosed)
	if err := s.Watch(t.Context(), "", func(store.Changes) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Watch of a closed store returns %v", err)
	}
}
