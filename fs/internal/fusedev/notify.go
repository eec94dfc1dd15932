package fusedev

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Notifications (enum fuse_notify_code of linux/fuse.h).
const (
	notifyInvalInode = 2
	notifyStore      = 4
)

// InvalidateAttr has the kernel ask for a node's attributes anew. Its cached
// pages stay.
func (c *Conn) InvalidateAttr(node uint64) error {
	// struct fuse_notify_inval_inode_out: ino, off, len. A negative offset
	// means attributes only.
	var msg [headerOut + 24]byte
	off := int64(-1)
	binary.NativeEndian.PutUint64(msg[headerOut:], node)
	binary.NativeEndian.PutUint64(msg[headerOut+8:], uint64(off))
	return c.notify(notifyInvalInode, msg[:], nil)
}

// Store puts data into the kernel's cache of a node's content, from its
// beginning, which makes the file at least as long.
func (c *Conn) Store(node uint64, data []byte) error {
	// struct fuse_notify_store_out: nodeid, offset, size, padding.
	var msg [headerOut + 24]byte
	binary.NativeEndian.PutUint64(msg[headerOut:], node)
	binary.NativeEndian.PutUint32(msg[headerOut+16:], uint32(len(data)))
	return c.notify(notifyStore, msg[:], data)
}

// notify sends an unasked message: its unique ID is 0, its status the code. It
// is ENODEV once the mount is gone.
func (c *Conn) notify(code int32, msg, data []byte) error {
	c.notifying.RLock()
	defer c.notifying.RUnlock()
	if c.closed {
		return unix.ENODEV
	}
	putHeader(msg, len(msg)+len(data), code, 0)
	_, err := unix.Writev(c.fd, [][]byte{msg, data})
	return err
}
