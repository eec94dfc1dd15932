package fs_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"kmsfs.dev/kmsfs/fs/fstest"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(envImpostor); socket != "" {
		impostor(socket)
	}
	fstest.Main(m)
}

// envImpostor makes the test binary a false key service on the named socket:
// a server's peer credentials are those of the process that listens.
const envImpostor = "KMSFS_TEST_IMPOSTOR"

func impostor(socket string) {
	ln, err := net.Listen("unix", socket)
	if err == nil {
		err = os.Chmod(socket, 0o666)
	}
	fmt.Println("ready", err)
	for err == nil {
		var c net.Conn
		if c, err = ln.Accept(); err == nil {
			go func() {
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n\r\n{}")
				c.Close()
			}()
		}
	}
	os.Exit(1)
}
