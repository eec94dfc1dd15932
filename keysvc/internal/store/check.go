package store

import (
	"errors"
	"fmt"
	"io/fs"
)

// ChangedError says that a store does not hold what was last written to it.
type ChangedError struct {
	What string
	// Acceptable is set when every record that is there can be read, so that one
	// could go on with them.
	Acceptable bool
}

func (e *ChangedError) Error() string { return e.What }

func changed(format string, args ...any) error {
	return &ChangedError{What: fmt.Sprintf(format, args...), Acceptable: true}
}

// check compares the store with its manifest and its mark.
func (s *Sealed) check() error {
	err := s.verify()
	var c *ChangedError
	if !errors.As(err, &c) {
		return err
	}
	// What can be said of single records says more.
	if single := s.checkEach(); single != nil {
		return single
	}
	return err
}

// verify is check without opening any record but the manifest.
func (s *Sealed) verify() error {
	m, is, err := s.readBoth()
	missing := errors.Is(err, ErrNotFound)
	if err != nil && !missing {
		return err
	}
	mark, err := s.mark.Load()
	unmarked := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !unmarked:
		return changed("the number of the last change, which is kept beside the database, cannot be read: %v", err)
	case missing && mark == 0:
		return s.begin(is, unmarked)
	case missing:
		return changed("the database is empty or has lost its manifest, and there were %d changes", mark)
	case unmarked:
		return changed("the number of the last change, which is kept beside the database, is missing")
	case m.number < mark:
		return changed("the database is older than it was: its last change is number %d, and there were %d", m.number, mark)
	case m.records != is.records || m.sum != is.sum:
		return changed("records were dropped, added or put back: there are %d, and change number %d left %d", is.records, m.number, m.records)
	case m.number > mark:
		// A crash came between the commit and its mark.
		return s.mark.Save(m.number)
	}
	return nil
}

// readBoth returns the manifest, and what it should be for what is there. When
// there is no manifest the error is ErrNotFound, and is is valid.
func (s *Sealed) readBoth() (m, is manifest, err error) {
	err = s.store.View(func(t Tx) error {
		if is, err = s.count(t); err != nil {
			return err
		}
		m, err = readManifest(t, s.sealer)
		return err
	})
	return m, is, err
}

// count makes the manifest of what is there, but for its number.
func (s *Sealed) count(t Tx) (m manifest, err error) {
	err = t.Scan("", func(name string, sealed []byte) error {
		if name != manifestName {
			m.add(s.sealer.Digest(name, sealed))
		}
		return nil
	})
	return m, err
}

// begin gives a store its first manifest: a new one, or one from before there
// were manifests.
func (s *Sealed) begin(is manifest, unmarked bool) error {
	if is.records > 0 {
		err := s.eachRecord(func(_ string, authentic, legacy bool) error {
			if authentic && legacy {
				return nil
			}
			return changed("the manifest of the records is missing")
		})
		if err != nil {
			return err
		}
	}
	// The mark comes first: from now on a database without a mark has lost it.
	if unmarked {
		if err := s.mark.Save(0); err != nil {
			return err
		}
	}
	return s.accept(0)
}

// accept takes what is there for what should be, after change number last.
func (s *Sealed) accept(last uint64) error {
	number := last + 1
	err := s.store.Update(func(t Tx) error {
		m, err := s.count(t)
		if err != nil {
			return err
		}
		m.number = number
		return writeManifest(t, s.sealer, m)
	})
	if err != nil {
		return fmt.Errorf("write the manifest of the records: %w", err)
	}
	return s.mark.Save(number)
}

// acceptChanged is accept for a store that check refused.
func (s *Sealed) acceptChanged() error {
	m, _, err := s.readBoth()
	var c *ChangedError
	if err != nil && !errors.As(err, &c) && !errors.Is(err, ErrNotFound) {
		return err
	}
	last := m.number
	// One that cannot be read is replaced.
	if mark, err := s.mark.Load(); err == nil {
		last = max(last, mark)
	}
	return s.accept(last)
}

// checkEach looks for records that cannot be opened.
func (s *Sealed) checkEach() error {
	var bad []string
	good := 0
	err := s.eachRecord(func(name string, authentic, _ bool) error {
		if authentic {
			good++
		} else if name != manifestName { // it can be made anew
			bad = append(bad, name)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(bad) == 0:
		return nil
	case good == 0:
		return &ChangedError{What: "no record can be opened: they were sealed under another root key"}
	}
	return &ChangedError{What: fmt.Sprintf("%d records were changed or are of another store, such as %s", len(bad), bad[0])}
}

func (s *Sealed) eachRecord(fn func(name string, authentic, legacy bool) error) error {
	return s.store.View(func(t Tx) error {
		return t.Scan("", func(name string, sealed []byte) error {
			authentic, legacy, err := s.sealer.Check(name, sealed)
			if err != nil {
				return fmt.Errorf("check record %s: %w", name, err)
			}
			return fn(name, authentic, legacy)
		})
	})
}
