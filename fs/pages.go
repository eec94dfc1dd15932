package fs

import (
	"sync"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/content"
)

// Buffers for ciphertext and plaintext pages, by power-of-two size class from
// one page to maxPooled.
const maxPooledShift = 9 // 512 pages, 2 MiB: the largest request and its edges

var pagePools [maxPooledShift + 1]sync.Pool

// getPages returns a buffer of n pages with any content.
func getPages(n int) []byte {
	shift := 0
	for 1<<shift < n {
		shift++
	}
	if shift > maxPooledShift {
		return make([]byte, n*content.PageSize)
	}
	if p, _ := pagePools[shift].Get().(*[]byte); p != nil {
		return (*p)[:n*content.PageSize]
	}
	return make([]byte, n*content.PageSize, content.PageSize<<shift)
}

// putPages gives a buffer back.
func putPages(b []byte) {
	pages := cap(b) / content.PageSize
	for shift := 0; shift <= maxPooledShift; shift++ {
		if pages == 1<<shift {
			b = b[:cap(b)]
			pagePools[shift].Put(&b)
			return
		}
	}
}

// seal encrypts plaintext into page, in the file's current epoch, and keeps
// count of the pages sealed under one key. Holds: f.mu.
func (f *file) seal(page []byte, index int64, plaintext []byte, final bool) error {
	tick, err := f.cipher.Seal(page, index, f.hdr.Epoch, plaintext, final)
	if err != nil || !tick {
		return err
	}
	return f.countWrites()
}

// maxWriteCount is when a file moves to a fresh page key: half of the 2^32
// pages for which random 96-bit nonces stay safe (NIST SP 800-38D, 8.3), in
// units of 2^24 pages. The count is statistical (each page counts one unit
// with probability 2^-24); reaching 2^32 unnoticed has probability below 2^-55.
const maxWriteCount = 128

// countWrites counts 2^24 page writes, durably: a count that a crash forgets
// would let a key live too long.
func (f *file) countWrites() error {
	oldCount, oldEpoch := f.hdr.WriteCount, f.hdr.Epoch
	f.hdr.WriteCount++
	if f.hdr.WriteCount >= maxWriteCount {
		if f.hdr.Epoch == 1<<16-1 {
			return f.damaged(0, "file has used up its 65536 page keys; copy it", nil)
		}
		f.hdr.Epoch++
		f.hdr.WriteCount = 0
	}
	err := f.writeHeader()
	if err == nil {
		err = backing.Datasync(f.fd)
	}
	if err != nil { // no page may be sealed under an epoch the disk does not know
		f.hdr.WriteCount, f.hdr.Epoch = oldCount, oldEpoch
	}
	return err
}

// setTail remembers the plaintext of a page.
func (f *file) setTail(page int64, data []byte) {
	if f.tail.data == nil {
		f.tail.data = getPages(1)
	}
	f.tail.data = f.tail.data[:len(data)]
	copy(f.tail.data, data)
	f.tail.page = page
}

func (f *file) dropTail() {
	if f.tail.data != nil {
		b := f.tail.data[:cap(f.tail.data)]
		clear(b)
		putPages(b)
		f.tail.data = nil
	}
}
