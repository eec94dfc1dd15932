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
	aliases map[keyName]*alias
	ofKey   map[string][]string // the names of a key's aliases, sorted; the lists are never modified
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
		x.aliases, x.ofKey = map[keyName]*alias{}, map[string][]string{}
	}
	x.unlistLocked(a.key())
	x.aliases[a.key()] = a
	names := append(slices.Clone(x.ofKey[a.TargetKeyID]), a.Name)
	slices.Sort(names)
	x.ofKey[a.TargetKeyID] = names
}

func (x *index) deleteAlias(n keyName) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unlistLocked(n)
	delete(x.aliases, n)
}

// unlistLocked takes an alias from the list of the key that it points at.
func (x *index) unlistLocked(n keyName) {
	if a := x.aliases[n]; a != nil {
		x.ofKey[a.TargetKeyID] = slices.DeleteFunc(slices.Clone(x.ofKey[a.TargetKeyID]), func(name string) bool { return name == a.Name })
	}
}

// deleteKey removes k and its aliases. Its material is left to the caller.
func (x *index) deleteKey(k *key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.keys, k.record.ID)
	delete(x.byBytes, k.bytes)
	for _, name := range x.ofKey[k.record.ID] {
		delete(x.aliases, keyName{k.record.Account, name})
	}
	delete(x.ofKey, k.record.ID)
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

func (x *index) alias(n keyName) *alias {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.aliases[n]
}

// keyIDs returns the ids of an account's keys, sorted.
func (x *index) keyIDs(account string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var ids []string
	for id, k := range x.keys {
		if k.record.Account == account {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// aliasesOf returns the names of a key's aliases, sorted.
func (x *index) aliasesOf(keyID string) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.ofKey[keyID]
}

// aliasList returns the aliases of an account, sorted by name: those of k, or
// all without one.
func (x *index) aliasList(account string, k *key) []*alias {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var names []string
	if k != nil {
		names = x.ofKey[k.record.ID]
	} else {
		for n := range x.aliases {
			if n.account == account {
				names = append(names, n.name)
			}
		}
		slices.Sort(names)
	}
	list := make([]*alias, len(names))
	for i, name := range names {
		list[i] = x.aliases[keyName{account, name}]
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
	x.keys, x.byBytes, x.aliases, x.ofKey = nil, nil, nil, nil
}
