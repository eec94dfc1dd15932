package fusedev

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// spinner decides whether it pays to look for the next request for a moment
// before sleeping: where more than half of them come that soon.
type spinner struct {
	enabled bool
	score   int // how many of the last came soon, less those that did not
}

const (
	// spinFor is how long to look: no longer than a sleep and a wake-up cost,
	// and longer than a program takes that only works through a tree.
	spinFor = 10 * time.Microsecond
	// maxScore bounds how long the past counts.
	maxScore = 8
)

// newSpinner never looks where there is no second CPU to send a request.
func newSpinner() spinner { return spinner{enabled: runtime.NumCPU() > 1} }

func (s *spinner) note(soon bool) {
	if soon {
		s.score = min(s.score+1, maxScore)
	} else {
		s.score = max(s.score-1, -maxScore)
	}
}

// read reads one request. It looks for it before it sleeps only where one is expected:
// when this loop has answered one just now, of the opcode last.
func (c *Conn) read(buf []byte, last uint32) (int, error) {
	s := &c.spin
	if last == 0 {
		return unix.Read(c.fd, buf)
	}
	if s.enabled && s.score > 0 {
		soon := c.readable()
		if soon {
			c.waited(last)
		} else {
			soon = c.spinUntilReadable()
		}
		s.note(soon)
		return unix.Read(c.fd, buf)
	}
	start := time.Now()
	n, err := unix.Read(c.fd, buf)
	slept := time.Since(start)
	if err == nil && slept < awake {
		c.waited(last)
	}
	s.note(slept < spinFor)
	return n, err
}

// waited notes that a request came while one of the opcode last was answered.
func (c *Conn) waited(last uint32) {
	if !unawaited(last) {
		c.crowd.met()
	}
}

func (c *Conn) spinUntilReadable() bool {
	start := time.Now()
	for !c.readable() {
		if time.Since(start) > spinFor {
			return false
		}
	}
	return true
}

// readable reports whether a request is waiting. It does not sleep, and so need
// not tell the scheduler of Go.
func (c *Conn) readable() bool {
	p := unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN}
	var now unix.Timespec
	n, _, _ := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n == 1
}
