package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
)

// Truncation, allocation and holes: what changes a file's shape but writes no
// data of the user's.

var zeros [64 << 10]byte

// truncateLocked sets the length. Holds: f.mu.
func (f *file) truncateLocked(length int64) error {
	switch {
	case length < 0:
		return unix.EINVAL
	case length > content.MaxLength:
		return unix.EFBIG
	case f.fd < 0 || f.readonly:
		return unix.EBADF
	case length > f.length:
		// Growing is writing the zero at the new end.
		if err := f.writeLocked(zeros[:1], length-1); err != nil {
			return err
		}
	case length < f.length:
		if err := f.shrink(length); err != nil {
			return err
		}
	}
	return nil
}

// shrink cuts the file to length: the page that becomes the last is written
// with its new mark, then the rest is cut off. A crash between leaves a final
// page with a tail behind it, or a full page with nothing behind it; the
// unsettled header lets either be repaired.
func (f *file) shrink(length int64) error {
	f.r.settle.shape.RLock()
	defer f.r.settle.shape.RUnlock()
	last, used := f.r.geom.FinalPage(length)
	if err := f.unsettle(length); err != nil {
		return err
	}
	plain := getPages(1)
	defer putPages(plain)
	if err := f.loadPage(plain, last); err != nil {
		return err
	}
	// If the page was a hole it may stay one in the header until it is durable.
	holes, filled := f.hdr.Holes, f.filled
	f.cutHoles(last + 1)
	f.noteFilled(last, last)
	if err := f.writeLast(last, plain[:used]); err != nil {
		f.hdr.Holes, f.filled = holes, filled // the file is as long as it was
		f.dropTail()
		return err
	}
	if err := f.setSize(length); err != nil {
		return err
	}
	f.setLength(length)
	f.setTail(last, plain[:used])
	return nil
}

// writeLast writes page last as the final one, page 0 with the header.
func (f *file) writeLast(last int64, plain []byte) error {
	page := getPages(1)
	defer putPages(page)
	if err := f.seal(page, last, plain, true); err != nil {
		return err
	}
	if last == 0 {
		if err := f.r.sealer.MarshalHeader(page[:format.HeaderSize], f.hdr); err != nil {
			return err
		}
	}
	if err := backing.Pwrite(f.fd, page, last*content.PageSize); err != nil {
		return err
	}
	if last == 0 {
		f.hdrDirty = false
		f.dropFirst()
	}
	return nil
}

// Fallocate implements fuse.RawFileSystem.
func (r *Root) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	r.touch()
	h := r.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return fuse.EBADF
	}
	// This request does not say whether the caller may keep setuid bits.
	if in.Uid != 0 {
		if err := r.killPriv(h.file, &in.Caller); err != nil {
			return status(err)
		}
	}
	if err := r.dropCapability(h.file); err != nil {
		return status(err)
	}
	return status(h.file.allocate(in.Mode, int64(in.Offset), int64(in.Length)))
}

func (f *file) allocate(mode uint32, off, length int64) error {
	const keepSize, punch, zero = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE
	if off < 0 || length <= 0 {
		return unix.EINVAL
	}
	end := off + length
	if end < 0 || end > content.MaxLength {
		return unix.EFBIG
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readonly {
		return unix.EBADF
	}
	switch mode {
	case punch | keepSize, zero, zero | keepSize:
		if err := f.punch(off, end); err != nil {
			return err
		}
		if mode == zero && end > f.length {
			return f.truncateLocked(end)
		}
		return backing.Futimens(f.fd, &[2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_NOW}})
	case 0, keepSize:
		// Reserve the blocks first: that is what the caller asks for, and
		// what fails when the disk is full.
		first, _ := f.r.geom.Locate(off)
		last, _ := f.r.geom.Locate(end - 1)
		err := backing.Allocate(f.fd, keepSize, first*content.PageSize, (last-first+1)*content.PageSize)
		if err != nil {
			return err
		}
		if mode == 0 && end > f.length {
			return f.truncateLocked(end)
		}
		return nil
	}
	return unix.EOPNOTSUPP
}

// punch makes [off, end) read as zeros, and frees the pages wholly inside. The
// first page, which carries the header, and the final page, which carries the
// length, are overwritten instead.
func (f *file) punch(off, end int64) error {
	end = min(end, f.length)
	if off >= end {
		return nil
	}
	geom := &f.r.geom
	final, _ := geom.FinalPage(f.length)
	a, in := geom.Locate(off)
	if in > 0 || a == 0 {
		a++
	}
	b, _ := geom.Locate(end) // pages before b are wholly inside
	b = min(b, final)
	if a >= b {
		return f.writeZeros(off, end)
	}
	if err := f.writeZeros(off, geom.Start(a)); err != nil {
		return err
	}
	if err := f.writeZeros(geom.Start(b), end); err != nil {
		return err
	}
	f.r.settle.shape.RLock()
	defer f.r.settle.shape.RUnlock()
	if err := f.unsettle(geom.Start(a)); err != nil {
		return err
	}
	// The header must promise the hole durably before the pages vanish, or a
	// crash would leave zero pages that look like damage.
	f.addHole(format.Extent{First: a, Count: b - a})
	if err := f.writeHeader(); err != nil {
		return err
	}
	f.hdrDirty = false
	if err := backing.Datasync(f.fd); err != nil {
		return err
	}
	if f.tail.data != nil && f.tail.page >= a && f.tail.page < b {
		f.dropTail()
	}
	err := backing.Allocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, a*content.PageSize, (b-a)*content.PageSize)
	if err != unix.EOPNOTSUPP {
		return err
	}
	for p := a; p < b; p++ { // a backing filesystem without holes
		if err := backing.Pwrite(f.fd, zeros[:content.PageSize], p*content.PageSize); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) writeZeros(off, end int64) error {
	for off < end {
		n := min(end-off, int64(len(zeros)))
		if err := f.writeLocked(zeros[:n], off); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// Lseek implements fuse.RawFileSystem for SEEK_DATA and SEEK_HOLE; the kernel
// does the others itself.
func (r *Root) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	r.touch()
	h := r.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return fuse.EBADF
	}
	pos, err := h.file.seek(int64(in.Offset), int(in.Whence))
	out.Offset = uint64(pos)
	return status(err)
}

func (f *file) seek(off int64, whence int) (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off < 0 || off >= f.length {
		return 0, unix.ENXIO
	}
	page, _ := f.r.geom.Locate(off)
	var err error
	switch whence {
	case unix.SEEK_DATA:
		page, err = f.nextData(page)
	case unix.SEEK_HOLE:
		page, err = f.nextAbsent(page)
	default:
		return 0, unix.EINVAL
	}
	if err != nil {
		return 0, err
	}
	pos := max(off, f.r.geom.Start(page))
	if pos >= f.length {
		if whence == unix.SEEK_DATA {
			return 0, unix.ENXIO
		}
		pos = f.length
	}
	return pos, nil
}

// nextData finds the first page from p on that is not absent.
func (f *file) nextData(p int64) (int64, error) {
	for {
		hole := f.holeAt(p)
		if hole == nil {
			return p, nil
		}
		pos, err := backing.Seek(f.fd, p*content.PageSize, unix.SEEK_DATA)
		if err != nil && err != unix.ENXIO {
			return 0, err
		}
		end := hole.First + hole.Count
		if q := pos / content.PageSize; err == nil && q < end {
			return max(p, q), nil
		}
		p = end
	}
}

// nextAbsent finds the first absent page from p on, or a page behind the end.
func (f *file) nextAbsent(p int64) (int64, error) {
	final, _ := f.r.geom.FinalPage(f.length)
	for i := range f.hdr.Holes {
		hole := &f.hdr.Holes[i]
		end := hole.First + hole.Count
		if end <= p {
			continue
		}
		p = max(p, hole.First)
		pos, err := backing.Seek(f.fd, p*content.PageSize, unix.SEEK_HOLE)
		if err != nil {
			return 0, err
		}
		if q := (pos + content.PageSize - 1) / content.PageSize; q < end {
			return max(p, q), nil
		}
		p = end
	}
	return final + 1, nil
}

// maxCopy bounds one COPY_FILE_RANGE; the caller asks again for the rest.
const maxCopy = 16 << 20

// CopyFileRange implements fuse.RawFileSystem. It saves the caller the way of
// the data through user space twice; the bytes are re-encrypted, since no two
// files share a key.
func (r *Root) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	r.touch()
	from, to := r.handles.get(in.FhIn), r.handles.get(in.FhOut)
	if from == nil || from.file == nil || to == nil || to.file == nil {
		return 0, fuse.EBADF
	}
	if in.Uid != 0 {
		if err := r.killPriv(to.file, &in.Caller); err != nil {
			return 0, status(err)
		}
	}
	if err := r.dropCapability(to.file); err != nil {
		return 0, status(err)
	}
	const chunk = 256 // pages
	buf := getPages(chunk)
	defer putPages(buf)
	left := min(in.Len, maxCopy)
	var done uint64
	for done < left {
		n, err := from.file.readAt(buf[:min(uint64(len(buf)), left-done)], int64(in.OffIn+done))
		if err == nil && n > 0 {
			to.file.mu.Lock()
			err = to.file.writeLocked(buf[:n], int64(in.OffOut+done))
			to.file.mu.Unlock()
		}
		if err != nil {
			if done > 0 {
				break
			}
			return 0, status(err)
		}
		if n == 0 {
			break
		}
		done += uint64(n)
	}
	return uint32(done), fuse.OK
}
