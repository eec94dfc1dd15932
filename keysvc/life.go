package keysvc

import (
	"sync"
	"sync/atomic"

	"kmsfs.dev/kmsfs/keysvc/internal/grant"
)

// life is what all versions of a key in memory share.
type life struct {
	inUse    atomic.Int64 // actions between hold and release
	over     atomic.Bool  // the key is destroyed
	wipe     sync.Once
	left     []material // to wipe; set before over
	rotating atomic.Int64
	usage    usage
	grants   grant.Set
}

// hold keeps the key's material from being wiped until release. It fails when
// the key is destroyed.
func (l *life) hold() bool {
	l.inUse.Add(1)
	if l.over.Load() {
		l.release()
		return false
	}
	return true
}

func (l *life) release() {
	if l.inUse.Add(-1) == 0 && l.over.Load() {
		l.wipe.Do(l.free)
	}
}

// end destroys the key. Its material is wiped when the last action that uses
// it has ended, which is now if there is none; no new one begins.
func (l *life) end(all []material) {
	l.left = all
	l.over.Store(true)
	if l.inUse.Load() == 0 {
		l.wipe.Do(l.free)
	}
}

func (l *life) free() {
	for _, m := range l.left {
		m.bytes.Free()
	}
}
