package fs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/backing"
	"kmsfs.dev/kmsfs/fs/internal/names"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// ErrRewrapping says that a volume's keys are being re-wrapped already.
var ErrRewrapping = errors.New("the volume's keys are being re-wrapped already")

// RewrapOptions of Root.Rewrap. What is nil is left out.
type RewrapOptions struct {
	// Progress is called twice a second and at the end.
	Progress func(RewrapSummary)
	// Failed is called for each key that stays as it was, and for each directory that
	// cannot be looked through.
	Failed func(RewrapFailure)
	// Replacing is called before the configuration is replaced by next, and its error
	// prevents that.
	Replacing func(next *Config) error
}

// RewrapSummary tells how far Rewrap has come.
type RewrapSummary struct {
	Volume      string
	KMSKey      string
	KeyMaterial string // what all keys are under afterwards, as in Info; "" for key services that do not tell
	Total       int64  // names of regular files, counted at the start; 0: none are looked at
	Files       int64  // of these, how many have been looked at
	Rewrapped   int64  // keys, the volume key not among them
	Failed      int64
	VolumeKey   bool // it was re-wrapped
}

// RewrapFailure is a key that could not be re-wrapped.
type RewrapFailure struct {
	Path   string // inside the volume
	Reason string
}

// rewrapTick is how often Progress is called.
const rewrapTick = 500 * time.Millisecond

// maxRewrapPasses bounds how often Rewrap walks the tree while directories are being
// renamed in it.
const maxRewrapPasses = 10

// Rewrap has the key service re-wrap the volume key and the key of every file under the
// newest key material of the volume's KMS key, the mount being used meanwhile. Keys that
// are under it are left as they are, so that a Rewrap that was broken off goes on where
// it stopped. When it returns without an error, and none Failed, no key is under older
// material, on disk. It may be called whether the volume is mounted or not.
//
// The key service is asked for the mount's own principal, which needs kms:ReEncryptFrom
// and kms:ReEncryptTo on every path.
func (r *Root) Rewrap(ctx context.Context, o RewrapOptions) (RewrapSummary, error) {
	s := RewrapSummary{Volume: r.conf.Volume, KMSKey: r.conf.KMSKey}
	if r.opts.ReadOnly {
		return s, unix.EROFS
	}
	if !r.rewrap.running.TryLock() {
		return s, ErrRewrapping
	}
	defer r.rewrap.running.Unlock()
	run := &rewrapRun{r: r, ctx: ctx, o: o, sum: &s, ticked: time.Now()}
	err := run.volumeKey()
	if err == nil && r.keys.perFile() {
		err = run.files()
	}
	if o.Progress != nil {
		o.Progress(s)
	}
	return s, err
}

// rewrapRun is one Rewrap at work.
type rewrapRun struct {
	r      *Root
	ctx    context.Context
	o      RewrapOptions
	sum    *RewrapSummary
	target kmsapi.BlobRef // what keys shall be under; that of no key for key services that do not tell
	ticked time.Time
}

// volumeKey re-wraps the volume key, and learns by that which material is the newest.
func (u *rewrapRun) volumeKey() error {
	r := u.r
	old := r.rewrap.wrapped
	if old == nil {
		old = r.conf.WrappedVolumeKey
	}
	context := volumeContext(r.conf)
	res, err := one(u.ctx, r.keys.svc, kmsapi.BatchItem{
		Op: kmsapi.OpReEncrypt, KeyID: r.conf.KMSKey, SourceKeyID: r.conf.KMSKey, CiphertextBlob: old,
		EncryptionContext: context, DestinationEncryptionContext: context,
	})
	if err != nil {
		return fmt.Errorf("re-wrap the volume key under %s: %w", r.conf.KMSKey, err)
	}
	if target, ok := kmsapi.ParseBlob(res.CiphertextBlob); ok {
		u.target, u.sum.KeyMaterial = target, hex.EncodeToString(target.MaterialID[:])
	}
	if !u.due(old) {
		return nil
	}
	next := *r.conf
	next.WrappedVolumeKey = res.CiphertextBlob
	data, err := next.Seal(r.volKey.Bytes())
	if err != nil {
		return err
	}
	if u.o.Replacing != nil {
		if err := u.o.Replacing(&next); err != nil {
			return err
		}
	}
	if err := r.replaceConfig(data); err != nil {
		return fmt.Errorf("store the re-wrapped volume key: %w", err)
	}
	r.rewrap.wrapped = next.WrappedVolumeKey
	u.sum.VolumeKey = true
	return nil
}

// due reports whether a key is to be re-wrapped.
func (u *rewrapRun) due(wrapped []byte) bool {
	under, ok := kmsapi.ParseBlob(wrapped)
	return !ok || under != u.target
}

// files re-wraps the files' keys and makes that durable.
func (u *rewrapRun) files() error {
	r := u.r
	u.sum.Total = countFiles(u.ctx, r.rootfd)
	r.keys.renewing.Store(true)
	defer r.keys.renewing.Store(false)
	for pass := 1; ; pass++ {
		before := r.rewrap.unwalked.Load()
		if err := u.walk(); err != nil {
			return err
		}
		if r.rewrap.unwalked.Load() == before {
			break
		}
		if pass == maxRewrapPasses {
			return errors.New("directories were renamed all the time, so that files may have been missed; run it again when there is less of that")
		}
		u.sum.Files, u.sum.Failed = 0, 0
	}
	// The barrier makes durable what has been written, and has headers follow that
	// were waiting for it; these need a sync of their own.
	if err := r.runBarrier(); err != nil {
		return err
	}
	return backing.SyncFS(r.rootfd)
}

// walk sees to every file once.
func (u *rewrapRun) walk() error {
	r := u.r
	w := &rewrapper{
		r:    r,
		due:  func(wrapped []byte, from, to string) bool { return from != to || u.due(wrapped) },
		over: func() bool { return u.ctx.Err() != nil || r.stopping() },
		hooks: hooks{
			seen:      u.seen,
			rewrapped: func() { u.sum.Rewrapped++ },
			failed:    u.failed,
		},
	}
	w.dir(r.root)
	w.flush()
	switch {
	case w.err != nil:
		return w.err
	case u.ctx.Err() != nil:
		return u.ctx.Err()
	case r.stopping():
		return errors.New("the volume is being unmounted")
	}
	return nil
}

func (u *rewrapRun) seen(file bool) {
	if file {
		u.sum.Files++
	}
	if u.o.Progress != nil && time.Since(u.ticked) >= rewrapTick {
		u.ticked = time.Now()
		u.r.touch() // the volume is in use
		u.o.Progress(*u.sum)
	}
}

func (u *rewrapRun) failed(n *node, err error) {
	u.sum.Failed++
	r := u.r
	r.tree.RLock()
	path, stored := n.pathLocked(), n.storedPathLocked()
	r.tree.RUnlock()
	r.log.Warn("a key was not re-wrapped", "ciphertext", stored, "err", err)
	if u.o.Failed != nil {
		u.o.Failed(RewrapFailure{Path: path, Reason: err.Error()})
	}
}

// noteUnwalked says that a file may have come from where Rewrap has not been to where
// it has, with its key as it was.
func (r *Root) noteUnwalked() { r.rewrap.unwalked.Add(1) }

// countFiles counts the names of regular files below a directory, without looking at
// any. What it cannot look through it leaves out, and what is left when ctx is over.
func countFiles(ctx context.Context, dirfd int) (n int64) {
	list, err := backing.NewLister(dirfd)
	if err != nil {
		return 0
	}
	defer list.Close()
	for ctx.Err() == nil {
		e, more, err := list.Next()
		if err != nil || !more {
			break
		}
		switch {
		case e.Name == "." || e.Name == ".." || names.IsReserved(e.Name):
		case e.Type == unix.S_IFREG:
			n++
		case e.Type == unix.S_IFDIR:
			if fd, err := backing.OpenDir(dirfd, e.Name); err == nil {
				n += countFiles(ctx, fd)
				backing.Close(fd)
			}
		}
	}
	return n
}
