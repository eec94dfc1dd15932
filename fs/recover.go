package fs

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// recover finds the end of a file that a crash may have left in the middle of
// a change, and repairs its size and final page. Nothing below the durable
// length L is given up: from page(L) on, full authentic pages are accepted;
// the first final, missing or zero page ends the file. Where that leaves it ending
// in a hole, st_size tells the length if it lies in the hole's last page. A page that is there but not authentic
// is damage, not a crash's doing. Holds: f.mu.
func (f *file) recover() error {
	geom := &f.r.geom
	start, _ := geom.FinalPage(int64(f.hdr.Durable))
	page := getPages(1)
	defer putPages(page)
	plain := getPages(1)
	defer putPages(plain)

	end := int64(-1) // last page that is there
	used, final := 0, false
	lastHole := int64(-1) // last page that is legitimately absent
	pages := f.size / content.PageSize
scan:
	for p := start; p < pages; p++ {
		n, err := backing.Pread(f.fd, page, p*content.PageSize)
		if err != nil {
			return err
		}
		clear(page[n:])
		used, final, err = f.cipher.Open(plain, page, p, f.hdr.Epoch)
		switch {
		case errors.Is(err, content.ErrAbsent):
			if !f.inHole(p) {
				break scan
			}
			if p, err = f.skipHole(p); err != nil {
				return err
			}
			lastHole = min(p, pages-1)
			continue
		case err != nil:
			return f.damaged(p, "page of an unsettled file", err)
		}
		end = p
		if final {
			break
		}
	}
	hole := lastHole > end
	switch {
	case hole:
		end, used = lastHole, geom.DataIn(lastHole)
		if length, ok := geom.LengthFromSize(f.size); ok {
			if last, u := geom.FinalPage(length); last == end {
				used = u
			}
		}
	case end < 0 && f.hdr.Durable > 0:
		return f.damaged(start, "durable end of the file is missing", nil)
	case end < 0:
		end, used, final = 0, 0, false
	case !final:
		used = geom.DataIn(end)
	}
	length := geom.Start(end) + int64(used)
	f.resized = true
	if f.readonly {
		f.setLength(length)
		f.noMarks = !final
		return nil
	}
	if !final {
		if err := f.writeEnd(page, plain, end, used, hole); err != nil {
			return err
		}
	}
	if err := f.setSize(length); err != nil {
		return err
	}
	f.setLength(length)
	f.cutHoles(end + 1)
	f.noteFilled(end, end)
	f.r.settle.dirty.Store(true)
	return nil
}

// skipHole returns the last page before the next one in the hole at p that has
// data, or the hole's last page.
func (f *file) skipHole(p int64) (int64, error) {
	hole := f.holeAt(p)
	last := hole.First + hole.Count - 1
	pos, err := backing.Seek(f.fd, (p+1)*content.PageSize, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return last, nil
	}
	if err != nil {
		return 0, err
	}
	return min(last, max(p, pos/content.PageSize-1)), nil
}

// writeEnd makes page end, which is full or the last of a hole, the final one.
func (f *file) writeEnd(page, plain []byte, end int64, used int, hole bool) error {
	if hole {
		clear(plain)
	} else if used > 0 {
		n, err := backing.Pread(f.fd, page, end*content.PageSize)
		if err != nil {
			return err
		}
		clear(page[n:])
		if _, _, err := f.cipher.Open(plain, page, end, f.hdr.Epoch); err != nil {
			return f.damaged(end, "page of an unsettled file", err)
		}
	}
	if err := f.seal(page, end, plain[:used], true); err != nil {
		return err
	}
	if end == 0 {
		if err := f.r.sealer.MarshalHeader(page[:format.HeaderSize], f.hdr); err != nil {
			return err
		}
		f.dropFirst()
	}
	return backing.Pwrite(f.fd, page, end*content.PageSize)
}

// recovering reports whether files of a crashed session may still wait for
// their check.
func (r *Root) recovering() bool { return r.crashed() && !r.recovered.Load() }

// recoverAll checks every file that a crashed session may have left unsettled,
// in the background. When all are sound the volume is settled as after a
// clean unmount; files whose key is refused keep it from that.
func (r *Root) recoverAll() {
	defer r.stopped.Done()
	ok := r.recoverDir(r.root)
	select {
	case <-r.stop:
		return
	default:
	}
	if !ok {
		r.log.Warn("some files could not be checked after the crash; they will be at the next mount")
		return
	}
	r.recovered.Store(true)
	if err := r.runBarrier(); err != nil {
		r.log.Error("barrier after the crash check failed", "err", err)
		return
	}
	r.log.Info("checked all files after the crash")
}

// recoverDir checks the files below the directory n; false if one is left.
func (r *Root) recoverDir(n *node) (ok bool) {
	d, list, err := r.listDir(n)
	if err != nil {
		return isDamage(err) // which is fsck's to tell, and no crash's doing
	}
	defer r.release1(d)
	defer list.Close()
	ok = true
	for {
		select {
		case <-r.stop:
			return false
		default:
		}
		e, more, err := list.Next()
		if err != nil || !more {
			return ok && err == nil
		}
		for _, prefix := range []string{tmpPrefix, delPrefix} {
			if rest, ok := strings.CutPrefix(e.Name, prefix); ok && !strings.HasPrefix(rest, r.session) {
				r.sweep(d, e.Name)
			}
		}
		if stored, ok := strings.CutPrefix(e.Name, asidePrefix); ok {
			r.restore(d, e.Name, stored)
			continue
		}
		name, stored, shown := r.plainName(d, e.Name)
		if !shown || stored == nil {
			continue
		}
		ok = r.recoverEntry(n, d, name, stored) && ok
	}
}

func (r *Root) recoverEntry(parent *node, d *dir, name string, stored *names.Stored) bool {
	var st unix.Stat_t
	var n *node
	for n == nil {
		unsettled, seq, err := r.findUnsettled(parent, d, name, stored, &st)
		if err != nil {
			return isDamage(err)
		}
		if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFDIR && !unsettled {
			return true
		}
		n = r.enter(parent, name, *stored, &st, 1, seq)
	}
	defer r.Forget(n.id, 1)
	if n.isDir() {
		return r.recoverDir(n)
	}
	// For writing, so that what needs a repair gets it whatever its mode.
	f, err := r.hold(n, accessWrite, theMount)
	if err != nil {
		return isDamage(err)
	}
	n.checked.Store(true)
	r.letGo(f)
	return true
}

// findUnsettled finds an entry, and whether it is a file that needs a check.
func (r *Root) findUnsettled(parent *node, d *dir, name string, stored *names.Stored, st *unix.Stat_t) (unsettled bool, seq uint64, err error) {
	r.tree.RLock()
	defer r.tree.RUnlock()
	if _, err = r.findStored(parent, d, name, stored, st); err != nil {
		return false, 0, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		unsettled, err = r.verifyFile(d, &nameRef{parent, name, *stored}, st)
	}
	return unsettled, r.seq, err
}

// isDamage tells what a check has found to be wrong, and what is gone, from
// what could not be checked: a refused key, a full disk, too many open files.
func isDamage(err error) bool {
	for _, damage := range []error{
		content.ErrCorrupt, content.ErrAbsent, format.ErrCorrupt, format.ErrNeverWritten,
		names.ErrCorrupt, errMisplaced, unix.ENOENT, unix.ESTALE,
	} {
		if errors.Is(err, damage) {
			return true
		}
	}
	return false
}

// restore puts back a directory that a rename was about to replace, or takes it
// apart if the rename came that far.
func (r *Root) restore(d *dir, aside, stored string) {
	r.tree.Lock()
	defer r.tree.Unlock()
	err := backing.Rename(d.fd, aside, d.fd, stored, unix.RENAME_NOREPLACE)
	if err == unix.EEXIST {
		err = r.removeDir(d, aside)
	}
	if err != nil {
		r.log.Warn("could not finish a rename over a directory", "ciphertext", aside, "err", err)
	}
}

// sweep removes what a crash left half made or half removed.
func (r *Root) sweep(d *dir, name string) {
	if backing.Unlink(d.fd, name) == nil {
		return
	}
	fd, err := backing.OpenDir(d.fd, name)
	if err != nil {
		return
	}
	defer backing.Close(fd)
	own, err := r.ownEntries(fd)
	if err != nil {
		return
	}
	for _, entry := range own {
		_ = backing.Unlink(fd, entry)
	}
	_ = backing.Rmdir(d.fd, name)
}
