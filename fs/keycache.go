package fs

import (
	"bytes"
	"container/list"
	"sync"
	"time"

	"kmsfs.dev/kmsfs/internal/secret"
)

// keyCache keeps the data keys that the key service has unwrapped lately, so that a file
// which is opened again is not asked for again. A yes counts for as long as for a file that
// is open (--key-cache-ttl), from when the service was asked: use does not prolong it.
// Then the key is wiped, whether or not somebody comes for it.
//
// A key counts only for what was asked: the same file, wrapping, path and principal.
// A rename or a re-wrap asks anew. So does the first open of a new file: the service
// said yes to making its key, which is another permission than opening it.
type keyCache struct {
	ttl time.Duration
	max int // keys

	mu     sync.Mutex // guards what follows
	byFile map[cachedFor]*list.Element
	oldest *list.List // of *cachedKey, in the order of their times
	expiry *time.Timer
	closed bool
}

// cachedFor is whose a key is.
type cachedFor struct {
	fileID [16]byte
	who    principal
}

type cachedKey struct {
	cachedFor
	wrapped []byte
	path    string
	key     *secret.Buffer
	asked   time.Time
}

func newKeyCache(ttl time.Duration, maxKeys int) *keyCache {
	return &keyCache{ttl: ttl, max: maxKeys, byFile: map[cachedFor]*list.Element{}, oldest: list.New()}
}

// get returns a copy of a file's key and when the key service was asked for it, or nil.
func (c *keyCache) get(fileID [16]byte, wrapped []byte, path string, who principal) (*secret.Buffer, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byFile[cachedFor{fileID, who}]
	if e == nil {
		return nil, time.Time{}
	}
	k := e.Value.(*cachedKey)
	if c.expired(k) || k.path != path || !bytes.Equal(k.wrapped, wrapped) {
		return nil, time.Time{}
	}
	key, err := secret.Clone(k.key)
	if err != nil {
		return nil, time.Time{} // no locked memory is left: as if there was none
	}
	return key, k.asked
}

// put keeps a copy of a key.
func (c *keyCache) put(fileID [16]byte, wrapped []byte, path string, who principal, key *secret.Buffer, asked time.Time) {
	if c.ttl <= 0 || c.max <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k := &cachedKey{cachedFor: cachedFor{fileID, who}, wrapped: bytes.Clone(wrapped), path: path, asked: asked}
	if e := c.byFile[k.cachedFor]; e != nil {
		c.drop(e)
	}
	if c.closed || c.expired(k) {
		return
	}
	for len(c.byFile) >= c.max {
		c.drop(c.oldest.Front())
	}
	var err error
	if k.key, err = secret.Clone(key); err != nil {
		return // the next open asks the key service
	}
	c.byFile[k.cachedFor] = c.oldest.PushBack(k)
	if c.expiry == nil {
		c.expiry = time.AfterFunc(c.ttl, c.expire)
	} else if c.oldest.Len() == 1 {
		c.expiry.Reset(c.ttl)
	}
}

// expired reports whether a key counts no more.
func (c *keyCache) expired(k *cachedKey) bool { return time.Since(k.asked) >= c.ttl }

// expire drops what has expired, and comes again for the rest.
func (c *keyCache) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.oldest.Front(); e != nil; e = c.oldest.Front() {
		k := e.Value.(*cachedKey)
		if left := c.ttl - time.Since(k.asked); left > 0 {
			c.expiry.Reset(left)
			return
		}
		c.drop(e)
	}
}

// drop wipes a key. Holds: mu.
func (c *keyCache) drop(e *list.Element) {
	k := c.oldest.Remove(e).(*cachedKey)
	delete(c.byFile, k.cachedFor)
	k.key.Free()
}

// close wipes all keys, and keeps none any more.
func (c *keyCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.expiry != nil {
		c.expiry.Stop()
	}
	for c.oldest.Len() > 0 {
		c.drop(c.oldest.Front())
	}
}
