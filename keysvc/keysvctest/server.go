// Package keysvctest runs a real key service for tests: a service on its own
// state directory, behind a real unix socket.
package keysvctest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// Server is a running key service.
type Server struct {
	// StateDir and Socket are what a kmsclient needs.
	StateDir string
	Socket   string
	// Service is behind the socket. Restart replaces it.
	Service *keysvc.Service
	// Remote is where the network reaches it, with WithRemote.
	Remote *keysvc.RemoteListener

	t    testing.TB
	opts options
	stop func()

	mu         sync.Mutex
	transports []*http.Transport // of clients that HTTPClient and RemoteHTTPClient made; guarded by mu
}

type options struct {
	service keysvc.Options
	server  keysvc.ServerOptions
	remote  *keysvc.RemoteOptions
	wrap    func(net.Listener) net.Listener
}

// Option changes how a Server is made.
type Option func(*options)

// WithClock gives the service another clock.
func WithClock(now func() time.Time) Option {
	return func(o *options) { o.service.Clock = now }
}

// WithSimulatedClock gives the service a clock that Service.Advance moves.
func WithSimulatedClock() Option {
	return func(o *options) { o.service.SimulatedClock = true }
}

// WithOwner makes the keys another user's.
func WithOwner(uid uint32) Option {
	return func(o *options) { o.service.OwnerUID = &uid }
}

// WithAuditDir puts the audit log into another directory.
func WithAuditDir(dir string) Option {
	return func(o *options) { o.service.AuditDir = dir }
}

// WithForwarders lets users act for others.
func WithForwarders(uids ...uint32) Option {
	return func(o *options) { o.service.Forwarders = uids }
}

// WithLog sends the service's log somewhere. It is discarded otherwise.
func WithLog(log *slog.Logger) Option {
	return func(o *options) { o.service.Log, o.server.Log = log, log }
}

// WithIdleTimeout lets the service leave when idle.
func WithIdleTimeout(d time.Duration) Option {
	return func(o *options) { o.server.IdleTimeout = d }
}

// WithAttemptsClock gives the server another clock, by which the attempts of strangers
// come back.
func WithAttemptsClock(now func() time.Time) Option {
	return func(o *options) { o.server.Clock = now }
}

// WithRemote listens on the network too.
func WithRemote(o keysvc.RemoteOptions) Option {
	return func(opts *options) { opts.remote = &o }
}

// WithNetwork puts something between the network and the service.
func WithNetwork(wrap func(net.Listener) net.Listener) Option {
	return func(o *options) { o.wrap = wrap }
}

// NewServer starts a service that ends with the test.
func NewServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := &Server{t: t, StateDir: TempDir(t)}
	s.Socket = filepath.Join(s.StateDir, "keysvc.sock")
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	s.opts.service.Log, s.opts.server.Log = quiet, quiet
	for _, o := range opts {
		o(&s.opts)
	}
	s.opts.service.Dir = filepath.Join(s.StateDir, "keysvc")
	s.opts.service.DefaultRootKeyFile = filepath.Join(s.StateDir, "root.key")
	s.opts.server.StateDir = s.StateDir
	s.opts.server.Version = "test"
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

// TempDir is t.TempDir with a short name, since a socket's path has 107 bytes at
// most, and reachable by other users, so that a test can connect as one.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kmsfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (s *Server) start() {
	s.t.Helper()
	svc, err := keysvc.Open(s.opts.service)
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := keysvc.Listen(s.Socket)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Service = svc
	var remote []*keysvc.RemoteListener
	if s.opts.remote != nil {
		if s.Remote, err = svc.ListenRemote(*s.opts.remote); err != nil {
			s.t.Fatal(err)
		}
		if s.opts.wrap != nil {
			s.Remote.Listener = s.opts.wrap(s.Remote.Listener)
		}
		remote = append(remote, s.Remote)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := keysvc.NewServer(svc, s.opts.server).Serve(ctx, l, remote...); err != nil {
			s.t.Error(err)
		}
		if err := svc.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	s.stop = sync.OnceFunc(func() {
		s.forgetConnections() // the service need not wait for them
		cancel()
		<-done
		s.forgetConnections()
	})
}

// Stop ends the service, and returns when the store is closed. Clients that HTTPClient
// and RemoteHTTPClient made connect anew for their next request.
func (s *Server) Stop() { s.stop() }

// Start starts it again on the same state.
func (s *Server) Start() {
	s.t.Helper()
	s.start()
}

// Client connects to the service, until the end of the test.
func (s *Server) Client() *kmsclient.Client {
	s.t.Helper()
	c, err := kmsclient.Connect(context.Background(), kmsclient.Options{StateDir: s.StateDir})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// Dial connects to the service's socket as user uid.
func (s *Server) Dial(uid uint32) (net.Conn, error) { return DialAs(s.Socket, uid) }
