package keysvc

import (
	"maps"
	"slices"
	"sync"
)

// index is all records in memory: a batch of thousands of data keys must not
// read the store for each. It is filled at the start and changed after each
// committed transaction; a change that another process made to a shared store
// would enter here too.
//
// Keys and aliases in it are never modified, only replaced.
type index struct {
	mu      sync.RWMutex // guards what follows
	keys    map[string]*key
	byBytes map[[16]byte]*key
	aliases map[string]*alias
}

func (x *index) setKey(k *key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.keys == nil {
		x.keys, x.byBytes = map[string]*key{}, map[[16]byte]*key{}
	}
	x.keys[k.record.ID] = k
	x.byBytes[k.bytes] = k
}

func (x *index) setAlias(a *alias) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.aliases == nil {
		x.aliases = map[string]*alias{}
	}
	x.aliases[a.Name] = a
}

func (x *index) deleteAlias(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.aliases, name)
}

// deleteKey removes k and its aliases. Its material is left to the caller.
func (x *index) deleteKey(k *key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.keys, k.record.ID)
	delete(x.byBytes, k.bytes)
	maps.DeleteFunc(x.aliases, func(_ string, a *alias) bool { return a.TargetKeyID == k.record.ID })
}

// allKeys returns all keys, in no order.
func (x *index) allKeys() []*key {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Collect(maps.Values(x.keys))
}

func (x *index) key(id string) *key {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.keys[id]
}

// keyOfBlob finds a key by the id in a CiphertextBlob.
func (x *index) keyOfBlob(id [16]byte) *key {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byBytes[id]
}

func (x *index) alias(name string) *alias {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.aliases[name]
}

// keyIDs returns all ids, sorted.
func (x *index) keyIDs() []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Sorted(maps.Keys(x.keys))
}

// aliasList returns the aliases of keyID, or all for "", sorted by name.
func (x *index) aliasList(keyID string) []*alias {
	x.mu.RLock()
	defer x.mu.RUnlock()
	list := make([]*alias, 0, len(x.aliases))
	for _, name := range slices.Sorted(maps.Keys(x.aliases)) {
		if a := x.aliases[name]; keyID == "" || a.TargetKeyID == keyID {
			list = append(list, a)
		}
	}
	return list
}

func (x *index) counts() (keys, aliases int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.keys), len(x.aliases)
}

// wipe frees all key material.
func (x *index) wipe() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, k := range x.keys {
		for _, m := range k.materials {
			m.bytes.Free()
		}
	}
	x.keys, x.byBytes, x.aliases = nil, nil, nil
}
