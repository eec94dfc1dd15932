package fs

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
)

// Read implements fuse.RawFileSystem.
func (r *Root) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	r.touch()
	h := r.handles.get(in.Fh)
	if h == nil || h.file == nil {
		return nil, fuse.EBADF
	}
	if uint32(len(buf)) > in.Size {
		buf = buf[:in.Size]
	}
	n, err := h.file.readAt(buf, int64(in.Offset))
	if err != nil {
		return nil, status(err)
	}
	return inPlace(buf[:n]), fuse.OK
}

// inPlace is a fuse.ReadResult that lies in the reply's buffer already.
type inPlace []byte

func (p inPlace) Size() int                          { return len(p) }
func (p inPlace) Done()                              {}
func (p inPlace) Bytes([]byte) ([]byte, fuse.Status) { return p, fuse.OK }

// Readv is how go-fuse has a result put into the reply.
func (p inPlace) Readv(dst [][]byte) (int, fuse.Status) {
	if len(p) > 0 && len(dst) == 1 && &dst[0][0] == &p[0] {
		return len(p), fuse.OK
	}
	n := 0
	for _, d := range dst {
		n += copy(d, p[n:])
	}
	return n, fuse.OK
}

// readAt reads plaintext; it returns less than asked only at the end of file.
func (f *file) readAt(dst []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.readLocked(dst, off)
}

func (f *file) readLocked(dst []byte, off int64) (int, error) {
	if off >= f.length || len(dst) == 0 {
		return 0, nil
	}
	dst = dst[:min(int64(len(dst)), f.length-off)]
	if f.fd < 0 {
		return 0, unix.EBADF
	}
	first, skip := f.r.geom.Locate(off)
	last, _ := f.r.geom.Locate(off + int64(len(dst)) - 1)
	if first == last && f.tail.data != nil && f.tail.page == first {
		return copy(dst, f.tail.data[skip:]), nil
	}

	buf := getPages(int(last - first + 1))
	defer putPages(buf)
	got, err := backing.Pread(f.fd, buf, first*content.PageSize)
	if err != nil {
		return 0, err
	}
	clear(buf[got:]) // pages beyond the end of the backing file are absent

	var scratch []byte
	done := 0
	for p := first; p <= last; p++ {
		page := buf[(p-first)*content.PageSize:][:content.PageSize]
		size := f.r.geom.DataIn(p)
		if skip == 0 && len(dst)-done >= size {
			if err := f.openPage(dst[done:done+size], page, p); err != nil {
				return 0, err
			}
			done += size
			continue
		}
		if scratch == nil {
			scratch = getPages(1)
			defer putPages(scratch)
		}
		if err := f.openPage(scratch[:size], page, p); err != nil {
			return 0, err
		}
		done += copy(dst[done:], scratch[skip:size])
		skip = 0
	}
	return done, nil
}

// openPage decrypts page p into dst, whose size is all the data p can hold,
// and checks that it is what belongs there: the final page where the file ends
// and nowhere else, an absent page only inside a hole.
func (f *file) openPage(dst, page []byte, p int64) error {
	used, final, err := f.cipher.Open(dst, page, p, f.hdr.Epoch)
	last, want := f.r.geom.FinalPage(f.length)
	if errors.Is(err, content.ErrAbsent) && f.inHole(p) && (p != last || f.noMarks) {
		clear(dst)
		return nil
	}
	if err != nil {
		return f.damaged(p, "page", err)
	}
	if f.noMarks && p == last {
		return nil
	}
	if final != (p == last) || final && used != want {
		return f.damaged(p, "page belongs to another state of the file", nil)
	}
	return nil
}

// loadPage returns the plaintext of page p, padded with zeros to all it can
// hold, in buf. Pages behind the end and in holes are zeros.
func (f *file) loadPage(buf []byte, p int64) error {
	size := f.r.geom.DataIn(p)
	if f.tail.data != nil && f.tail.page == p {
		clear(buf[copy(buf[:size], f.tail.data):size])
		return nil
	}
	if last, _ := f.r.geom.FinalPage(f.length); p > last {
		clear(buf[:size])
		return nil
	}
	page := getPages(1)
	defer putPages(page)
	n, err := backing.Pread(f.fd, page, p*content.PageSize)
	if err != nil {
		return err
	}
	clear(page[n:])
	return f.openPage(buf[:size], page, p)
}
