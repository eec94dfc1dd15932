package fs

import (
	"errors"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// A name record (kmsfs.ln.*) lists up to two objects that belong at a name
// although their own binding says otherwise or they have none. Two, because
// while a rename replaces one such object by another the record must vouch for
// whichever of them a crash leaves there.

// errNoEntry says that no name record vouches for an object.
var errNoEntry = errors.New("no name record vouches for it")

// readNameRecord returns the record of a name, or ENOENT.
func (r *Root) readNameRecord(d *dir, stored *names.Stored) (*format.NameRecord, error) {
	target, err := backing.Readlink(d.fd, names.LinkRecord(stored.Name))
	if err != nil {
		return nil, err
	}
	return r.sealer.OpenName(d.id, stored.Tag, target)
}

// nameEntry finds the entry that vouches for object id at the given name.
func (r *Root) nameEntry(d *dir, stored *names.Stored, kind uint8, id [16]byte) (*format.NameEntry, error) {
	rec, err := r.readNameRecord(d, stored)
	if err != nil {
		if err == unix.ENOENT {
			return nil, errNoEntry
		}
		return nil, err
	}
	for i := range rec.Entries {
		e := &rec.Entries[i]
		if e.Kind == kind && e.ID == id {
			return e, nil
		}
	}
	return nil, errNoEntry
}

// putNameEntry makes the record of a name vouch for e, beside whatever it
// vouched for last (the object there now). The record is a symlink, journaled
// in order with the rename or link that follows; undo is for when that fails.
func (r *Root) putNameEntry(d *dir, stored *names.Stored, e *format.NameEntry) (undo func() error, err error) {
	name := names.LinkRecord(stored.Name)
	rec := &format.NameRecord{Entries: []format.NameEntry{*e}}
	before, err := backing.Readlink(d.fd, name)
	if err == unix.ENOENT {
		target, err := r.sealer.SealName(d.id, stored.Tag, rec)
		if err != nil {
			return nil, err
		}
		return func() error { return backing.Unlink(d.fd, name) }, backing.Symlink(d.fd, name, target)
	}
	if err != nil {
		return nil, err
	}
	if old, err := r.sealer.OpenName(d.id, stored.Tag, before); err == nil {
		if last := old.Entries[len(old.Entries)-1]; last.ID != e.ID {
			rec.Entries = []format.NameEntry{last, *e}
		}
	}
	target, err := r.sealer.SealName(d.id, stored.Tag, rec)
	if err != nil {
		return nil, err
	}
	undo = func() error { return backing.ReplaceSymlink(d.fd, name, r.tempName(tmpPrefix), before) }
	return undo, backing.ReplaceSymlink(d.fd, name, r.tempName(tmpPrefix), target)
}

// replaceRecord replaces a record for reasons of our own.
func (r *Root) replaceRecord(dirfd int, name, target string) error {
	return r.keepTimes(dirfd, func() error {
		return backing.ReplaceSymlink(dirfd, name, r.tempName(tmpPrefix), target)
	})
}

// keepTimes leaves a directory's mtime as it was over a change that is none of
// the user's.
func (r *Root) keepTimes(dirfd int, change func() error) error {
	var st unix.Stat_t
	if err := backing.Stat(dirfd, ".", &st); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return backing.Utimens(dirfd, ".", &[2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim})
}

// removeNameRecord removes the record of a name, if there is one. A record
// left behind is harmless: it vouches for an object that is not there.
func (r *Root) removeNameRecord(d *dir, stored *names.Stored) {
	if err := backing.Unlink(d.fd, names.LinkRecord(stored.Name)); err != nil && err != unix.ENOENT {
		r.log.Warn("leftover name record", "err", err)
	}
}

// putSidecar makes sure that a long name's sidecar exists, before the name.
func (r *Root) putSidecar(d *dir, stored *names.Stored) error {
	if stored.Sidecar == "" {
		return nil
	}
	err := backing.Symlink(d.fd, stored.Sidecar, stored.SidecarTarget)
	if err == unix.EEXIST {
		return nil // its name is the hash of its content
	}
	return err
}

// dropSidecar removes a long name's sidecar, after the name.
func (r *Root) dropSidecar(d *dir, stored *names.Stored) {
	if stored.Sidecar != "" {
		_ = backing.Unlink(d.fd, stored.Sidecar)
	}
}
