package keysvc

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// A stranger is who connected over the network and has not signed anything yet. All that
// strangers may take is bounded here and in throttle.go, so that they cannot keep those
// out who have access keys: connections, memory, time, processors.
const (
	// maxStrangers is how many connections they have, maxStrangersFrom how many from
	// one address. The newcomer takes the place of the oldest: whoever means to sign
	// does so within a moment.
	maxStrangers     = 128
	maxStrangersFrom = 32
	// maxKnown is how many connections those have who signed. Beyond it, the one that
	// has been idle for longest makes place.
	maxKnown = 256

	// maxRemoteBody holds the largest request of the API, a CreateKey of which every
	// character is escaped.
	maxRemoteBody = 512 << 10
	// maxRemoteHeader holds a session token, which is some KiB, beside the rest.
	maxRemoteHeader = 16 << 10
)

// remote is what the server knows of a connection from the network. Server.mu guards
// what changes.
type remote struct {
	addr  netip.Addr
	from  netip.Prefix
	since time.Time // when it came, became known, or was last active
	known bool      // it sent a request whose signature was good
	idle  bool      // it waits for a request
}

// remoteServer answers callers from the network, who get through to the protocols
// of AWS and to nothing else.
func (s *Server) remoteServer(l *RemoteListener) *http.Server {
	return &http.Server{
		Handler: &handler{s: s.svc, log: s.log, identify: s.signer, maxBody: maxRemoteBody, json: kmsProtocol(actions()), query: queryProtocol{stsActions()}},
		// Also how long a TLS handshake takes.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second, // of one request, body included
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxRemoteHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, counted(c))
		},
		ConnState: func(c net.Conn, state http.ConnState) { s.setIdle(counted(c), state == http.StateIdle) },
	}
}

// connKey is the context key of a remote connection.
type connKey struct{}

// counted finds the server's connection below TLS.
func counted(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*conn)
}

// accepting is the listener with the bounds on strangers.
func (l *RemoteListener) accepting(s *Server) net.Listener {
	return &remoteListener{Listener: l.Listener, config: l.tls, s: s}
}

type remoteListener struct {
	net.Listener
	config *tls.Config
	s      *Server
}

func (l *remoteListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		admitted := l.s.admitRemote(c)
		if admitted == nil {
			c.Close()
			continue
		}
		if l.config == nil {
			return admitted, nil
		}
		return tls.Server(admitted, l.config), nil
	}
}

// admitRemote counts c, unless its address has used up its attempts.
func (s *Server) admitRemote(c net.Conn) *conn {
	r := &remote{since: time.Now()}
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		r.addr = a.Addr().Unmap()
	}
	r.from = network(r.addr)
	if !s.throttle.take(r.from, s.opts.Clock()) {
		s.log.Debug("refused a connection: too many attempts", "from", r.addr)
		return nil
	}
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return nil
	}
	victim := s.oldestLocked(maxStrangersFrom, func(c *conn) bool { return !c.remote.known && c.remote.from == r.from })
	if victim == nil {
		victim = s.oldestLocked(maxStrangers, func(c *conn) bool { return !c.remote.known })
	}
	if victim != nil {
		delete(s.conns, victim)
	}
	admitted := s.countLocked(&conn{Conn: c, s: s, remote: r})
	s.mu.Unlock()
	if victim != nil {
		s.log.Debug("closed a connection that had signed nothing", "from", victim.remote.addr)
		victim.Close()
	}
	return admitted
}

// oldestLocked returns the oldest remote connection of a kind, if there are
// as many as there may be.
func (s *Server) oldestLocked(limit int, kind func(*conn) bool) *conn {
	n := 0
	var oldest *conn
	for c := range s.conns {
		if c.remote == nil || !kind(c) {
			continue
		}
		n++
		if oldest == nil || c.remote.since.Before(oldest.remote.since) {
			oldest = c
		}
	}
	if n < limit {
		return nil
	}
	return oldest
}

// setIdle notes whether c waits for a request.
func (s *Server) setIdle(c *conn, idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.remote.idle = idle
	if c.remote.known {
		c.remote.since = time.Now()
	}
}

// recognize notes that a signature on c was good. It fails when there is no room for one
// more who signs.
func (s *Server) recognize(c *conn) bool {
	s.mu.Lock()
	if c.remote.known {
		s.mu.Unlock()
		return true
	}
	known := func(c *conn) bool { return c.remote.known }
	var idlest *conn
	if s.oldestLocked(maxKnown, known) != nil {
		if idlest = s.oldestLocked(1, func(c *conn) bool { return c.remote.known && c.remote.idle }); idlest == nil {
			s.mu.Unlock()
			return false
		}
		delete(s.conns, idlest)
	}
	c.remote.known, c.remote.since = true, time.Now()
	s.mu.Unlock()
	s.throttle.give(c.remote.from)
	if idlest != nil {
		idlest.Close()
	}
	return true
}
