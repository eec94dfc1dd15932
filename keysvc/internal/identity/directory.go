package identity

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Directory is all entities and managed policies in memory. Its methods may be
// called at once from many goroutines; values in it are replaced, never modified.
type Directory struct {
	implicit Implicit

	mu        sync.RWMutex // guards what follows
	entities  map[string]*Entity
	names     map[nameKey]*Entity
	keys      map[string]*Entity // by the id of an access key
	policies  map[string]managed // by ARN
	effective map[string]*Effective
}

// Implicit are users who exist without a record.
type Implicit interface {
	// Named returns the implicit user of an account called name, or nil.
	Named(account, name string) *Entity
	// WithID returns the implicit user with a unique id, or nil.
	WithID(id string) *Entity
}

type nameKey struct {
	kind          Kind
	account, name string // the name in lower case
}

func keyOf(kind Kind, account, name string) nameKey {
	return nameKey{kind, account, strings.ToLower(name)}
}

// managed is a managed policy and its default version, compiled.
type managed struct {
	*Policy
	document *policy.Document
}

// Effective is what limits an entity and describes it to policies.
type Effective struct {
	Policies []*policy.Document // attached and inline
	Boundary *policy.Document   // nil without one
	Tags     map[string]string
}

// NewDirectory returns an empty directory.
func NewDirectory(implicit Implicit) *Directory {
	return &Directory{
		implicit: implicit,
		entities: map[string]*Entity{}, names: map[nameKey]*Entity{}, keys: map[string]*Entity{},
		policies: map[string]managed{}, effective: map[string]*Effective{},
	}
}

// Set puts an entity in the place of the one with its id. It fails when a policy of it
// cannot be read or does not exist, or another entity has its name, and then changes
// nothing.
func (d *Directory) Set(e *Entity) error {
	inline, err := e.compile()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if other := d.names[keyOf(e.Kind, e.Account, e.Name)]; other != nil && other.ID != e.ID {
		return fmt.Errorf("%s and %s are both called %s", e.ID, other.ID, e.ARN())
	}
	effective, err := d.effectiveLocked(e, inline)
	if err != nil {
		return err
	}
	d.forgetLocked(e.ID)
	d.entities[e.ID], d.effective[e.ID] = e, effective
	d.names[keyOf(e.Kind, e.Account, e.Name)] = e
	for _, k := range e.AccessKeys {
		d.keys[k.ID] = e
	}
	return nil
}

// Delete removes an entity.
func (d *Directory) Delete(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgetLocked(id)
}

func (d *Directory) forgetLocked(id string) {
	old := d.entities[id]
	if old == nil {
		return
	}
	delete(d.entities, id)
	delete(d.effective, id)
	delete(d.names, keyOf(old.Kind, old.Account, old.Name))
	for _, k := range old.AccessKeys {
		delete(d.keys, k.ID)
	}
}

func (d *Directory) effectiveLocked(e *Entity, inline []*policy.Document) (*Effective, error) {
	eff := &Effective{Policies: inline, Tags: e.tags()}
	for _, arn := range e.Attached {
		p, ok := d.policies[arn]
		if !ok {
			return nil, fmt.Errorf("policy %s of %s does not exist", arn, e.ARN())
		}
		eff.Policies = append(eff.Policies, p.document)
	}
	if e.Boundary != "" {
		p, ok := d.policies[e.Boundary]
		if !ok {
			return nil, fmt.Errorf("permissions boundary %s of %s does not exist", e.Boundary, e.ARN())
		}
		eff.Boundary = p.document
	}
	return eff, nil
}

// SetPolicy puts a managed policy in the place of the one with its ARN. From then
// on it is what counts for those who have it.
func (d *Directory) SetPolicy(p *Policy) error {
	doc, err := p.compile()
	if err != nil {
		return fmt.Errorf("policy %s, version %s: %w", p.ARN(), p.Default, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.policies[p.ARN()] = managed{p, doc}
	for id, e := range d.entities {
		if !e.uses(p.ARN()) {
			continue
		}
		// The inline policies come first and are compiled already.
		inline := d.effective[id].Policies[:len(e.Inline):len(e.Inline)]
		if d.effective[id], err = d.effectiveLocked(e, inline); err != nil {
			return err
		}
	}
	return nil
}

// DeletePolicy removes a managed policy that nobody has.
func (d *Directory) DeletePolicy(arn string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.policies, arn)
}

// Effective returns what applies to the entity with a unique id. It is never nil.
func (d *Directory) Effective(id string) *Effective {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if eff := d.effective[id]; eff != nil {
		return eff
	}
	return nothing
}

// nothing applies to whom nothing was given.
var nothing = new(Effective)

// Find returns the entity of an account called name, or nil.
func (d *Directory) Find(kind Kind, account, name string) *Entity {
	d.mu.RLock()
	e := d.names[keyOf(kind, account, name)]
	d.mu.RUnlock()
	if e == nil && kind == User {
		return d.implicit.Named(account, name)
	}
	return e
}

// WithID returns the entity with a unique id, or nil.
func (d *Directory) WithID(id string) *Entity {
	d.mu.RLock()
	e := d.entities[id]
	d.mu.RUnlock()
	if e == nil {
		return d.implicit.WithID(id)
	}
	return e
}

// AccessKey returns the user who has an access key, and the key.
func (d *Directory) AccessKey(id string) (*Entity, AccessKey, bool) {
	d.mu.RLock()
	e := d.keys[id]
	d.mu.RUnlock()
	if e == nil {
		return nil, AccessKey{}, false
	}
	i := slices.IndexFunc(e.AccessKeys, func(k AccessKey) bool { return k.ID == id })
	return e, e.AccessKeys[i], true
}

// Policy returns a managed policy, or nil.
func (d *Directory) Policy(arn string) *Policy {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.policies[arn].Policy
}

// Entities lists the entities of an account that have records, by name.
func (d *Directory) Entities(kind Kind, account string) []*Entity {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var list []*Entity
	for e := range maps.Values(d.entities) {
		if e.Kind == kind && e.Account == account {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *Entity) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Room refuses a new entity whose name is taken, and one too many.
func (d *Directory) Room(kind Kind, account, name string) error {
	if d.Find(kind, account, name) != nil {
		return errorf(kmsapi.CodeEntityAlreadyExists, "%s with name %s already exists.", kind.Title(), name)
	}
	limit, quotaName := MaxUsers, "UsersPerAccount"
	if kind == Role {
		limit, quotaName = MaxRoles, "RolesPerAccount"
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	n := 0
	for e := range maps.Values(d.entities) {
		if e.Kind == kind && e.Account == account {
			n++
		}
	}
	if n >= limit {
		return quota(quotaName, limit)
	}
	return nil
}

// RoomForPolicy refuses a new managed policy whose name is taken, and one too many.
func (d *Directory) RoomForPolicy(account, name string) error {
	all := d.Policies(account)
	if slices.ContainsFunc(all, func(p *Policy) bool { return sameName(p.Name, name) }) {
		return errorf(kmsapi.CodeEntityAlreadyExists, "A policy called %s already exists. Duplicate names are not allowed.", name)
	}
	if len(all) >= MaxPolicies {
		return quota("PoliciesPerAccount", MaxPolicies)
	}
	return nil
}

// Policies lists the managed policies of an account, by name.
func (d *Directory) Policies(account string) []*Policy {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var list []*Policy
	for p := range maps.Values(d.policies) {
		if p.Account == account {
			list = append(list, p.Policy)
		}
	}
	slices.SortFunc(list, func(a, b *Policy) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Usage counts the entities that have a managed policy.
func (d *Directory) Usage(arn string) (attached, boundaries int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for e := range maps.Values(d.entities) {
		if e.Boundary == arn {
			boundaries++
		}
		if slices.Contains(e.Attached, arn) {
			attached++
		}
	}
	return attached, boundaries
}
