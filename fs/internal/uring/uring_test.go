package uring_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/internal/uring"
)

func newRing(t *testing.T) *uring.Ring {
	t.Helper()
	r, err := uring.New(4)
	if err != nil {
		t.Skip(err) // forbidden, or an older kernel: kmsfs does without, too
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// await returns the next completion.
func await(t *testing.T, r *uring.Ring) uring.Completion {
	t.Helper()
	for range 1000 {
		if c, ok := r.Ended(); ok {
			return c
		}
		if err := r.Enter(true); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("nothing ends")
	panic("unreachable")
}

// TestRead: commands end with their result and what they were submitted with, in rounds
// that take the ring past its end many times.
func TestRead(t *testing.T) {
	r := newRing(t)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(buf)
	for round := range uint64(50) {
		r.Read(round, fd, buf[:8])
		if !r.Pending() {
			t.Fatal("nothing to submit")
		}
		if err := r.Enter(false); err != nil || r.Pending() {
			t.Fatal("not submitted", err)
		}
		if c, ok := r.Ended(); ok {
			t.Fatalf("a read of an event ended before the event: %v", c)
		}
		go unix.Write(fd, []byte{byte(round + 1), 7: 0})
		if c := await(t, r); c.Data != round || c.Result != 8 || c.Err() != nil || buf[0] != byte(round+1) {
			t.Fatalf("round %d: %v, event %d", round, c, buf[0])
		}
	}
}

// TestRefused: a command that a file does not know ends with the error.
func TestRefused(t *testing.T) {
	r := newRing(t)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if args := r.Command(7, fd, 1, 0, 0); len(args) != 80 {
		t.Errorf("%d bytes of arguments", len(args))
	}
	if c := await(t, r); c.Data != 7 || c.Err() != unix.EOPNOTSUPP {
		t.Errorf("%v, %v", c, c.Err())
	}
}

// TestFull: to add more than the ring holds is a mistake of ours.
func TestFull(t *testing.T) {
	r := newRing(t)
	for range 4 {
		if r.Full() {
			t.Fatal("full too soon")
		}
		r.Command(0, -1, 0, 0, 0)
	}
	if !r.Full() {
		t.Fatal("not full")
	}
	defer func() {
		if recover() == nil {
			t.Error("a fifth was taken")
		}
	}()
	r.Command(0, -1, 0, 0, 0)
}
