package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
)

// Write implements fuse.RawFileSystem.
func (r *Root) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	r.touch()
	h := r.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return 0, fuse.EBADF
	}
	f := h.file
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := r.killPriv(f, &in.Caller); err != nil {
			return 0, status(err)
		}
	}
	if err := r.dropCapability(f); err != nil {
		return 0, status(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.writeLocked(data, int64(in.Offset)); err != nil {
		return 0, status(err)
	}
	return uint32(len(data)), fuse.OK
}

// writeLocked writes data at off, growing the file, with a hole in between
// where off lies behind its end. On error the file is as long as before.
func (f *file) writeLocked(data []byte, off int64) error {
	if len(data) == 0 {
		return nil
	}
	geom := &f.r.geom
	end := off + int64(len(data))
	if off < 0 || end > content.MaxLength {
		return unix.EFBIG
	}
	if f.fd < 0 || f.readonly {
		return unix.EBADF
	}
	oldLast, oldUsed := geom.FinalPage(f.length)
	first, _ := geom.Locate(off)
	last, _ := geom.Locate(end - 1)
	newLen := max(f.length, end)
	newLast, _ := geom.FinalPage(newLen)

	if newLen > f.length && f.inHole(oldLast) {
		if err := f.fixEnd(oldLast); err != nil {
			return err
		}
	}
	start := first
	if newLast > oldLast {
		f.r.settle.shape.RLock()
		defer f.r.settle.shape.RUnlock()
		if err := f.unsettle(f.length); err != nil {
			return err
		}
		// The page that was the last must become a full one. It goes out in
		// the same write where the new data adjoins.
		if first > oldLast+1 {
			f.addHole(format.Extent{First: oldLast + 1, Count: first - oldLast - 1})
			if err := f.writePages(nil, 0, oldLast, oldLast, newLen); err != nil {
				return f.undoGrowth(oldLast, oldUsed, err)
			}
		} else if first > oldLast {
			start = oldLast
		}
	}
	if f.hdrDirty && start > 0 {
		if err := f.writeHeader(); err != nil {
			return f.undoGrowth(oldLast, oldUsed, err)
		}
	}
	if err := f.writePages(data, off, start, last, newLen); err != nil {
		return f.undoGrowth(oldLast, oldUsed, err)
	}
	f.size = max(f.size, (last+1)*content.PageSize)
	if newLen > f.length {
		if want := geom.BackingSize(newLen); want != f.size {
			if err := backing.Truncate(f.fd, want); err != nil {
				return f.undoGrowth(oldLast, oldUsed, err)
			}
			f.size = want
		}
		f.setLength(newLen)
	}
	f.r.settle.dirty.Store(true)
	f.noteFilled(start, last)
	if newLast > oldLast {
		f.writeOut()
	}
	return nil
}

// outStep is how much a growing file gathers in memory before the disk is told to
// begin, in bytes: enough for a disk to work well, and little for an fsync to wait for.
const outStep = 8 << 20

// writeOut has the disk work on what a growing file has gathered while the next pages
// are sealed; an fsync waits for the rest. Where the disk has not done what it was told
// before, it is left alone: it would hold up a writer who wants no fsync.
// Holds: f.mu.
func (f *file) writeOut() {
	f.out = min(f.out, f.size) // it was truncated
	if f.size-f.out < outStep {
		return
	}
	before := max(0, f.out-outStep)
	if f.out > before && backing.BeingWritten(f.fd, before, f.out-before) > outStep/2 {
		return
	}
	backing.BeginWriteOut(f.fd, f.out, outStep)
	f.out += outStep
}

// fixEnd makes the final page durable, and then a header that does not allow
// its absence any more, before the file grows from there: a shrink into a hole
// has left that permission, and with it a crash could leave zeros where there
// was data. Holds: f.mu.
func (f *file) fixEnd(last int64) error {
	if err := backing.Datasync(f.fd); err != nil {
		return err
	}
	f.closeHoles([]format.Extent{{First: last, Count: 1}})
	if err := f.writeHeader(); err != nil {
		return err
	}
	return backing.Datasync(f.fd)
}

// writePages seals and writes pages first to last in one go, with data laid
// over them at offset off and zeros where nothing was. newLen decides which
// page is final.
func (f *file) writePages(data []byte, off, first, last, newLen int64) error {
	geom := &f.r.geom
	final, finalUsed := geom.FinalPage(newLen)
	buf := getPages(int(last - first + 1))
	defer putPages(buf)
	scratch := getPages(1)
	defer putPages(scratch)
	end := off + int64(len(data))
	var plain []byte
	for p := first; p <= last; p++ {
		size, at := geom.DataIn(p), geom.Start(p)
		used := size
		if p == final {
			used = finalUsed
		}
		lo := min(max(off-at, 0), int64(size))
		hi := max(min(end-at, int64(size)), lo)
		if lo == 0 && hi >= int64(used) {
			plain = data[at-off:][:used]
		} else {
			if err := f.loadPage(scratch, p); err != nil {
				return err
			}
			if lo < hi {
				copy(scratch[lo:hi], data[at+lo-off:])
			}
			plain = scratch[:used]
		}
		page := buf[(p-first)*content.PageSize:][:content.PageSize]
		if err := f.seal(page, p, plain, p == final); err != nil {
			return err
		}
	}
	if first == 0 {
		if err := f.r.sealer.MarshalHeader(buf[:format.HeaderSize], f.hdr); err != nil {
			return err
		}
		f.dropFirst()
	}
	if err := backing.Pwrite(f.fd, buf, first*content.PageSize); err != nil {
		f.dropTail()
		return err
	}
	if first == 0 {
		f.hdrDirty = false
	}
	// Only a partial last page will be asked for again soon.
	if end < geom.Start(last)+int64(geom.DataIn(last)) {
		f.setTail(last, plain)
	} else if f.tail.data != nil && f.tail.page >= first && f.tail.page <= last {
		f.dropTail()
	}
	return nil
}

// undoGrowth puts the end of the file back after a failed write, so that an
// error from a full disk leaves a sound file. It returns cause.
func (f *file) undoGrowth(last int64, used int, cause error) error {
	f.dropTail()
	f.cutHoles(last + 1)
	page := getPages(1)
	defer putPages(page)
	plain := getPages(1)
	defer putPages(plain)
	size := f.r.geom.DataIn(last)
	// What is on disk for the old final page is the old version or the new,
	// full one; both begin with the bytes that count.
	n, err := backing.Pread(f.fd, page, last*content.PageSize)
	if err == nil {
		clear(page[n:])
		_, _, err = f.cipher.Open(plain[:size], page, last, f.hdr.Epoch)
	}
	if err == nil {
		err = f.seal(page, last, plain[:used], true)
	}
	if err == nil && last == 0 {
		err = f.r.sealer.MarshalHeader(page[:format.HeaderSize], f.hdr)
	}
	if err == nil {
		err = backing.Pwrite(f.fd, page, last*content.PageSize)
	}
	if err == nil {
		var st unix.Stat_t
		if err = backing.Fstat(f.fd, &st); err == nil {
			f.size = st.Size
			err = f.setSize(f.length)
		}
	}
	if err != nil {
		f.r.log.Error("could not put a file's end back after a failed write; remounting checks it", "ino", f.n.ino, "err", err)
	}
	return cause
}

// unsettle makes sure that the header says, durably, that the file's shape is
// being changed in this generation, and down to which length it was known
// durable: no more than limit. Holds: f.mu, settle.shape.
func (f *file) unsettle(limit int64) error {
	s, h := &f.r.settle, f.hdr
	s.dirty.Store(true)
	gen := s.gen.Load()
	if h.Generation == gen && int64(h.Durable) <= limit {
		return nil
	}
	durable := int64(h.Durable)
	if h.Generation < s.settled.Load() {
		durable = f.length // all of it was settled by a barrier
	}
	oldGen, oldDurable := h.Generation, h.Durable
	h.Generation, h.Durable = gen, uint64(min(durable, limit))
	err := f.writeHeader()
	if err == nil {
		err = backing.Datasync(f.fd)
	}
	if err != nil {
		h.Generation, h.Durable = oldGen, oldDurable // what is on disk may be either
	}
	return err
}
