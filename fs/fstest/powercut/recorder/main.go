// Command recorder is a filesystem that passes everything on to another
// directory and keeps a recording of the changes; see package powercut.
//
//	recorder MOUNTPOINT DIRECTORY SOCKET
//	recorder exec SOCKET PROGRAM ARGUMENT...
//
// The second form runs a program whose calls of syncfs(2), and those of its
// children, the recorder at SOCKET sees: the kernel does not tell a FUSE
// filesystem about them. It answers one-line commands on SOCKET: "position" with the length of the
// recording, "dump FILE" after it wrote the recording to FILE.
package main

import (
	"bufio"
	"encoding/gob"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest/powercut"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) >= 4 && os.Args[1] == "exec" {
		log.Fatal(watched(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) != 4 {
		log.Fatal("usage: recorder MOUNTPOINT DIRECTORY SOCKET")
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func run(mountpoint, dir, socket string) error {
	rec := &recording{ids: map[uint64]uint64{}, next: powercut.RootID}
	root, err := newRoot(rec, dir)
	if err != nil {
		return err
	}
	if err := rec.existing(dir); err != nil {
		return err
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server, err := fs.Mount(mountpoint, root, &fs.Options{
		NullPermissions: true,
		MountOptions: fuse.MountOptions{
			AllowOther: true, FsName: "recorder", Name: "recorder", MaxWrite: 1 << 20,
			DirectMount: true, Options: []string{"default_permissions"},
		},
	})
	if err != nil {
		return err
	}
	go serve(ln, rec)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	go func() {
		<-stop
		if err := server.Unmount(); err != nil {
			log.Print(err)
			_ = unix.Unmount(mountpoint, unix.MNT_DETACH)
		}
	}()
	server.Wait()
	return nil
}

// recording is the events so far.
type recording struct {
	mu     sync.Mutex // held over a change and its event, so that both have one order
	events []powercut.Event
	ids    map[uint64]uint64 // inode number to object
	next   uint64
}

// created gives an inode number to a new object. Guarded by mu.
func (r *recording) created(ino uint64) uint64 {
	r.next++
	r.ids[ino] = r.next
	return r.next
}

func (r *recording) add(e powercut.Event) { r.events = append(r.events, e) }

func serve(ln net.Listener, rec *recording) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			lines := bufio.NewScanner(c)
			for lines.Scan() {
				fmt.Fprintln(c, rec.command(c.(*net.UnixConn), lines.Text()))
			}
		}()
	}
}

func (r *recording) command(c *net.UnixConn, line string) string {
	name, arg, _ := strings.Cut(line, " ")
	switch name {
	case "position":
		r.mu.Lock()
		defer r.mu.Unlock()
		return fmt.Sprint(len(r.events))
	case "dump":
		if err := r.dump(arg); err != nil {
			return err.Error()
		}
		return "ok"
	case "watch":
		fd, err := receive(c)
		if err != nil {
			return err.Error()
		}
		go watch(fd, r.syncfs)
		return "ok"
	}
	return "unknown command"
}

// syncfs records that everything done until now is durable. The caller of
// syncfs(2) waits meanwhile, and goes on after it.
func (r *recording) syncfs() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(powercut.Event{Kind: powercut.SyncAll, Began: len(r.events)})
}

func (r *recording) dump(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := gob.NewEncoder(w).Encode(r.events); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
