package fusedev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Transport is how requests come from the kernel.
type Transport int

const (
	// Auto is Uring where the kernel offers it, and Dev elsewhere.
	Auto Transport = iota
	// Uring is over io_uring (Linux 6.14), if fuse's parameter enable_uring is set.
	Uring
	// Dev is by reading /dev/fuse.
	Dev
)

// errQueues means that the queues failed after the kernel had been told of them: only
// another mount can do without.
var errQueues = errors.New("requests over io_uring")

// maxQueues bounds the CPUs for which io_uring is used. The kernel wants a queue for each
// that the machine might ever have, and each has two threads and memory of its own.
const maxQueues = 64

// The part of struct fuse_init_in and fuse_init_out that matters here. Both begin with
// major, minor, max_readahead, flags.
const (
	initFlags     = 12
	initInFlags2  = 16
	initMaxWrite  = 20
	initMaxPages  = 28
	initOutFlags2 = 32

	flagMaxPages   = 1 << 22 // FUSE_MAX_PAGES
	flagInitExt    = 1 << 30 // FUSE_INIT_EXT: there are flags2
	flag2OverUring = 1 << 9  // FUSE_OVER_IO_URING, bit 41

	minReadBuffer   = 8192 // FUSE_MIN_READ_BUFFER
	defaultMaxPages = 32   // FUSE_DEFAULT_MAX_PAGES_PER_REQ
)

// newQueues makes a queue for each possible CPU, and tells the kernel so in the reply to
// the request INIT. After that the kernel holds back everything until all the queues are
// registered: what can fail is done here, before the reply is sent.
func (c *Conn) newQueues(request, reply []byte) error {
	in, out := request[headerIn:], reply[headerOut:]
	u32 := binary.NativeEndian.Uint32
	if len(in) < initInFlags2+4 || u32(in[initFlags:])&flagInitExt == 0 || u32(in[initInFlags2:])&flag2OverUring == 0 {
		return errors.New("the kernel does not offer FUSE over io_uring: Linux 6.14 and later do, where /sys/module/fuse/parameters/enable_uring is Y")
	}
	if len(out) < initOutFlags2+4 {
		return errors.New("the reply to INIT is too short for io_uring")
	}
	n, err := possibleCPUs()
	if err != nil {
		return err
	}
	if n > maxQueues {
		return fmt.Errorf("the machine may have %d CPUs, and io_uring is used up to %d", n, maxQueues)
	}
	// As the kernel computes it (fuse_uring_create).
	pages := defaultMaxPages
	if u32(out[initFlags:])&flagMaxPages != 0 {
		pages = int(binary.NativeEndian.Uint16(out[initMaxPages:]))
	}
	size := max(int(u32(out[initMaxWrite:])), pages*os.Getpagesize(), minReadBuffer)
	if c.o.shortPayloads {
		size = minReadBuffer / 2
	}
	for id := range n {
		q, err := newQueue(c, id, size)
		if err != nil {
			c.closeQueues()
			c.queues = nil
			return err
		}
		c.queues = append(c.queues, q)
	}
	binary.NativeEndian.PutUint32(out[initFlags:], u32(out[initFlags:])|flagInitExt)
	binary.NativeEndian.PutUint32(out[initOutFlags2:], u32(out[initOutFlags2:])|flag2OverUring)
	return nil
}

// startQueues registers the queues' buffers, and has requests answered from then on.
func (c *Conn) startQueues() error {
	if len(c.queues) == 0 {
		return nil
	}
	var err error
	if c.dev, err = deviceOf(c.o.Mountpoint); err != nil {
		return fmt.Errorf("%w: %w", errQueues, err)
	}
	changeProcs(len(c.queues))
	for _, q := range c.queues {
		q.start()
	}
	for _, q := range c.queues {
		err = errors.Join(err, <-q.registered)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errQueues, err)
	}
	c.o.Log.Info("requests come over io_uring", "queues", len(c.queues))
	return nil
}

// closeQueues ends the queues' threads if they still run, and gives back what they had.
func (c *Conn) closeQueues() {
	started := false
	for _, q := range c.queues {
		started = started || q.started
		q.end()
	}
	for _, q := range c.queues {
		q.threads.Wait()
		q.close()
	}
	if started {
		changeProcs(-len(c.queues))
	}
}

// fail ends the connection after an error that leaves requests unanswered, so that those
// who wait for them do not for ever.
func (c *Conn) fail(err error) {
	if c.gone() {
		return // which is what the error comes from
	}
	c.failed.Do(func() {
		c.o.Log.Error("the connection to the kernel failed; the mount is gone", "err", err)
		// Not in this thread, a queue's: to unmount is to wait until the kernel has the
		// entries back, which those that are just coming are not before the thread moves on.
		go func() {
			if err := c.abort(); err != nil {
				// Without us there is no connection either.
				panic(fmt.Sprint("the connection to the kernel cannot be ended: ", err))
			}
		}()
	})
}

// gone reports whether the kernel has ended the connection.
func (c *Conn) gone() bool {
	p := []unix.PollFd{{Fd: int32(c.fd)}}
	n, _ := unix.Poll(p, 0)
	return n == 1 && p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

// abort has the kernel end the connection, and answer every request with an error.
func (c *Conn) abort() error {
	// Documentation/filesystems/fuse.rst: the control filesystem, which also those may use
	// who mounted without being root.
	err := os.WriteFile(fmt.Sprintf("/sys/fs/fuse/connections/%d/abort", unix.Minor(c.dev)), []byte("1"), 0)
	if err == nil {
		return nil
	}
	if there, e := deviceOf(c.o.Mountpoint); e != nil || there != c.dev {
		return errors.Join(err, e) // moved, and not to be found
	}
	if e := unix.Unmount(c.o.Mountpoint, unix.UMOUNT_NOFOLLOW|unix.MNT_FORCE|unix.MNT_DETACH); e != nil {
		return errors.Join(err, e)
	}
	return nil
}

// deviceOf is the device number of the mount at a mountpoint. It makes no request.
func deviceOf(mountpoint string) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, mountpoint, unix.AT_STATX_DONT_SYNC|unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return unix.Mkdev(st.Dev_major, st.Dev_minor), err
}

// possibleCPUs is how many CPUs the machine may ever have, as the kernel counts queues.
func possibleCPUs() (int, error) {
	text, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		return 0, err
	}
	// Where numbers are left out, some CPU's queue would be none of those counted.
	list := strings.TrimSpace(string(text))
	last, err := strconv.Atoi(list[strings.LastIndexByte(list, '-')+1:])
	if err != nil || list != "0" && list != fmt.Sprintf("0-%d", last) {
		return 0, fmt.Errorf("io_uring needs CPUs that are numbered from 0 on; possible are %q", list)
	}
	return last + 1, nil
}

// procs is held while GOMAXPROCS, which is the whole process's, is changed.
var procs sync.Mutex

// changeProcs gives Go that many more processors. A thread that returns from waiting for
// a request must find one, or it would first have to wake and wait for another thread.
func changeProcs(by int) {
	procs.Lock()
	defer procs.Unlock()
	runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)+by))
}
