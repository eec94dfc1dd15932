package workload

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Observed is what a directory holds after a crash.
type Observed struct {
	State
	Unreadable map[int]error // files that can not be read
}

// Observe reads the whole directory.
func Observe(root string) (*Observed, error) {
	o := &Observed{State: State{map[string]Object{}, map[int][]byte{}}, Unreadable: map[int]error{}}
	inodes := map[uint64]int{}
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		name := strings.TrimPrefix(p, root+"/")
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return fmt.Errorf("lstat %s: %w", name, err)
		}
		switch {
		case d.IsDir():
			o.Names[name] = Object{Kind: 'd'}
		case d.Type() == os.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			o.Names[name] = Object{Kind: 'l', Target: target}
		case d.Type().IsRegular():
			id, seen := inodes[st.Ino]
			if !seen {
				id = len(inodes) + 1
				inodes[st.Ino] = id
				content, err := os.ReadFile(p)
				if err != nil {
					o.Unreadable[id] = err
				} else if int64(len(content)) != st.Size {
					return fmt.Errorf("%s: stat says %d bytes and %d were read", name, st.Size, len(content))
				}
				o.Files[id] = content
			}
			o.Names[name] = Object{Kind: 'f', File: id}
		default:
			return fmt.Errorf("%s is a %v", name, d.Type())
		}
		return nil
	})
	return o, err
}

// Limits says which states of a history a crash may have left.
type Limits struct {
	// NamesFrom and NamesTo bound the steps whose namespace may be there.
	NamesFrom, NamesTo int
	// DurableTo is the last step whose fsync counts; ContentTo the last step
	// whose writes may be there.
	DurableTo, ContentTo int
}

// Crash is the limits after the filesystem's process was killed: all completed
// operations are there, the last one perhaps.
func (w *Workload) Crash() Limits {
	last := len(w.Steps) - 1
	l := Limits{NamesFrom: last, NamesTo: last, DurableTo: last, ContentTo: last}
	if w.Steps[last].End < 0 {
		l.NamesFrom, l.DurableTo = last-1, last-1
	}
	return l
}

// Verify tells why what was observed is nothing the crash may have left.
func (w *Workload) Verify(o *Observed, l Limits) error {
	var problems []error
	for at := l.NamesTo; at >= l.NamesFrom; at-- {
		files, err := matchNames(o, w.Steps[at].After)
		if err == nil {
			err = w.verifyFiles(o, files, l)
		}
		if err == nil {
			return nil
		}
		problems = append(problems, fmt.Errorf("as after step %d (%s): %w", at, w.Steps[at].What, err))
	}
	return errors.Join(problems...)
}

// matchNames compares namespaces, and returns which observed file is which.
func matchNames(o *Observed, s State) (map[int]int, error) {
	files := map[int]int{} // ours to observed
	for _, name := range slices.Sorted(maps.Keys(s.Names)) {
		want, got := s.Names[name], o.Names[name]
		if got.Kind != want.Kind || got.Target != want.Target {
			return nil, fmt.Errorf("%s: got %q %q, want %q %q", name, got.Kind, got.Target, want.Kind, want.Target)
		}
		if want.Kind != 'f' {
			continue
		}
		if id, ok := files[want.File]; ok && id != got.File {
			return nil, fmt.Errorf("%s: not the same file as its other names", name)
		}
		files[want.File] = got.File
	}
	for name := range o.Names {
		if s.Names[name].Kind == 0 {
			return nil, fmt.Errorf("%s should not exist", name)
		}
	}
	return files, nil
}

func (w *Workload) verifyFiles(o *Observed, files map[int]int, l Limits) error {
	for id, seen := range files {
		if err := w.verifyFile(id, o.Files[seen], o.Unreadable[seen], l); err != nil {
			return fmt.Errorf("file %d: %w", id, err)
		}
	}
	return nil
}

// verifyFile compares a file's bytes with what it held at its last fsync and
// with every content it had since.
func (w *Workload) verifyFile(id int, got []byte, unreadable error, l Limits) error {
	durable := -1
	for i := 0; i <= l.DurableTo; i++ {
		s := &w.Steps[i]
		if _, exists := s.After.Files[id]; exists && (s.SyncedAll || slices.Contains(s.Synced, id)) {
			durable = i
		}
	}
	if unreadable != nil {
		if durable < 0 && errors.Is(unreadable, unix.EIO) {
			return nil // never written, and never claimed to be
		}
		return fmt.Errorf("can not be read, and was synced in step %d: %w", durable, unreadable)
	}
	var versions [][]byte
	for i := max(durable, 0); i <= l.ContentTo; i++ {
		if content, exists := w.Steps[i].After.Files[id]; exists && !sameSlice(versions, content) {
			versions = append(versions, content)
		}
	}
	if durable < 0 {
		versions = append(versions, nil) // before it was written
	}
	if len(versions) == 0 {
		return errors.New("never existed")
	}
	shortest, longest := len(versions[0]), len(versions[0])
	for _, v := range versions {
		shortest, longest = min(shortest, len(v)), max(longest, len(v))
	}
	if len(got) < shortest || len(got) > longest {
		return fmt.Errorf("%d bytes, want %d to %d (durable in step %d)", len(got), shortest, longest, durable)
	}
	for i, b := range got {
		// What was written and not synced may also read as zeros: a page that is
		// lost where the file had a hole.
		if b == 0 && slices.ContainsFunc(versions, func(v []byte) bool { return i >= len(v) || i >= len(versions[0]) || v[i] != versions[0][i] }) {
			continue
		}
		if !slices.ContainsFunc(versions, func(v []byte) bool { return i < len(v) && v[i] == b }) {
			return fmt.Errorf("byte %d of %d is %#x, which it never was since step %d (%d versions)",
				i, len(got), b, durable, len(versions))
		}
	}
	return nil
}

// sameSlice tells whether the last version is the same array: most steps
// change another file.
func sameSlice(versions [][]byte, content []byte) bool {
	if len(versions) == 0 {
		return false
	}
	last := versions[len(versions)-1]
	return len(last) == len(content) && (len(last) == 0 || &last[0] == &content[0])
}

// Restart makes what was observed the start of a new history. Unreadable
// files, which were never synced, are removed first: that has to work.
func (w *Workload) Restart(o *Observed) error {
	w.Close()
	for name, obj := range o.Names {
		if obj.Kind == 'f' && o.Unreadable[obj.File] != nil {
			if err := os.Remove(w.path(name)); err != nil {
				return err
			}
			delete(o.Names, name)
		}
	}
	o.forget()
	w.nextFile = 1
	for id := range o.Files {
		w.nextFile = max(w.nextFile, id+1)
	}
	w.Steps = []Step{{What: "restart", After: o.State, SyncedAll: true}}
	return nil
}

// Log returns the last steps of the history.
func (w *Workload) Log(n int) string {
	var b strings.Builder
	for i := max(0, len(w.Steps)-n); i < len(w.Steps); i++ {
		s := &w.Steps[i]
		fmt.Fprintf(&b, "%5d [%d,%d] %s\n", i, s.Start, s.End, s.What)
	}
	return b.String()
}

// Cut is the limits after a power cut: of the disk's recording the part before
// cut was issued, and of the operations that a disk keeps in order those
// before ordered persisted.
func (w *Workload) Cut(cut, ordered int64) Limits {
	var l Limits
	for i := range w.Steps {
		s := &w.Steps[i]
		if i == 0 || s.End >= 0 && s.End <= ordered {
			l.NamesFrom = i
		}
		if i == 0 || s.Start < ordered {
			l.NamesTo = i
		}
		if i == 0 || s.End >= 0 && s.End <= cut {
			l.DurableTo = i
		}
		if i == 0 || s.Start < cut {
			l.ContentTo = i
		}
	}
	// A step that recorded nothing ends where it starts.
	l.NamesTo = max(l.NamesTo, l.NamesFrom)
	l.ContentTo = max(l.ContentTo, l.DurableTo)
	return l
}

// Same tells how another observation of the directory differs.
func (o *Observed) Same(other *Observed) error {
	files, err := matchNames(other, o.State)
	if err != nil {
		return err
	}
	for id, seen := range files {
		if (o.Unreadable[id] == nil) != (other.Unreadable[seen] == nil) {
			return fmt.Errorf("file %d: was %v, is %v", id, o.Unreadable[id], other.Unreadable[seen])
		}
		if !bytes.Equal(o.Files[id], other.Files[seen]) {
			return fmt.Errorf("file %d: other content", id)
		}
	}
	return nil
}
