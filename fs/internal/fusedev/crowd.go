package fusedev

import "time"

// crowd remembers whether requests have come while another was answered. To ask the
// kernel whether more are waiting costs a system call before each answer, and a
// program that works alone, and waits for each answer, never has two.
type crowd struct {
	left int // requests before which it is still worth asking
}

const (
	// crowdLasts is for how many requests one that had to wait counts: few programs
	// send a single one beside another's.
	crowdLasts = 8
	// awake is less than any sleep takes: a small request read within it was there
	// before. Others are noticed by the watchdog.
	awake = 3 * time.Microsecond
)

// met notes that a request was waiting while another was answered.
func (c *crowd) met() { c.left = crowdLasts }

// near reports whether more requests may be waiting, each time for one fewer.
func (c *crowd) near() bool {
	if c.left == 0 {
		return false
	}
	c.left--
	return true
}
