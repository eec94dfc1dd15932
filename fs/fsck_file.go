package fs

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

const (
	// checkBatch is how many files' keys are asked for at a time. It bounds the
	// files held open, too.
	checkBatch = 256

	// checkWorkers is how many files are read at a time.
	checkWorkers = 2

	// checkChunk is how many pages are read at a time: 1 MiB.
	checkChunk = 256
)

// fileCheck is a regular file on its way: its header and binding are checked,
// its key and pages are next.
type fileCheck struct {
	f     *file
	again bool // a further name of a file whose pages are checked already
	key   *secret.Buffer
	err   error // why there is no key
}

func (j *fileCheck) close() {
	j.key.Free()
	j.f.n.file.Store(nil)
	j.f.closeLocked()
}

// checkRegular checks what the volume key tells about a file, and queues the rest.
func (c *checker) checkRegular(d *dir, ref *nameRef, st *unix.Stat_t) {
	r := c.r
	n := c.newNode(st)
	n.names = []nameRef{*ref}
	f, err := r.attachAt(n, ref, accessHeader)
	if err != nil {
		c.files.Add(1)
		if errors.Is(err, format.ErrNeverWritten) {
			err = c.neverWritten(d, ref)
		}
		if err != nil {
			c.failFile(d, ref, err)
		}
		return
	}
	f.refs = 1
	n.file.Store(f)
	c.checkMove(ref, f)
	c.maxGen = max(c.maxGen, f.hdr.Generation)
	j := &fileCheck{f: f}
	switch c.seen(f.hdr.FileID, st.Ino) {
	case fresh:
		c.files.Add(1)
	case again:
		j.again = true
	case another:
		c.files.Add(1)
		found := c.at(ref)
		found.Category, found.Advice = Damage, "one of the two is a copy: find the other with find -inum, and remove the one that is older"
		found.Reason = fmt.Sprintf("the file has the same ID as another (inode number %d)", c.ids[f.hdr.FileID])
		c.report(found)
	}
	if f.hdr.Geometry != r.conf.GeometryID() {
		c.fail(ref, fmt.Errorf("file header names another geometry than the volume: %w", format.ErrCorrupt))
	}
	c.checkXattrs(n, func() *Finding { return c.at(ref) }, object{dirfd: d.fd, name: ref.stored.Name}, f.hdr.HasXattrs)
	if c.batch = append(c.batch, j); len(c.batch) == checkBatch {
		c.flush()
	}
}

// failFile reports a file that cannot be opened, and where it belongs if its
// header tells.
func (c *checker) failFile(d *dir, ref *nameRef, err error) {
	f := c.at(ref)
	f.Category, f.Reason, f.Advice = classify(err)
	if f.Category == Unchecked {
		c.open.Store(true)
	}
	if errors.Is(err, errMisplaced) {
		if h, err := c.r.peekHeader(object{dirfd: d.fd, name: ref.stored.Name}); err == nil && h.Path != "" {
			f.Reason += fmt.Sprintf("; it was %q when its key was wrapped", h.Path)
		}
	}
	c.report(f)
}

// checkMove reports and finishes a rename that was cut short. That the name is
// durable, which the header is going to speak of, the check has seen to.
func (c *checker) checkMove(ref *nameRef, f *file) {
	if _, err := c.r.moveRecord(object{fd: f.fd}, f.hdr.FileID); errors.Is(err, format.ErrCorrupt) {
		c.fail(ref, err)
	}
	if f.moved == 0 {
		return
	}
	found := c.at(ref)
	found.Category, found.Reason, found.Advice = Unsettled, "the file's rename is not finished", "the next mount finishes it, or --repair"
	if !c.o.Repair {
		c.report(found)
		return
	}
	c.repaired(found, c.r.foldFile(fold{n: f.n, counter: f.moved}), "finished the rename")
}

// neverWritten reports a file without a header, and removes it if nothing else
// is in it either. An error says that it is no such file.
func (c *checker) neverWritten(d *dir, ref *nameRef) error {
	first, all, err := c.isEmpty(d, ref.stored.Name)
	if err != nil {
		return err
	}
	if !first {
		return fmt.Errorf("file header is zeroed: %w", format.ErrCorrupt)
	}
	f := c.at(ref)
	f.Category = NeverWritten
	switch {
	case !all:
		f.Reason = "its first page was never written, and without it nothing can read the others"
		f.Advice = "delete it through a mount"
		c.report(f)
	case !c.o.Repair:
		f.Reason, f.Advice = "it was created and never written", "delete it through a mount, or use --repair"
		c.report(f)
	default:
		f.Reason = "it was created and never written"
		err := backing.Unlink(d.fd, ref.stored.Name)
		if err == nil {
			c.r.removeNameRecord(d, &ref.stored)
			c.r.dropSidecar(d, &ref.stored)
		}
		c.repaired(f, err, "removed it")
	}
	return nil
}

// flush asks for the keys of the files collected and queues their pages.
func (c *checker) flush() {
	batch := c.batch
	c.batch = nil
	if err := c.r.keys.openAll(c.ctx, batch); err != nil {
		c.stopWith(err)
	}
	for _, j := range batch {
		c.queue <- j
	}
}

// openAll unwraps the data keys of many files, in one conversation with the
// key service. A key that is refused is its file's error.
func (k *keyring) openAll(ctx context.Context, batch []*fileCheck) error {
	if len(batch) == 0 {
		return nil
	}
	if !k.perFile() {
		for _, j := range batch {
			_, j.key, _, j.err = k.open(j.f.hdr.FileID, j.f.wrapped, j.f.path, j.f.path, theMount)
		}
		return nil
	}
	items := make([]kmsapi.BatchItem, len(batch))
	for i, j := range batch {
		items[i] = k.decrypt(j.f.wrapped, j.f.path, theMount)
	}
	results, err := ask(ctx, k.svc, items)
	if err != nil {
		return err
	}
	for i, j := range batch {
		if results[i].Err != nil {
			j.err = results[i].Err
		} else {
			j.key, j.err = dataKey(results[i].Plaintext)
		}
	}
	return nil
}

// startWorkers starts those who read pages. wait returns when all that was
// queued is checked.
func (c *checker) startWorkers() (wait func()) {
	c.queue = make(chan *fileCheck)
	var wg sync.WaitGroup
	for range checkWorkers {
		wg.Go(func() {
			for j := range c.queue {
				if c.err() == nil {
					c.checkContent(j)
				}
				j.close()
			}
		})
	}
	return func() { close(c.queue); wg.Wait() }
}

// checkContent checks a file's pages, without a change, and then puts right
// what may be.
func (c *checker) checkContent(j *fileCheck) {
	f, r := j.f, c.r
	writable := !f.readonly
	f.readonly = true
	unsettled := r.mayBeUnsettled(f.hdr.Generation)
	size := f.size
	err := j.err
	if err == nil {
		err = c.readAll(j)
	}
	if err != nil {
		if cat, _, _ := classify(err); cat == Unchecked && (unsettled || c.settledErr != nil) {
			c.open.Store(true)
		}
		if c.err() == nil {
			c.fail(&f.at, err)
		}
		return
	}
	if j.again {
		return
	}
	var wrong string
	switch tail, err := f.dirtyTail(); {
	case err != nil:
		c.fail(&f.at, err)
		return
	case f.noMarks:
		wrong = fmt.Sprintf("a change was cut short; the file ends after %d bytes", f.length)
	case r.geom.BackingSize(f.length) != size:
		wrong = fmt.Sprintf("the stored size is not that of the %d bytes it holds", f.length)
	case tail:
		wrong = "what lies behind the final page is not zero"
	default:
		return
	}
	found := c.at(&f.at)
	found.Category, found.Reason = WrongSize, wrong
	if unsettled {
		found.Category = Unsettled
	}
	found.Advice = "the next mount or --repair puts it right"
	if !c.o.Repair {
		c.report(found)
		return
	}
	f.readonly = !writable
	c.repaired(found, f.putRight(), "put it right")
}

// readAll opens every page of a file.
func (c *checker) readAll(j *fileCheck) (err error) {
	f := j.f
	if f.cipher, err = content.NewCipher(c.r.alg, c.r.geom, f.hdr.FileID, j.key.Bytes()); err != nil {
		return err
	}
	if err := f.loadLength(); err != nil {
		return err
	}
	if j.again || f.noMarks && f.length == 0 {
		return nil // no page that has to be there
	}
	last, _ := f.r.geom.FinalPage(f.length)
	if last == 0 && !f.noMarks {
		c.bytes.Add(f.length)
		return nil // loadLength has opened it
	}
	buf := getPages(checkChunk)
	defer putPages(buf)
	plain := getPages(1)
	defer func() { clear(plain); putPages(plain) }()

	var first error
	bad := 0
	for p := int64(0); p <= last && c.err() == nil; {
		start := p
		if p, err = f.nextData(p); err != nil {
			return err
		}
		count := min(checkChunk, last+1-p)
		if count > 0 {
			chunk := buf[:count*content.PageSize]
			n, err := backing.Pread(f.fd, chunk, p*content.PageSize)
			if err != nil {
				return fmt.Errorf("pages from %d: %w", p, err)
			}
			clear(chunk[n:])
			for i := range count {
				page := chunk[i*content.PageSize:][:content.PageSize]
				if err := f.openPage(plain[:f.r.geom.DataIn(p+i)], page, p+i); err != nil {
					if bad++; first == nil {
						at := f.r.geom.Start(p + i)
						first = fmt.Errorf("%w (bytes %d to %d)", err, at, min(at+int64(f.r.geom.DataIn(p+i)), f.length)-1)
					}
				}
			}
		}
		p = min(p+max(count, 0), last+1)
		c.bytes.Add(min(f.r.geom.Start(p), f.length) - f.r.geom.Start(start))
	}
	if bad > 1 {
		return fmt.Errorf("%d of %d pages are damaged, the first: %w", bad, last+1, first)
	}
	return first
}

// dirtyTail tells whether anything but zeros lies between the final page and
// the end of the backing file.
func (f *file) dirtyTail() (bool, error) {
	last, _ := f.r.geom.FinalPage(f.length)
	at := (last + 1) * content.PageSize
	if f.noMarks || f.size <= at {
		return false, nil
	}
	buf := getPages(1)
	defer putPages(buf)
	n, err := backing.Pread(f.fd, buf, at)
	return err == nil && !allZero(buf[:n]), err
}

// putRight finishes what a crash interrupted and corrects the backing file's
// size and tail. The file's mtime stays: what the user wrote does not change.
func (f *file) putRight() error {
	if f.readonly {
		if err := f.makeWritable(); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := backing.Fstat(f.fd, &st); err != nil {
		return err
	}
	f.noMarks = false
	if err := f.loadLength(); err != nil {
		return err
	}
	if err := f.flushLocked(); err != nil {
		return err
	}
	if dirty, err := f.dirtyTail(); err != nil {
		return err
	} else if dirty {
		last, _ := f.r.geom.FinalPage(f.length)
		f.size = (last + 1) * content.PageSize
		if err := backing.Truncate(f.fd, f.size); err != nil {
			return err
		}
		if err := f.setSize(f.length); err != nil {
			return err
		}
	}
	return backing.Futimens(f.fd, &[2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim})
}
