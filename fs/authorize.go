package fs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Authorize says for whom the key service is asked.
type Authorize int

const (
	// AuthorizeVolume: the mount's own principal opens all keys; inside, POSIX
	// permissions rule.
	AuthorizeVolume Authorize = iota
	// AuthorizeCaller: every create, open, rename and link of a file is decided
	// for the user who calls, beside POSIX permissions. It needs keys=path. A
	// directory rename changes the paths of files that nobody asks for, and
	// answers EXDEV: mv(1) then copies, and each file is decided on.
	AuthorizeCaller
)

// principal is whom the key service is asked for: a user of this machine, or
// the mount itself.
type principal struct {
	caller bool
	uid    uint32 // of the caller
}

// theMount is the worker's own principal. Recovery after a crash and the
// background sweeps ask for it in any mode.
var theMount = principal{}

// principal is whom to ask for when c calls.
func (r *Root) principal(c *fuse.Caller) principal {
	if r.opts.Authorize == AuthorizeCaller {
		return principal{caller: true, uid: c.Uid}
	}
	return theMount
}

// actAs is the principal as kmsapi.BatchItem has it.
func (p principal) actAs() *uint32 {
	if !p.caller {
		return nil
	}
	return &p.uid
}

// consent is a yes of the key service to a file's use by one principal.
type consent struct {
	who principal
	at  time.Time
}

// consented reports whether the key service has said yes to who, lately enough.
// Holds: n.mu.
func (f *file) consented(who principal) bool {
	if !f.r.keys.perFile() {
		return true
	}
	for _, c := range f.consents {
		if c.who == who {
			return time.Since(c.at) < f.r.opts.KeyCacheTTL
		}
	}
	return false
}

// noteConsent keeps a yes, in the place of an older one or of one that is too
// old to count. Holds: n.mu.
func (f *file) noteConsent(who principal, at time.Time) {
	for i := range f.consents {
		if c := &f.consents[i]; c.who == who || time.Since(c.at) >= f.r.opts.KeyCacheTTL {
			*c = consent{who, at}
			return
		}
	}
	f.consents = append(f.consents, consent{who, at})
}
