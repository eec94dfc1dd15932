package keysvc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"kmsfs.dev/kmsfs/internal/blocking"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// ServerOptions say how a Server behaves.
type ServerOptions struct {
	// IdleTimeout makes Serve return when nobody has been connected for so
	// long. Zero: never.
	IdleTimeout time.Duration
	// Version and StateDir are for Status.
	Version, StateDir string
	// Log is slog.Default() if nil.
	Log *slog.Logger
	// Clock is time.Now unless a test says otherwise. The attempts of strangers come
	// back by it.
	Clock func() time.Time
}

// Server puts a Service behind a listener.
type Server struct {
	svc     *Service
	opts    ServerOptions
	log     *slog.Logger
	started time.Time
	remote  []*RemoteListener // while it serves

	throttle throttle

	mu    sync.Mutex // guards what follows
	conns map[*conn]struct{}
	idle  *time.Timer // runs while conns is empty; nil without IdleTimeout
	done  chan struct{}
	over  bool // done is closed: no more connections
}

// NewServer returns a server for svc. It serves once.
func NewServer(svc *Service, o ServerOptions) *Server {
	s := &Server{svc: svc, opts: o, log: o.Log, started: svc.clock(), conns: map[*conn]struct{}{}, done: make(chan struct{})}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.opts.Clock == nil {
		s.opts.Clock = time.Now
	}
	if o.IdleTimeout > 0 {
		s.idle = time.AfterFunc(o.IdleTimeout, s.leaveIfIdle)
	}
	return s
}

// Serve answers connections to l, a unix socket, and to the remote listeners. It closes
// them, when ctx is done or the server has been idle for long enough; then it
// returns nil.
func (s *Server) Serve(ctx context.Context, l net.Listener, remote ...*RemoteListener) error {
	s.remote = remote
	failed := make(chan error, 1+len(remote))
	local := s.localServer()
	go func() { failed <- local.Serve(&listener{l, s}) }()
	servers := []*http.Server{local}
	for _, r := range remote {
		h := s.remoteServer(r)
		servers = append(servers, h)
		go func() { failed <- h.Serve(r.accepting(s)) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case <-s.done:
		s.log.Info("nobody is connected, leaving", "idle", s.opts.IdleTimeout)
	case err = <-failed:
	}
	s.stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, h := range servers {
		wg.Go(func() {
			if err := h.Shutdown(grace); err != nil {
				h.Close()
			}
		})
	}
	wg.Wait()
	s.closeAll() // upgraded connections are not http.Server's any more
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the key service: %w", err)
	}
	return nil
}

// localServer answers the processes of this machine.
func (s *Server) localServer() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/", &handler{s: s.svc, log: s.log, identify: localCaller, maxBody: maxLocalBody, json: kmsProtocol(actions()), query: queryProtocol{stsActions()}})
	mux.HandleFunc("GET "+kmsapi.StatusPath, s.status)
	mux.HandleFunc("GET "+kmsapi.BatchPath, s.batch)
	mux.HandleFunc(kmsapi.AdvancePath, s.advance)
	mux.Handle(kmsapi.IdentityPath, &handler{s: s.svc, log: s.log, identify: localCaller, maxBody: maxLocalBody, json: identityProtocol()})
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // of one request, body included
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, c.(*conn).caller)
		},
	}
}

// callerKey is the context key of a local connection's Caller.
type callerKey struct{}

// listener identifies each peer before a byte is read from it.
type listener struct {
	net.Listener
	s *Server
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		caller, err := l.s.svc.peerCaller(c)
		if err != nil {
			l.s.log.Warn("refused a connection", "error", err)
			c.Close()
			continue
		}
		wrapped, crowded := l.s.admit(c, caller)
		if wrapped != nil {
			return wrapped, nil
		}
		if crowded { // recorded before the peer sees it
			l.s.svc.recordRefusal(refusedConnect, caller, origin{address: localAddress},
				&kmsapi.Error{Code: kmsapi.CodeLimitExceeded, Message: "The user has too many connections."})
		}
		c.Close()
	}
}

// conn is a connection that the server counts.
type conn struct {
	net.Conn
	s      *Server
	caller Caller  // of a local one
	remote *remote // what is known of a remote one

	mu     sync.Mutex // guards what follows
	direct *os.File   // the socket, when it has left the poller
	closed bool
}

// leavePoller returns the socket of a local connection for blocking system calls.
// Closing the connection ends them; the file is closed with it.
func (c *conn) leavePoller() (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	var err error
	c.direct, err = blocking.Take(c.Conn)
	return c.direct, err
}

func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.s.dismiss(c)
	if c.direct == nil {
		return c.Conn.Close()
	}
	// Ends the read that goes on. The peer may have gone: that is what is wanted.
	_ = blocking.Shutdown(c.direct)
	return c.direct.Close()
}

// maxForeign bounds the connections of one user who is neither the service's
// owner nor root: they must not use up what the owner's mounts need.
const maxForeign = 16

func (s *Server) admit(c net.Conn, caller Caller) (_ *conn, crowded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if crowded = s.crowdedLocked(caller.Peer.UID); s.over || crowded {
		return nil, crowded
	}
	return s.countLocked(&conn{Conn: c, caller: caller, s: s}), false
}

func (s *Server) countLocked(c *conn) *conn {
	s.conns[c] = struct{}{}
	if s.idle != nil {
		s.idle.Stop()
	}
	return c
}

func (s *Server) crowdedLocked(uid uint32) bool {
	if uid == 0 || uid == s.svc.owner {
		return false
	}
	n := 0
	for c := range s.conns {
		if c.remote == nil && c.caller.Peer.UID == uid {
			n++
		}
	}
	return n >= maxForeign
}

func (s *Server) dismiss(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.idle != nil && len(s.conns) == 0 && !s.over {
		s.idle.Reset(s.opts.IdleTimeout)
	}
}

func (s *Server) leaveIfIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) == 0 && !s.over {
		s.over = true
		close(s.done)
	}
}

// stop refuses new connections.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.idle != nil {
		s.idle.Stop()
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// status tells whoever may use the service how it is.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	caller, ok := r.Context().Value(callerKey{}).(Caller)
	if !ok {
		http.Error(w, "no caller", http.StatusInternalServerError)
		return
	}
	st := kmsapi.Status{
		PID:       os.Getpid(),
		Version:   s.opts.Version,
		StateDir:  s.opts.StateDir,
		StartedAt: epochSeconds(s.started),
		Auto:      s.opts.IdleTimeout > 0,
		IdleAfter: s.opts.IdleTimeout.Seconds(),
		Principal: caller.ARN,
	}
	if s.svc.simulated {
		st.SimulatedTime, st.ClockAhead = epochSeconds(s.svc.now()), time.Duration(s.svc.ahead.Load()).Seconds()
	}
	st.Audit = s.svc.auditStatus()
	st.Keys, st.Aliases = s.svc.index.counts()
	for _, r := range s.remote {
		st.Listeners = append(st.Listeners, r.Describe())
	}
	s.mu.Lock()
	st.Clients = len(s.conns)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(st); err != nil {
		s.log.Debug("reply", "error", err)
	}
}

// advanceTime is how long an advance may take: ten years of rotations of very
// many keys, each on disk.
const advanceTime = 10 * time.Minute

// advance answers a request to move the simulated clock.
func (s *Server) advance(w http.ResponseWriter, r *http.Request) {
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(advanceTime)); err != nil {
		s.log.Debug("advance", "error", err)
	}
	h := handler{s: s.svc, log: s.log, identify: localCaller, maxBody: maxLocalBody,
		json: kmsProtocol(map[string]action{kmsapi.OpAdvanceClock: as((*Service).Advance)})}
	h.ServeHTTP(w, r)
}
