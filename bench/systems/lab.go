package systems

import (
	"context"
	"errors"
	"os"

	"kmsfs.dev/kmsfs/fs/fstest"
)

// Lab is a directory on the disk to measure on, and the sites in it.
type Lab struct {
	Dir     string // everything of this run
	Machine Machine
	Uring   bool // FUSE over io_uring is to be had, and is what kmsfs takes

	restore func() error // switches that off if it was
	kin     *family
	sites   []*Site
	ended   chan struct{} // closed by Close
}

// OpenLab makes a lab below dir. When ctx is done, a filesystem that answers no
// more is killed after a while, so that the run comes to its Close.
func OpenLab(ctx context.Context, dir string) (*Lab, error) {
	kin, err := newFamily()
	if err != nil {
		return nil, err
	}
	l := &Lab{kin: kin, ended: make(chan struct{})}
	if l.Dir, err = os.MkdirTemp(dir, "kmsfs-bench-"); err != nil {
		return nil, err
	}
	if l.Machine, err = describeMachine(l.Dir); err != nil {
		return nil, errors.Join(err, os.Remove(l.Dir))
	}
	if restore, unable := fstest.EnableUring(); unable == nil {
		l.Uring, l.restore = true, restore
	}
	context.AfterFunc(ctx, func() { kin.breakHang(l.ended) })
	return l, nil
}

// Add makes an empty filesystem and mounts it. The site is the lab's to remove,
// after an error as well.
func (l *Lab) Add(ctx context.Context, sys System) (*Site, error) {
	s, err := newSite(sys, l.Dir, l.kin, !l.Machine.Cold)
	if err != nil {
		return nil, err
	}
	l.sites = append(l.sites, s)
	if err := s.create(ctx); err != nil {
		return nil, err
	}
	return s, s.mount()
}

// Close removes the sites and the lab's directory, which holds nothing else by then.
func (l *Lab) Close() error {
	var errs []error
	for _, s := range l.sites {
		errs = append(errs, s.destroy())
	}
	if l.restore != nil {
		errs = append(errs, l.restore())
	}
	errs = append(errs, os.Remove(l.Dir))
	close(l.ended)
	return errors.Join(errs...)
}
