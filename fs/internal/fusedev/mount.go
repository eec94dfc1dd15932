package fusedev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// open opens the device and attaches it at the mountpoint: by mount(2) where we
// are root, by fusermount3 (fuse3's set-user-ID helper) otherwise.
func open(o *Options) (fd int, err error) {
	if os.Geteuid() == 0 {
		return mountDirectly(o)
	}
	return mountByHelper(o)
}

// mountDirectly is mount(2) as Documentation/filesystems/fuse.rst of the kernel
// has it.
func mountDirectly(o *Options) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(o.Mountpoint, &st); err != nil {
		return -1, err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w", err)
	}
	data := append([]string{
		fmt.Sprintf("fd=%d", fd),
		fmt.Sprintf("rootmode=%o", st.Mode&unix.S_IFMT),
		fmt.Sprintf("user_id=%d", os.Geteuid()),
		fmt.Sprintf("group_id=%d", os.Getegid()),
	}, o.data()...)
	if err := unix.Mount(o.Source, o.Mountpoint, "fuse."+o.Subtype, o.Flags, strings.Join(data, ",")); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// data lists the options that the kernel and the helper both understand.
func (o *Options) data() []string {
	data := []string{"default_permissions", fmt.Sprintf("max_read=%d", o.MaxRequest)}
	if o.AllowOther {
		data = append(data, "allow_other")
	}
	return data
}

// helperFlags are the words by which fusermount3 is told flags of mount(2). It
// sets nosuid and nodev by itself, and does not let a user clear them.
var helperFlags = []struct {
	flag    uintptr
	set, un string
}{
	{unix.MS_RDONLY, "ro", ""},
	{unix.MS_NOEXEC, "noexec", ""},
	{unix.MS_NOSUID, "", "suid"},
	{unix.MS_NODEV, "", "dev"},
}

// mountByHelper has fusermount3 open and mount the device. It passes the
// descriptor back over a socket whose number is in _FUSE_COMMFD.
func mountByHelper(o *Options) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	ours := pair[0]
	theirs := os.NewFile(uintptr(pair[1]), "fusermount3")
	defer unix.Close(ours)
	defer theirs.Close()

	data := append(o.data(), "fsname="+escape(o.Source), "subtype="+escape(o.Subtype))
	for _, f := range helperFlags {
		if word := map[bool]string{true: f.set, false: f.un}[o.Flags&f.flag != 0]; word != "" {
			data = append(data, word)
		}
	}
	cmd := exec.Command("fusermount3", "-o", strings.Join(data, ","), "--", o.Mountpoint)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs} // becomes descriptor 3
	if out, err := cmd.CombinedOutput(); err != nil {
		return -1, helperError(err, out)
	}
	theirs.Close()
	return receiveFD(ours)
}

func helperError(err error, out []byte) error {
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("fusermount3 is not installed (Debian: apt install fuse3)")
	}
	return fmt.Errorf("fusermount3: %w: %s", err, strings.TrimSpace(string(out)))
}

// escape keeps commas and backslashes from ending an option.
func escape(s string) string { return strings.NewReplacer(`\`, `\\`, `,`, `\,`).Replace(s) }

// receiveFD takes the one descriptor that was sent over a socket.
func receiveFD(sock int) (int, error) {
	var data [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(sock, data[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fusermount3 sent no descriptor: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err == nil && len(msgs) == 1 {
		var fds []int
		if fds, err = unix.ParseUnixRights(&msgs[0]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, errors.Join(errors.New("fusermount3 sent no descriptor"), err)
}

// Unmount detaches the mount; it fails while something is in use there.
func (c *Conn) Unmount() error {
	var err error
	// What has just closed its files may not have let go of them yet.
	for delay := 5 * time.Millisecond; delay < 200*time.Millisecond; delay *= 2 {
		if err = unmount(c.o.Mountpoint); err == nil {
			c.Wait()
			return nil
		}
		time.Sleep(delay)
	}
	return err
}

func unmount(mountpoint string) error { return unmountWith(mountpoint, 0, "-u") }

// unmountDead detaches a mount that nobody serves any more, even where somebody is.
func unmountDead(mountpoint string) error { return unmountWith(mountpoint, unix.MNT_DETACH, "-uz") }

func unmountWith(mountpoint string, flags int, option string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(mountpoint, unix.UMOUNT_NOFOLLOW|flags)
	}
	if out, err := exec.Command("fusermount3", option, "--", mountpoint).CombinedOutput(); err != nil {
		return helperError(err, out)
	}
	return nil
}
