package fusedev_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/fs/fstest"
	"kmsfs.dev/kmsfs/fs/internal/fusedev"
)

// fileFS is a directory with one file of 4 KiB, of which the kernel caches nothing.
type fileFS struct{ fuse.RawFileSystem }

const fileNode, fileSize = 2, 4096

func (fileFS) attr(node uint64, out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink = node, unix.S_IFDIR|0o755, 1
	if node == fileNode {
		out.Mode, out.Size = unix.S_IFREG|0o644, fileSize
	}
}

func (s fileFS) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if name != "f" {
		return fuse.ENOENT
	}
	out.NodeId, out.Generation = fileNode, 1
	s.attr(fileNode, &out.Attr)
	return fuse.OK
}

func (s fileFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	s.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (s fileFS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	s.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (fileFS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (fileFS) Read(_ <-chan struct{}, _ *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	return fuse.ReadResultData(buf[:min(len(buf), fileSize)]), fuse.OK
}

func (fileFS) Release(<-chan struct{}, *fuse.ReleaseIn) {}

// serveEnv has the test binary serve a fileFS over that transport, at the mountpoint that
// is its first argument.
const serveEnv = "KMSFS_FUSEDEV_SERVE"

func TestMain(m *testing.M) {
	if transport := os.Getenv(serveEnv); transport != "" {
		protocol := fuse.NewProtocolServer(fileFS{fuse.NewDefaultRawFileSystem()}, &fuse.MountOptions{MaxWrite: 1 << 20})
		conn, err := fusedev.Mount(fusedev.Options{
			Mountpoint: os.Args[1], Source: "bench", Subtype: "kmsfs", MaxRequest: 1 << 20, QuickSize: 64 << 10, Log: slog.Default(),
			Transport: map[string]fusedev.Transport{"dev": fusedev.Dev, "uring": fusedev.Uring}[transport],
			Handle: func(in, out [][]byte) (int, unix.Errno) {
				n, code := protocol.HandleRequest(in, out)
				return n, unix.Errno(code)
			},
		})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ok")
		conn.Wait()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// BenchmarkTransport is what calls cost that the kernel answers from no cache, on either
// transport, in turns. The servers are processes of their own, as in use.
func BenchmarkTransport(b *testing.B) {
	fstest.RequireRoot(b)
	fstest.RequireUring(b)
	transports := []string{"dev", "uring"}
	places := map[string]string{}
	servers := map[string]int{}
	for _, transport := range transports {
		mnt := b.TempDir()
		cmd := exec.Command(os.Args[0], mnt)
		cmd.Env = append(os.Environ(), serveEnv+"="+transport)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = unix.Unmount(mnt, unix.MNT_DETACH)
			if err := cmd.Wait(); err != nil {
				b.Error(err)
			}
		})
		var said string
		if _, err := fmt.Fscanln(out, &said); err != nil || said != "ok" {
			b.Fatal(said, err)
		}
		servers[transport] = cmd.Process.Pid
		places[transport] = filepath.Join(mnt, "f")
	}
	for _, work := range []struct {
		name string
		do   func(path string) error
	}{
		{"stat", func(path string) error {
			var st unix.Stat_t
			return unix.Lstat(path, &st)
		}},
		{"chmod", func(path string) error { return unix.Chmod(path, 0o600) }},
		{"openreadclose", func(path string) error {
			fd, err := unix.Open(path, unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			var buf [fileSize]byte
			n, err := unix.Read(fd, buf[:])
			if err == nil && n != fileSize {
				err = unix.EIO
			}
			unix.Close(fd)
			return err
		}},
	} {
		b.Run(work.name, func(b *testing.B) {
			took := map[string][]float64{} // by turn, ns per call
			busy := map[string]float64{}   // the servers
			for b.Loop() {
				for _, transport := range transports {
					const calls = 50
					before, start := cpuTime(b, servers[transport]), time.Now()
					for range calls {
						if err := work.do(places[transport]); err != nil {
							b.Fatal(err)
						}
					}
					took[transport] = append(took[transport], float64(time.Since(start))/calls)
					busy[transport] += float64(cpuTime(b, servers[transport])-before) / calls
				}
			}
			var ratios []float64
			for i, dev := range took["dev"] {
				ratios = append(ratios, dev/took["uring"][i])
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(ratios), "dev/uring")
			for _, transport := range transports {
				b.ReportMetric(median(took[transport]), transport+"-ns")
				b.ReportMetric(busy[transport]/float64(len(ratios)), transport+"-cpu-ns")
			}
		})
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// cpuTime is how long a process has run, in nanoseconds.
func cpuTime(b *testing.B, pid int) (total int64) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		b.Fatal("no threads", err)
	}
	for _, name := range threads {
		var n int64
		if text, err := os.ReadFile(name); err == nil { // or it has just ended
			if _, err := fmt.Sscan(string(text), &n); err != nil {
				b.Fatal(err)
			}
		}
		total += n
	}
	return total
}
