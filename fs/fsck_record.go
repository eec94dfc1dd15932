package fs

import (
	"strings"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/format"
	"kmsfs.dev/kmsfs/fs/internal/names"
)

// Prefixes of what the format keeps beside the objects of a directory; the
// names are built by package names.
const (
	recordPrefix  = "kmsfs.ln."
	sidecarPrefix = "kmsfs.name."
)

// checkOwn checks an entry of the format itself.
func (c *checker) checkOwn(n *node, d *dir, entry string) {
	switch {
	case entry == dirName, n == c.r.root && (entry == configName || entry == settledName):
		// Opening the directory, or the volume, has checked it.
	case strings.HasPrefix(entry, tmpPrefix), strings.HasPrefix(entry, delPrefix):
		c.checkTemporary(n, d, entry)
	case strings.HasPrefix(entry, asidePrefix):
		c.checkAside(n, d, entry)
	case strings.HasPrefix(entry, sidecarPrefix):
		c.checkSidecar(n, d, entry)
	case strings.HasPrefix(entry, recordPrefix):
		c.checkRecord(n, d, entry)
	default:
		c.foreign(n, entry, "nothing of kmsfs has this name")
	}
}

// foreign reports an entry that no writer made. The filesystem does not look
// at it, but it does not belong there.
func (c *checker) foreign(n *node, entry, reason string) {
	f := c.in(n, entry)
	f.Category, f.Reason, f.Advice = Damage, reason, "remove it from the ciphertext directory"
	c.report(f)
}

// leftover reports what a crash left, and removes it.
func (c *checker) leftover(f *Finding, reason string, remove func() error) {
	f.Category, f.Reason, f.Advice = Leftover, reason, adviceRepair
	if !c.o.Repair {
		c.report(f)
		return
	}
	c.repaired(f, remove(), "removed it")
}

// checkTemporary checks an object that was being made or removed.
func (c *checker) checkTemporary(n *node, d *dir, entry string) {
	var st unix.Stat_t
	if err := backing.Stat(d.fd, entry, &st); err != nil {
		return
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
	case unix.S_IFDIR:
		fd, err := backing.OpenDir(d.fd, entry)
		if err == nil {
			_, err = c.r.ownEntries(fd)
			backing.Close(fd)
		}
		if err != nil {
			c.foreign(n, entry, "a temporary directory that is not empty: "+err.Error())
			return
		}
	default:
		if _, err := c.r.peekHeader(object{dirfd: d.fd, name: entry}); err == nil {
			c.foreign(n, entry, "a file's ciphertext under a temporary name")
			return
		}
	}
	c.leftover(c.in(n, entry), "a crash left it half made or half removed", func() error {
		c.r.sweep(d, entry)
		if err := backing.Stat(d.fd, entry, &st); err != unix.ENOENT {
			return unix.EBUSY
		}
		return nil
	})
}

// checkAside checks a directory that a rename was about to replace.
func (c *checker) checkAside(n *node, d *dir, entry string) {
	base := strings.TrimPrefix(entry, asidePrefix)
	name, stored, ok := c.r.plainName(d, base)
	if !ok || stored == nil {
		c.foreign(n, entry, "a directory aside, but of no name in this directory")
		return
	}
	err := c.r.checkEmpty(d, entry)
	if err != nil {
		c.foreign(n, entry, "a directory that a rename replaced, but not an empty one: "+err.Error())
		return
	}
	f := c.in(n, entry)
	f.Path = (&nameRef{parent: n, name: name}).pathLocked()
	restore := func() error {
		c.r.restore(d, entry, base)
		if c.exists(d, entry) {
			return unix.EBUSY
		}
		return nil
	}
	if c.exists(d, base) {
		c.leftover(f, "a rename replaced it", restore)
		return
	}
	f.Category, f.Reason, f.Advice = Unsettled, "a rename that was to replace it was cut short", "the next mount puts it back, or --repair"
	if c.o.Repair {
		c.repaired(f, restore(), "put it back")
	} else {
		c.report(f)
	}
}

// checkSidecar checks the full name of a long name.
func (c *checker) checkSidecar(n *node, d *dir, entry string) {
	hash := strings.TrimPrefix(entry, sidecarPrefix)
	stored := names.Stored{Name: "kmsfs.long." + hash, Sidecar: entry}
	if c.exists(d, stored.Name) || c.exists(d, names.LinkRecord(stored.Name)) || c.exists(d, asidePrefix+stored.Name) {
		return // checked with the name, or removed with its record
	}
	target, err := backing.Readlink(d.fd, entry)
	if err == nil {
		_, _, err = c.r.names.DecryptLong(d.id, stored.Name, target)
	}
	if err != nil {
		c.foreign(n, entry, "the record of a long name that does not verify: "+err.Error())
		return
	}
	c.leftover(c.in(n, entry), "the record of a long name that is gone", func() error {
		return backing.Unlink(d.fd, entry)
	})
}

func (c *checker) exists(d *dir, entry string) bool {
	var st unix.Stat_t
	return backing.Stat(d.fd, entry, &st) == nil
}

// checkRecord checks a name record, and whether anything still needs it.
func (c *checker) checkRecord(n *node, d *dir, entry string) {
	r := c.r
	base := strings.TrimPrefix(entry, recordPrefix)
	if strings.HasPrefix(base, "long.") {
		base = "kmsfs." + base
	}
	name, stored, ok := r.plainName(d, base)
	switch {
	case ok && stored != nil:
	case names.IsLong(base) && c.exists(d, base):
		return // reported with the name
	case names.IsLong(base) && !c.exists(d, names.SidecarOf(base)):
		c.leftover(c.in(n, entry), "a name record of nothing, of a long name that is gone", func() error {
			return backing.Unlink(d.fd, entry)
		})
		return
	default:
		c.foreign(n, entry, "a name record, but of no name in this directory")
		return
	}
	ref := &nameRef{parent: n, name: name, stored: *stored}
	f := c.in(n, entry)
	f.Path = ref.pathLocked()
	rec, err := r.readNameRecord(d, stored)
	if err != nil {
		var detail string
		f.Category, detail, f.Advice = classify(err)
		if f.Category == Unchecked && err == unix.EINVAL { // no symlink
			f.Category = Damage
		}
		f.Reason = "the name record does not verify: " + detail
		f.Advice = "restore it from a backup of the ciphertext, or remove it if the file can be read without"
		c.report(f)
		return
	}
	if c.exists(d, asidePrefix+base) {
		return // the name will be back
	}
	var st unix.Stat_t
	if err := backing.Stat(d.fd, stored.Name, &st); err == unix.ENOENT {
		c.leftover(f, "a name record of nothing: a rename, a link or a removal was cut short", func() error {
			err := backing.Unlink(d.fd, entry)
			r.dropSidecar(d, stored)
			return err
		})
		return
	}
	c.judgeRecord(d, ref, &st, rec, f)
}

// judgeRecord compares a record with the object at its name. One that vouches
// for that object is kept, needed or not: normal use leaves such. So is one
// beside an object that is damaged.
func (c *checker) judgeRecord(d *dir, ref *nameRef, st *unix.Stat_t, rec *format.NameRecord, f *Finding) {
	mine, bound, err := c.entryOf(d, ref, st, rec)
	last := len(rec.Entries) - 1
	switch {
	case err != nil || mine < 0 && !bound:
	case mine < 0:
		c.leftover(f, "a name record of an object that is not here: a rename or a link was cut short", func() error {
			return backing.Unlink(d.fd, names.LinkRecord(ref.stored.Name))
		})
	case mine < last:
		// A second rename to this name would push the entry out that counts.
		c.leftover(f, "the name record also vouches for an object that is not here: a rename was cut short", func() error {
			target, err := c.r.sealer.SealName(d.id, ref.stored.Tag, &format.NameRecord{Entries: rec.Entries[mine : mine+1]})
			if err != nil {
				return err
			}
			return c.r.replaceRecord(d.fd, names.LinkRecord(ref.stored.Name), target)
		})
	}
}

// entryOf finds the entry of rec that is for the object at ref, -1 if none,
// and whether that object's own binding says that it belongs here.
func (c *checker) entryOf(d *dir, ref *nameRef, st *unix.Stat_t, rec *format.NameRecord) (mine int, bound bool, err error) {
	r := c.r
	want := format.NameEntry{}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h, err := r.peekHeader(object{dirfd: d.fd, name: ref.stored.Name})
		if err != nil {
			return -1, false, err
		}
		want.Kind, want.ID = format.KindFile, h.FileID
		bound = h.Parent == d.id && h.Tag == ref.stored.Tag && !h.KeyInRecord
	case unix.S_IFLNK:
		target, err := backing.Readlink(d.fd, ref.stored.Name)
		if err != nil {
			return -1, false, err
		}
		link, err := r.sealer.OpenSymlink(target)
		if err != nil {
			return -1, false, err
		}
		want.Kind, want.ID = format.KindSymlink, link.ID
		bound = link.Parent == d.id && link.Tag == ref.stored.Tag
	case unix.S_IFDIR:
		fd, err := backing.OpenDir(d.fd, ref.stored.Name)
		if err != nil {
			return -1, false, err
		}
		defer backing.Close(fd)
		target, err := backing.Readlink(fd, dirName)
		if err != nil {
			return -1, false, err
		}
		own, err := r.sealer.OpenDir(target)
		if err != nil {
			return -1, false, err
		}
		want.Kind, want.ID = format.KindDir, own.ID
		bound = own.At(ref.stored.Tag)
	default:
		e, err := r.specialEntry(d, ref, st)
		if err != nil {
			return -1, false, err
		}
		want.Kind, want.ID = format.KindSpecial, e.ID
	}
	for i := range rec.Entries {
		if rec.Entries[i].Kind == want.Kind && rec.Entries[i].ID == want.ID {
			return i, bound, nil
		}
	}
	return -1, bound, nil
}
