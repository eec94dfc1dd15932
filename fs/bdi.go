package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// tuneReadahead widens the kernel's readahead of the mount to the largest
// request; by itself it stays at 128 KiB however much the worker offers. Only
// root may; everybody else reads with the default.
func (r *Root) tuneReadahead(mountpoint string) {
	var st unix.Stat_t
	if os.Geteuid() != 0 || unix.Stat(mountpoint, &st) != nil {
		return
	}
	// Documentation/ABI/testing/sysfs-class-bdi
	bdi := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	path := filepath.Join("/sys/class/bdi", bdi, "read_ahead_kb")
	if err := os.WriteFile(path, []byte(strconv.Itoa(maxRequest>>10)), 0); err != nil {
		r.log.Info("readahead stays at the kernel's default", "err", err)
	}
}
