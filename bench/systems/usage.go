package systems

import (
	"fmt"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/bench/procstat"
)

// Usage is what each living process of the site has used so far.
func (s *Site) Usage() (map[int]procstat.Process, error) {
	if s.mnt == "" {
		return nil, nil
	}
	if err := s.adopt(); err != nil {
		return nil, err
	}
	members, err := s.kin.members()
	if err != nil {
		return nil, err
	}
	used := make(map[int]procstat.Process)
	for pid := range s.daemons {
		if p, ok := members[pid]; ok {
			used[pid] = p
		}
	}
	return used, nil
}

// Flush writes out what the kernel and the filesystem hold for the site's data.
func (s *Site) Flush() error {
	fd, err := unix.Open(s.Data(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.Data(), err)
	}
	defer unix.Close(fd)
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("syncfs %s: %w", s.Data(), err)
	}
	return nil
}
