package keysvc_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

// plain listens without TLS, so that a test can write what it likes.
var plain = keysvc.RemoteOptions{Address: "127.0.0.1:0", InsecureHTTP: true}

// fakeNetwork makes connections come from where from says.
type fakeNetwork struct {
	net.Listener
	from func() string
}

type fakeConn struct {
	net.Conn
	from net.Addr
}

func (l fakeNetwork) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return fakeConn{c, &net.TCPAddr{IP: net.ParseIP(l.from()), Port: 1}}, nil
}

func (c fakeConn) RemoteAddr() net.Addr { return c.from }

// network is a service whose connections come from the address that is set.
func network(t *testing.T, opts ...keysvctest.Option) (srv *keysvctest.Server, alice aws.Credentials, set func(string)) {
	var from atomic.Value
	from.Store("192.0.2.1")
	srv, alice = remoteServer(t, plain, append(opts, keysvctest.WithNetwork(func(l net.Listener) net.Listener {
		return fakeNetwork{l, func() string { return from.Load().(string) }}
	}))...)
	return srv, alice, func(a string) { from.Store(a) }
}

func connect(t *testing.T, srv *keysvctest.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", srv.Remote.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// patience is how long anything here may take on a machine that has others to serve.
const patience = time.Minute

// closedWithin says whether the server closes c within d, without a word.
func closedWithin(t *testing.T, c net.Conn, d time.Duration) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	return n == 0 && !(errors.As(err, &timeout) && timeout.Timeout())
}

// ask sends a raw request and returns the answer's status, or 0 when there is none.
func ask(t *testing.T, c net.Conn, request string) (status int, closes bool) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		return 0, true
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, true
	}
	// A server that did not read all may reset the connection behind its answer.
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Close || err != nil
}

const unsigned = "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: TrentService.ListKeys\r\nContent-Length: 2\r\n\r\n{}"

func whoAmI(t *testing.T, srv *keysvctest.Server, c *http.Client, who aws.Credentials) error {
	t.Helper()
	_, err := stsClient(srv.Remote.URL(), c, who).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	return err
}

// TestStrangersMakePlace opens more connections than strangers may have. The oldest of
// them go, and those who sign come through.
func TestStrangersMakePlace(t *testing.T) {
	for name, tt := range map[string]struct {
		from  func(i int) string
		limit int
	}{
		"one address":           {func(int) string { return "192.0.2.1" }, 32},
		"one IPv6 network":      {func(i int) string { return fmt.Sprintf("2001:db8::%x", i+1) }, 32},
		"many addresses":        {func(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }, 128},
		"many IPv6 networks":    {func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i+1) }, 128},
		"one address, loopback": {func(int) string { return "127.0.0.1" }, 32},
	} {
		t.Run(name, func(t *testing.T) {
			srv, alice, from := network(t)
			from(tt.from(0))
			c := srv.RemoteHTTPClient()
			if err := whoAmI(t, srv, c, alice); err != nil { // keeps its connection
				t.Fatal(err)
			}
			const more = 3
			var conns []net.Conn
			for i := range tt.limit + more {
				from(tt.from(i))
				conn := connect(t, srv)
				if status, _ := ask(t, conn, unsigned); status != http.StatusBadRequest {
					t.Fatalf("connection %d is answered with %d", i, status)
				}
				conns = append(conns, conn)
			}
			for i, conn := range conns {
				if i < more && !closedWithin(t, conn, patience) {
					t.Errorf("connection %d stays open", i)
				}
				if i >= more && closedWithin(t, conn, 20*time.Millisecond) {
					t.Errorf("connection %d is closed", i)
				}
			}
			if err := whoAmI(t, srv, c, alice); err != nil {
				t.Errorf("on a connection that is known: %v", err)
			}
			if err := whoAmI(t, srv, srv.RemoteHTTPClient(), alice); err != nil {
				t.Errorf("on a new connection: %v", err)
			}
		})
	}
}

// TestKnownConnectionsMakePlace has a user keep more connections than there may be.
func TestKnownConnectionsMakePlace(t *testing.T) {
	srv, alice, from := network(t)
	from("127.0.0.1") // no attempts are counted
	const limit, more = 256, 2
	var conns []net.Conn
	for i := range limit + more {
		conn := connect(t, srv)
		var wire strings.Builder
		if err := (signedRequest{Target: "TrentService.ListKeys", Body: "{}"}).make(t, srv.Remote.URL(), alice).Write(&wire); err != nil {
			t.Fatal(err)
		}
		if status, closes := ask(t, conn, wire.String()); status != http.StatusBadRequest || closes {
			t.Fatalf("connection %d: %d, %t", i, status, closes)
		}
		conns = append(conns, conn)
	}
	// A connection is idle some time after its answer, so that the first to come need
	// not be the very first to go.
	var closed []int
	for deadline := time.Now().Add(patience); len(closed) < more && time.Now().Before(deadline); {
		closed = nil
		for i, conn := range conns {
			if closedWithin(t, conn, time.Millisecond) {
				closed = append(closed, i)
			}
		}
	}
	if len(closed) != more || closed[more-1] >= limit/4 {
		t.Errorf("connections %v are closed, not %d of the oldest", closed, more)
	}
}

// TestAttemptsAreBounded counts how often an address may try.
func TestAttemptsAreBounded(t *testing.T) {
	const burst, perSecond = 100, 10
	clock := keysvctest.NewClock(time.Now()) // which stands
	stands := keysvctest.WithAttemptsClock(clock.Now)
	t.Run("connections", func(t *testing.T) {
		srv, alice, from := network(t, stands)
		accepted := 0
		for range burst + 50 {
			c := connect(t, srv)
			if status, _ := ask(t, c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); status != 0 {
				accepted++
			}
			c.Close()
		}
		// Each connection and each refusal is an attempt.
		if accepted != burst/2 {
			t.Errorf("%d connections are answered, not %d", accepted, burst/2)
		}
		if err := whoAmI(t, srv, srv.RemoteHTTPClient(), alice); err == nil {
			t.Error("the address is let in after all")
		}
		from("192.0.2.2")
		if err := whoAmI(t, srv, srv.RemoteHTTPClient(), alice); err != nil {
			t.Errorf("another address: %v", err)
		}
		from("192.0.2.1")
		clock.Add(time.Second / perSecond) // one attempt comes back
		if err := whoAmI(t, srv, srv.RemoteHTTPClient(), alice); err != nil {
			t.Errorf("later: %v", err)
		}
	})
	t.Run("signatures", func(t *testing.T) {
		srv, _, _ := network(t, stands)
		c := connect(t, srv)
		answered := 0
		for range 2 * burst {
			status, closes := ask(t, c, unsigned)
			if status == 0 {
				break
			}
			answered++
			if closes {
				break
			}
		}
		if answered != burst { // the connection was an attempt, and the last is told to go
			t.Errorf("%d refusals on one connection, not %d", answered, burst)
		}
	})
	t.Run("good ones are none", func(t *testing.T) {
		srv, alice, _ := network(t, stands)
		for range burst + 50 {
			c := srv.RemoteHTTPClient()
			if err := whoAmI(t, srv, c, alice); err != nil {
				t.Fatal(err)
			}
			c.CloseIdleConnections()
		}
	})
	t.Run("loopback's are not counted", func(t *testing.T) {
		srv, _, from := network(t, stands)
		from("::1")
		for i := range burst + 50 {
			c := connect(t, srv)
			if status, closes := ask(t, c, unsigned); status == 0 || closes {
				t.Fatalf("connection %d: %d, %t", i, status, closes)
			}
			c.Close()
		}
	})
}

// TestSlowPeersAreCutOff has peers that begin and never end.
func TestSlowPeersAreCutOff(t *testing.T) {
	drip := func(t *testing.T, c net.Conn, text string) {
		t.Helper()
		start := time.Now()
		for i := 0; time.Since(start) < patience; i++ {
			if _, err := c.Write([]byte{text[min(i, len(text)-1)]}); err != nil {
				return
			}
			if closedWithin(t, c, 200*time.Millisecond) {
				return
			}
		}
		t.Errorf("the connection is open after %v", time.Since(start))
	}
	t.Run("header", func(t *testing.T) {
		t.Parallel()
		srv, _ := remoteServer(t, plain)
		drip(t, connect(t, srv), "POST / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 1000))
	})
	t.Run("body", func(t *testing.T) {
		t.Parallel()
		srv, _ := remoteServer(t, plain)
		c := connect(t, srv)
		start := time.Now()
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(start.Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("the connection is open after %v: %v", time.Since(start), err)
		}
	})
	t.Run("handshake", func(t *testing.T) {
		t.Parallel()
		srv, _ := remoteServer(t, loopback)
		drip(t, connect(t, srv), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc"+strings.Repeat("\x00", 500))
	})
}

func TestSizesAreBounded(t *testing.T) {
	srv, alice := remoteServer(t, plain)
	for name, tt := range map[string]struct {
		request string
		status  int
	}{
		"a long header":         {"POST / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 24<<10) + "\r\n\r\n", 431},
		"many headers":          {"POST / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: x\r\n", 4<<10) + "\r\n", 431},
		"a long line":           {"POST /" + strings.Repeat("x", 24<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
		"a body that is huge":   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n", 400},
		"a length and chunks":   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"two lengths":           {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
		"HTTP/2 without asking": {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0},
	} {
		status, _ := ask(t, connect(t, srv), tt.request)
		if status != tt.status && !(tt.status == 0 && status >= 400) {
			t.Errorf("%s is answered with %d", name, status)
		}
	}
	// What is announced and not sent costs next to nothing.
	const conns = 30
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range conns {
		if _, err := io.WriteString(connect(t, srv), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 524288\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond) // all of them are being read
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > conns*100<<10 {
		t.Errorf("%d bytes for a connection that announces 512 KiB", (after.TotalAlloc-before.TotalAlloc)/conns)
	}
	if err := whoAmI(t, srv, srv.RemoteHTTPClient(), alice); err != nil {
		t.Error(err)
	}
}

// TestRefusedSignaturesAreRecorded looks for them in the audit log.
func TestRefusedSignaturesAreRecorded(t *testing.T) {
	srv, alice := remoteServer(t, loopback)
	wrong := alice
	wrong.SecretAccessKey = "x" + aliceSecret[1:]
	signedRequest{Target: "TrentService.ScheduleKeyDeletion", Body: `{"KeyId":"k"}`}.send(t, srv, wrong)
	signedRequest{Target: "TrentService.ListKeys", Unsigned: true}.send(t, srv, alice)
	signedRequest{Target: "TrentService.ListKeys", Body: "{}"}.send(t, srv, alice)
	if err := whoAmI(t, srv, srv.RemoteHTTPClient(), alice); err != nil {
		t.Fatal(err)
	}
	got := records(t, auditDir(srv))
	for i, want := range []struct{ source, name, code, kind, key string }{
		{"kms.amazonaws.com", "ScheduleKeyDeletion", "InvalidSignatureException", "Unknown", alice.AccessKeyID},
		{"kms.amazonaws.com", "ListKeys", "MissingAuthenticationTokenException", "Unknown", ""},
		{"kms.amazonaws.com", "ListKeys", "AccessDeniedException", "IAMUser", alice.AccessKeyID},
		{"sts.amazonaws.com", "GetCallerIdentity", "", "IAMUser", alice.AccessKeyID},
	} {
		if i >= len(got) {
			t.Fatalf("%d records", len(got))
		}
		r := got[i]
		if r.EventSource != want.source || r.EventName != want.name || r.ErrorCode != want.code || r.UserIdentity.Type != want.kind || r.UserIdentity.AccessKeyID != want.key ||
			r.SourceIPAddress != "127.0.0.1" || r.TLSDetails == nil || r.TLSDetails.TLSVersion != "TLSv1.3" {
			t.Errorf("record %d is %+v of %+v, want %+v", i, r, r.UserIdentity, want)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d records of 4 calls", len(got))
	}
}
