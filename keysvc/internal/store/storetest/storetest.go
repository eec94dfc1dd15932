// Package storetest is the conformance suite of package store: every
// implementation passes it.
package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/internal/store"
)

// Run tests the store that open makes. open is called again, after Close, to
// see what survived.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("Records", func(t *testing.T) { testRecords(t, open) })
	t.Run("Size", func(t *testing.T) { testSize(t, open(t)) })
	t.Run("Watch", func(t *testing.T) { testWatch(t, open(t)) })
}

// testSize: a transaction is large enough, or nothing happens.
func testSize(t *testing.T, s store.Store) {
	fill := func(prefix string, n int) error {
		return s.Update(func(x store.Tx) error {
			for i := range n {
				if err := x.Set(fmt.Sprint(prefix, i), make([]byte, 1024)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := fill("size/fits/", 256); err != nil {
		t.Errorf("256 records of a kilobyte: %v", err)
	}
	if err := fill("size/huge/", 1<<17); err != nil && !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("%d records of a kilobyte: %v", 1<<17, err)
	} else if err != nil {
		err := s.View(func(x store.Tx) error {
			return x.Scan("size/huge/", func(name string, _ []byte) error { return errors.New(name) })
		})
		if err != nil {
			t.Errorf("a transaction that was refused left %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func testRecords(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	set := func(name, value string) {
		t.Helper()
		if err := s.Update(func(x store.Tx) error { return x.Set(name, []byte(value)) }); err != nil {
			t.Fatalf("Set(%s): %v", name, err)
		}
	}
	get := func(name string) (string, error) {
		var v []byte
		err := s.View(func(x store.Tx) (err error) {
			v, err = x.Get(name)
			return err
		})
		return string(v), err
	}

	if _, err := get("a/1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get of nothing: %v", err)
	}
	for _, name := range []string{"b/1", "a/2", "a/10", "a", "a/1"} {
		set(name, "v"+name)
	}
	if v, err := get("a/10"); v != "va/10" || err != nil {
		t.Errorf("Get(a/10) = %q, %v", v, err)
	}

	names := func() (all []string) {
		t.Helper()
		err := s.View(func(x store.Tx) error {
			return x.Scan("a/", func(name string, value []byte) error {
				if string(value) != "v"+name {
					t.Errorf("Scan: %s has value %q", name, value)
				}
				all = append(all, name)
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := names(); !slices.Equal(got, []string{"a/1", "a/10", "a/2"}) {
		t.Errorf("Scan gives %q", got)
	}

	boom := errors.New("boom")
	err := s.Update(func(x store.Tx) error {
		if err := x.Delete("a/1"); err != nil {
			return err
		}
		if _, err := x.Get("a/1"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a transaction does not see its own delete: %v", err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("Update returns %v", err)
	}
	if _, err := get("a/1"); err != nil {
		t.Errorf("a failed transaction left its delete behind: %v", err)
	}

	// Serializable: increments by many writers all count.
	const writers, each = 4, 10
	set("n", "0")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				err := s.Update(func(x store.Tx) error {
					v, err := x.Get("n")
					if err != nil {
						return err
					}
					n, err := strconv.Atoi(string(v))
					if err != nil {
						return err
					}
					return x.Set("n", fmt.Append(nil, n+1))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v, _ := get("n"); v != fmt.Sprint(writers*each) {
		t.Errorf("%d increments make %s", writers*each, v)
	}

	// A deleted record stays deleted, a set one stays.
	if err := s.Update(func(x store.Tx) error { return x.Delete("a/2") }); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t)
		if got := names(); !slices.Equal(got, []string{"a/1", "a/10"}) {
			t.Errorf("after reopening, Scan gives %q", got)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
