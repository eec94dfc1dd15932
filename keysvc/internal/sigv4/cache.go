package sigv4

import (
	"crypto/sha256"
	"strings"
	"sync"

	"kmsfs.dev/kmsfs/internal/secret"
)

// Cache keeps derived signing keys, in locked memory. One of them signs for a
// day, a region and a service, and gives no way back to the secret.
//
// A key in the cache verifies without a look-up: whoever deletes an access key,
// deactivates it or changes its secret calls [Cache.Invalidate] after that is
// done and before saying so. Resolve the access key's owner after each [Verify], which
// fails for a deleted key on its own.
//
// A nil Cache holds nothing.
type Cache struct {
	max int

	mu      sync.RWMutex // guards what follows, and the buffers: freed under Lock, read under RLock
	keys    map[cacheKey]*secret.Buffer
	changes uint64 // counts Invalidate
}

type cacheKey struct {
	accessKeyID string
	scope       Scope
}

// NewCache returns a cache for up to max keys: one for each access key in use
// and each service is enough, twice that around midnight.
func NewCache(max int) *Cache {
	return &Cache{max: max, keys: make(map[cacheKey]*secret.Buffer)}
}

// Invalidate forgets the keys of an access key, and what any request now under way
// derives: its look-up may have been before the change.
func (c *Cache) Invalidate(accessKeyID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	for id := range c.keys {
		if id.accessKeyID == accessKeyID {
			c.dropLocked(id)
		}
	}
}

// Close wipes all keys. The cache holds none afterwards.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.max = 0
	for id := range c.keys {
		c.dropLocked(id)
	}
}

// sign sets mac to the signature of msg, if it has the key.
func (c *Cache) sign(mac *[sha256.Size]byte, id cacheKey, msg []byte) bool {
	if c == nil {
		return false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	key, ok := c.keys[id]
	if ok {
		sum(mac, key.Bytes(), msg)
	}
	return ok
}

// generation is to be asked for before the look-up whose outcome is put.
func (c *Cache) generation() uint64 {
	if c == nil {
		return 0
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changes
}

// put keeps a copy of key, unless something was invalidated since generation was
// before, or there is no locked memory for it.
func (c *Cache) put(id cacheKey, key *[sha256.Size]byte, before uint64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.keys[id]; ok || c.changes != before || !c.makeRoomLocked(id.scope.Date) {
		return
	}
	buf, err := secret.New(len(key))
	if err != nil {
		return // slower, and as right
	}
	copy(buf.Bytes(), key[:])
	// The strings are parts of a request's header, which need not stay for them.
	id.accessKeyID = strings.Clone(id.accessKeyID)
	id.scope.Date = strings.Clone(id.scope.Date)
	id.scope.Region = strings.Clone(id.scope.Region)
	id.scope.Service = strings.Clone(id.scope.Service)
	c.keys[id] = buf
}

// makeRoomLocked drops keys until one more fits: all of other days than date, or
// any one.
func (c *Cache) makeRoomLocked(date string) bool {
	if len(c.keys) < c.max {
		return true
	}
	for id := range c.keys {
		if id.scope.Date != date {
			c.dropLocked(id)
		}
	}
	for id := range c.keys {
		if len(c.keys) < c.max {
			break
		}
		c.dropLocked(id)
	}
	return len(c.keys) < c.max
}

func (c *Cache) dropLocked(id cacheKey) {
	c.keys[id].Free()
	delete(c.keys, id)
}
