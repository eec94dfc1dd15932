package fs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/internal/secret"
)

// file is the open state of a regular file, shared by all its handles.
type file struct {
	r    *Root
	n    *node
	refs int // handles and passing users; guarded by n.mu

	// How the key is wrapped now; guarded by n.mu.
	wrapped  []byte
	path     string    // context path it is wrapped under
	unstored bool      // on disk it is still wrapped under an older one
	at       nameRef   // the name by which the binding was verified
	linked   bool      // at is accepted by its name record alone
	moved    uint64    // counter of the move record that accepts at; 0: none
	consents []consent // what the key service has said yes to

	// mu guards all below, and the file's pages: readers share, writers exclude.
	mu       sync.RWMutex
	fd       int
	readonly bool // fd cannot write
	single   bool // it had one link when it was opened
	hdr      *format.Header
	cipher   *content.Cipher
	length   int64 // of the plaintext
	size     int64 // st_size of the backing file
	out      int64 // how much of it the disk was told to write, in bytes
	tail     tailPage
	first    []byte          // page 0 as read when opening, until its first use
	filled   []format.Extent // hole pages written since, not yet known durable

	resized  bool         // st_size was a wrong hint, which the kernel may have been told
	noMarks  bool         // read-only view of an unsettled file: its end is not marked
	hdrDirty bool         // hdr has changes that are not on disk
	shown    atomic.Int64 // length, for stat; readable without mu

	ahead  atomic.Pointer[aheadRun] // the run that opened it and holds it for an open to come
	coming atomic.Bool              // a run is opening it
}

// tailPage is the plaintext of the page that was written last, so that appends
// and sequential writes need not read and decrypt it again.
type tailPage struct {
	page int64
	data []byte // nil: none
}

// access says what a holder of a file needs.
type access int

const (
	accessHeader access = iota // binding and attributes; no key
	accessRead                 // content
	accessWrite                // content, to change it
)

// hold opens n's file or joins those who have it open. Give it back with letGo.
func (r *Root) hold(n *node, want access, who principal) (*file, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return r.holdLocked(n, want, who)
}

func (r *Root) holdLocked(n *node, want access, who principal) (*file, error) {
	f := n.file.Load()
	if f == nil {
		var err error
		if f, err = r.attach(n, want); err != nil {
			return nil, err
		}
		n.file.Store(f)
	}
	f.refs++
	err := f.prepare(want, who)
	if err != nil {
		r.letGoLocked(n, f)
		return nil, err
	}
	return f, nil
}

// letGo ends a hold.
func (r *Root) letGo(f *file) {
	n := f.n
	n.mu.Lock()
	last := r.letGoLocked(n, f)
	n.mu.Unlock()
	if last {
		r.reap(n)
	}
}

func (r *Root) letGoLocked(n *node, f *file) (last bool) {
	f.refs--
	if f.refs > 0 {
		return false
	}
	if err := f.flush(); err != nil {
		r.log.Error("flush on last close failed", "err", err)
	}
	f.mu.Lock()
	if len(f.filled) > 0 {
		r.closeHolesLater(f)
	}
	f.closeLocked()
	f.mu.Unlock()
	n.file.Store(nil)
	return true
}

func (f *file) closeLocked() {
	backing.Close(f.fd)
	f.fd = -1
	if f.cipher != nil {
		f.cipher.Wipe()
		f.cipher = nil
	}
	f.dropTail()
	f.dropFirst()
}

// dropFirst forgets page 0 as it was read when opening.
func (f *file) dropFirst() {
	if f.first != nil {
		putPages(f.first)
		f.first = nil
	}
}

// attach opens the backing file of n by one of its names and verifies that it
// belongs there. The key service is not asked yet.
func (r *Root) attach(n *node, want access) (*file, error) {
	r.tree.RLock()
	defer r.tree.RUnlock()
	if len(n.names) == 0 {
		return nil, unix.ENOENT // removed between its lookup and its open
	}
	var first error
	for i := range n.names {
		f, err := r.attachAt(n, &n.names[i], want)
		if err == nil {
			return f, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func (r *Root) attachAt(n *node, ref *nameRef, want access) (*file, error) {
	f, err := r.openAt(n, ref, want)
	if err != nil {
		return nil, err
	}
	if err := f.verify(); err != nil {
		f.closeLocked()
		return nil, err
	}
	return f, nil
}

// openAt opens the backing file of n, which has the name ref. What is in it is
// not known yet to be n's. Holds: tree, shared.
func (r *Root) openAt(n *node, ref *nameRef, want access) (*file, error) {
	d, err := r.acquire(ref.parent)
	if err != nil {
		return nil, err
	}
	defer r.release1(d)
	f := &file{r: r, n: n, at: *ref}
	var st unix.Stat_t
	if err := r.checkRegular(d, ref, n, &st); err != nil {
		return nil, err
	}
	if f.fd, f.readonly, err = r.openBacking(d.fd, ref.stored.Name, want); err != nil {
		return nil, err
	}
	err = backing.Fstat(f.fd, &st)
	if err == nil && (st.Ino != n.ino || st.Dev != r.dev || st.Mode&unix.S_IFMT != unix.S_IFREG) {
		err = unix.ESTALE
	}
	if err != nil {
		f.closeLocked()
		return nil, err
	}
	f.size, f.single = st.Size, st.Nlink == 1
	f.out = f.size
	if length, ok := r.geom.LengthFromSize(st.Size); ok {
		f.shown.Store(length)
	}
	return f, nil
}

// verify reads the header of a file that was just opened, and checks that it
// belongs where it was found. Holds: tree, shared.
func (f *file) verify() error {
	r, ref := f.r, &f.at
	d, err := r.acquire(ref.parent)
	if err != nil {
		return err
	}
	defer r.release1(d)
	f.first = getPages(1)
	got, err := backing.Pread(f.fd, f.first, 0)
	if err != nil {
		return err
	}
	if got < len(f.first) {
		if allZero(f.first[:got]) {
			return format.ErrNeverWritten
		}
		return r.misplaced(d, ref.stored.Name, "file is cut off inside its first page", format.ErrCorrupt)
	}
	if f.hdr, err = r.sealer.ParseHeader(f.first[:format.HeaderSize]); err != nil {
		if !errors.Is(err, format.ErrNeverWritten) {
			r.misplaced(d, ref.stored.Name, "file header does not verify", err)
		}
		return err
	}
	if content.Algorithm(f.hdr.Algorithm) != r.alg {
		return r.misplaced(d, ref.stored.Name, "file header names another algorithm than the volume", nil)
	}
	return f.verifyBinding(d, ref, f.single)
}

// checkRegular looks before a backing file is opened: opening a device or a
// FIFO that was put in its place would have effects of its own.
func (r *Root) checkRegular(d *dir, ref *nameRef, n *node, st *unix.Stat_t) error {
	if err := backing.Stat(d.fd, ref.stored.Name, st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Ino != n.ino || st.Dev != r.dev {
		return unix.ESTALE
	}
	return nil
}

// openBacking opens a backing file for reading and writing, or, where the
// worker may not write and need not, for reading only.
func (r *Root) openBacking(dirfd int, stored string, want access) (fd int, readonly bool, err error) {
	if !r.opts.ReadOnly {
		fd, err = backing.Open(dirfd, stored, unix.O_RDWR, 0)
		if err != unix.EACCES && err != unix.EPERM {
			return fd, false, err
		}
		if want == accessWrite {
			fd, err = r.openUnwritable(dirfd, stored)
			return fd, false, err
		}
	}
	fd, err = r.openToRead(dirfd, stored)
	return fd, true, err
}

// openToRead opens a backing file whatever its mode, as root may anyway.
func (r *Root) openToRead(dirfd int, stored string) (int, error) {
	fd, err := backing.Open(dirfd, stored, unix.O_RDONLY, 0)
	if err == unix.EACCES && !r.opts.ReadOnly {
		return r.openUnwritable(dirfd, stored)
	}
	return fd, err
}

// openUnwritable opens a file whose owner, the worker, took the permission
// away: its header must be read, and must follow a rename, all the same. The
// kernel has checked the caller's own permissions (default_permissions). All is
// done through one handle, so that no other file can be put in its place.
func (r *Root) openUnwritable(dirfd int, stored string) (int, error) {
	handle, err := backing.Open(dirfd, stored, unix.O_PATH, 0)
	if err != nil {
		return -1, err
	}
	defer backing.Close(handle)
	var st unix.Stat_t
	if err := backing.Fstat(handle, &st); err != nil {
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, unix.ESTALE
	}
	mode := st.Mode & 0o7777
	if err := backing.HandleChmod(handle, mode|0o600); err != nil {
		return -1, err
	}
	fd, err := backing.Reopen(handle, unix.O_RDWR)
	if back := backing.HandleChmod(handle, mode); err == nil && back != nil {
		backing.Close(fd)
		return -1, back
	}
	return fd, err
}

// prepare brings f to where want needs it. Holds: n.mu.
func (f *file) prepare(want access, who principal) error {
	if want == accessWrite && f.readonly {
		if err := f.makeWritable(); err != nil {
			return err
		}
	}
	if want == accessHeader {
		return nil
	}
	if f.cipher != nil && f.consented(who) {
		return nil
	}
	key, err := f.authorize(who)
	if err != nil {
		return err
	}
	defer key.Free()
	if f.cipher == nil {
		err = f.unlock(key)
	}
	return err
}

// authorize has the key service decide on the file, by today's path: where
// that has changed since the key was wrapped (an ancestor was renamed) the key
// is re-wrapped first. It returns the data key. Holds: n.mu.
func (f *file) authorize(who principal) (*secret.Buffer, error) {
	want := f.wrappingNow()
	wrapped, key, asked, err := f.r.keys.open(f.hdr.FileID, f.wrapped, f.path, want, who)
	if err != nil {
		return nil, err
	}
	if err := f.accept(wrapped, want, who, asked); err != nil {
		key.Free()
		return nil, err
	}
	return key, nil
}

// wrappingNow is the context path that f's key should be wrapped under.
// Holds: n.mu.
func (f *file) wrappingNow() string {
	if !f.r.keys.bindsPath() {
		return f.path
	}
	return f.pathNow()
}

// accept notes that the key service said yes, and keeps the key's wrapping if
// it is a new one. Holds: n.mu.
func (f *file) accept(wrapped []byte, path string, who principal, asked time.Time) error {
	f.noteConsent(who, asked)
	switch {
	case f.path == path:
	case f.r.opts.ReadOnly: // it only asks, and keeps the old wrapping
	case f.r.sweeping():
		f.wrapped, f.path, f.unstored = wrapped, path, true // the sweep writes it
		f.r.sweeps.opened.Store(asked.UnixNano())
	default:
		return f.storeWrapped(wrapped, path)
	}
	return nil
}

// pathNow is the context path of the name by which the file was opened, or of
// another if it has lost that; without any name it stays what it was.
func (f *file) pathNow() string {
	f.r.tree.RLock()
	defer f.r.tree.RUnlock()
	names := f.n.names
	for i := range names {
		if names[i].parent == f.at.parent && names[i].stored.Name == f.at.stored.Name {
			return contextOf(names[i].pathLocked())
		}
	}
	if len(names) == 0 {
		return f.path
	}
	f.at = names[0]
	return contextOf(names[0].pathLocked())
}

// unlock makes the content readable with the data key and learns the file's
// true length.
func (f *file) unlock(key *secret.Buffer) error {
	r := f.r
	cipher, err := content.NewCipher(r.alg, r.geom, f.hdr.FileID, key.Bytes())
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cipher = cipher
	if err := f.loadLength(); err != nil {
		f.cipher.Wipe()
		f.cipher = nil
		return err
	}
	return nil
}

// makeWritable replaces a read-only descriptor.
func (f *file) makeWritable() error {
	r := f.r
	if r.opts.ReadOnly {
		return unix.EROFS
	}
	r.tree.RLock()
	defer r.tree.RUnlock()
	d, err := r.acquire(f.at.parent)
	if err != nil {
		return err
	}
	defer r.release1(d)
	return f.makeWritableAt(d)
}

func (f *file) makeWritableAt(d *dir) error {
	fd, _, err := f.r.openBacking(d.fd, f.at.stored.Name, accessWrite)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := backing.Fstat(fd, &st); err != nil || st.Ino != f.n.ino {
		backing.Close(fd)
		return unix.ESTALE
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	backing.Close(f.fd)
	f.fd, f.readonly = fd, false
	return nil
}

// loadLength establishes the plaintext length. The authenticated mark of the
// final page is the truth; st_size is a hint that is corrected from it.
func (f *file) loadLength() error {
	if f.r.mayBeUnsettled(f.hdr.Generation) {
		return f.recover()
	}
	defer f.dropFirst()
	pages := f.size / content.PageSize
	last := pages - 1
	buf := f.first
	if last > 0 || buf == nil {
		buf = getPages(1)
		defer putPages(buf)
		if n, err := backing.Pread(f.fd, buf, last*content.PageSize); err != nil {
			return err
		} else if n < len(buf) {
			return f.damaged(last, "file is shorter than its size", nil)
		}
	}
	plain := getPages(1)
	defer putPages(plain)
	used, final, err := f.cipher.Open(plain, buf, last, f.hdr.Epoch)
	if err != nil {
		return f.damaged(last, "final page", err)
	}
	if !final {
		return f.damaged(last, "file was cut off at a page boundary", nil)
	}
	f.setLength(f.r.geom.Start(last) + int64(used))
	f.setTail(last, plain[:used]) // a small file is about to be read, a log to be appended to
	if want := f.r.geom.BackingSize(f.length); want != f.size {
		f.r.log.Info("corrected a file's size from its final page", "ino", f.n.ino)
		f.resized = true
		if f.readonly {
			return nil
		}
		return f.setSize(f.length)
	}
	return nil
}

// damaged is the error, and the log line, for a page that is not what its
// place in the file requires.
func (f *file) damaged(page int64, what string, cause error) error {
	f.r.log.Warn("refused damaged content: "+what, "ino", f.n.ino, "page", page, "cause", cause)
	if cause == nil {
		cause = content.ErrCorrupt
	}
	return fmt.Errorf("page %d: %s: %w", page, what, cause)
}

// newHeader starts the header of a new file at ref.
func (r *Root) newHeader(parent names.ID, tag names.Tag) *format.Header {
	h := &format.Header{
		Algorithm: uint8(r.alg), Geometry: r.conf.GeometryID(),
		Parent: parent, Tag: tag, Counter: 1,
		Generation: r.settle.gen.Load(),
	}
	rand.Read(h.FileID[:])
	return h
}

// writeHeader puts the header on disk. Holds: f.mu.
func (f *file) writeHeader() error {
	f.dropFirst()
	var buf [format.HeaderSize]byte
	if err := f.r.sealer.MarshalHeader(buf[:], f.hdr); err != nil {
		return err
	}
	if err := backing.Pwrite(f.fd, buf[:], 0); err != nil {
		return err
	}
	f.hdrDirty = false
	return nil
}

// setSize makes the backing file as long as its plaintext length asks for. What
// lies behind the final page must be zeros: a later hole may begin there.
func (f *file) setSize(length int64) error {
	want := f.r.geom.BackingSize(length)
	if pages := want - want%content.PageSize; pages < f.size {
		if err := backing.Truncate(f.fd, pages); err != nil {
			return err
		}
		f.size = pages
	}
	if want != f.size {
		if err := backing.Truncate(f.fd, want); err != nil {
			return err
		}
		f.size = want
	}
	return nil
}

func (f *file) setLength(length int64) {
	f.length = length
	f.shown.Store(length)
}

// writeHeaderQuietly is writeHeader without a trace in the file's mtime: the
// user changed nothing in its content.
func (f *file) writeHeaderQuietly() error {
	var st unix.Stat_t
	if err := backing.Fstat(f.fd, &st); err != nil {
		return err
	}
	if err := f.writeHeader(); err != nil {
		return err
	}
	return backing.Futimens(f.fd, &[2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim})
}

// writeFresh puts a new, empty file on disk: header and first page in one write.
func (f *file) writeFresh(st *unix.Stat_t) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.r.settle.shape.RLock()
	defer f.r.settle.shape.RUnlock()
	f.hdr.Generation = f.r.settle.gen.Load()
	page := getPages(1)
	defer putPages(page)
	if err := f.seal(page, 0, nil, true); err != nil {
		return err
	}
	if err := f.r.sealer.MarshalHeader(page[:format.HeaderSize], f.hdr); err != nil {
		return err
	}
	if err := backing.Pwrite(f.fd, page, 0); err != nil {
		return err
	}
	f.size = content.PageSize
	return backing.Fstat(f.fd, st)
}

// flush puts on disk what is only in memory: a header that allows fewer pages
// to be absent than the one there does.
func (f *file) flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flushLocked()
}

func (f *file) flushLocked() error {
	if f.fd < 0 {
		return nil
	}
	if f.hdrDirty && !f.readonly {
		return f.writeHeaderQuietly()
	}
	return nil
}

// fsync makes content and size durable, and unless dataOnly all the rest.
func (f *file) fsync(dataOnly bool) error {
	f.mu.Lock()
	if err := f.flushLocked(); err != nil {
		f.mu.Unlock()
		return err
	}
	filled, holes := f.filled, f.n.holeChanges.Load()
	f.filled = nil
	sync := backing.Sync
	if dataOnly {
		sync = backing.Datasync
	}
	fd := f.fd // stays open: makeWritable holds n.mu, but may close it
	if f.readonly {
		defer f.mu.Unlock()
		return sync(fd)
	}
	f.mu.Unlock()
	if err := sync(fd); err != nil {
		return err // what was filled stays marked as a hole, which is no harm
	}
	if len(filled) > 0 {
		f.mu.Lock()
		if holes == f.n.holeChanges.Load() { // else some of them may be holes again
			f.closeHoles(filled)
		}
		f.mu.Unlock()
	}
	return nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
