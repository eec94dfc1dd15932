package policy

import "sync"

// coverage remembers which statements of a document cover a caller and an action. That
// depends on nothing else in a request: resources and conditions are looked at every time.
type coverage struct {
	mu    sync.RWMutex // guards found
	found map[coverKey][]covering
}

// maxCoverage bounds it: a service has many documents in memory, each used by few.
const maxCoverage = 16

// coverKey is all that Statement.covers looks at.
type coverKey struct {
	action          string
	kind            PrincipalType
	arn, account    string
	uniqueID        string
	roleARN, roleID string
	boundary        bool
}

// covering is a statement, by its place, and how it reaches the caller.
type covering struct {
	statement int
	reach     reach
}

// covering lists the statements that cover the caller and the action.
func (d *Document) covering(c *Principal, action string, boundary bool) []covering {
	if len(d.statements) == 0 {
		return nil // also of the zero Document
	}
	key := coverKey{action, c.Type, c.ARN, c.Account, c.UniqueID, c.RoleARN, c.RoleID, boundary}
	v := d.coverage
	v.mu.RLock()
	list, ok := v.found[key]
	v.mu.RUnlock()
	if ok {
		return list
	}
	action = lower(action)
	for i := range d.statements {
		if r := d.statements[i].covers(c, action, boundary); r != none {
			list = append(list, covering{i, r})
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.found == nil || len(v.found) >= maxCoverage {
		v.found = map[coverKey][]covering{}
	}
	v.found[key] = list
	return list
}
