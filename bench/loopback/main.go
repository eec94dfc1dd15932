// Command loopback mounts a directory unchanged through go-fuse, with the
// options that go-fuse's own example uses: the cost of FUSE and of the library
// alone, to measure encrypting filesystems against.
package main

import (
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: loopback DIRECTORY MOUNTPOINT")
		os.Exit(2)
	}
	original, mountpoint := os.Args[1], os.Args[2]
	root, err := fs.NewLoopbackRoot(original)
	if err != nil {
		log.Fatalf("loopback: %v", err)
	}
	second := time.Second
	server, err := fs.Mount(mountpoint, root, &fs.Options{
		AttrTimeout:     &second,
		EntryTimeout:    &second,
		NullPermissions: true,
		MountOptions:    fuse.MountOptions{FsName: original, Name: "loopback"},
	})
	if err != nil {
		log.Fatalf("loopback: mount %s: %v", mountpoint, err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		for range stop {
			if err := server.Unmount(); err != nil {
				log.Printf("loopback: unmount %s: %v", mountpoint, err)
			}
		}
	}()
	server.Wait()
}
