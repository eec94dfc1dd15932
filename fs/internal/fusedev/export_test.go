package fusedev

import (
	"golang.org/x/sys/unix"
)

// RefuseQueues has the kernel refuse the queues when it has already been told of them.
func (o *Options) RefuseQueues() { o.shortPayloads = true }

// BreakRings makes every ring something else, whose descriptor no thread can enter.
func (c *Conn) BreakRings() error {
	for _, q := range c.queues {
		if err := unix.Dup3(q.event, q.ring.FD(), unix.O_CLOEXEC); err != nil {
			return err
		}
	}
	return nil
}

// Queues is how many queues there are, 0 with requests read from the device.
func (c *Conn) Queues() int { return len(c.queues) }

// Alive reports whether the kernel still has the connection.
func (c *Conn) Alive() bool { return !c.gone() }

// TryWithoutOffer makes the queues for an INIT that does not offer io_uring.
func TryWithoutOffer() error {
	return (&Conn{}).newQueues(make([]byte, headerIn+64), make([]byte, headerOut+64))
}
