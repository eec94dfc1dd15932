package keysvctest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
)

// HTTPClient returns a client whose requests reach the service as user uid,
// whatever host they name. It suits the AWS SDK.
func (s *Server) HTTPClient(uid uint32) *http.Client {
	tr := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return s.Dial(uid) },
	}
	return s.client(tr)
}

// RemoteHTTPClient returns a client that trusts the certificate which the service shows
// the network, and nothing else.
func (s *Server) RemoteHTTPClient() *http.Client {
	s.t.Helper()
	st, err := s.Client().Status(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	for _, l := range st.Listeners {
		roots.AppendCertsFromPEM([]byte(l.Certificate))
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	return s.client(tr)
}

// client forgets its connections whenever the service stops: net/http may learn that one
// is dead only from a request on it, and repeats no POST then.
func (s *Server) client(tr *http.Transport) *http.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transports = append(s.transports, tr)
	return &http.Client{Transport: plainBodies{tr}}
}

func (s *Server) forgetConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tr := range s.transports {
		tr.CloseIdleConnections()
	}
}

// plainBodies sends requests whose bodies can only be read.
//
// Those of the SDK have a WriteTo method, too, which answers io.EOF instead of nil when
// the body has been closed. The SDK closes it as soon as a response begins; net/http,
// if it has not yet seen that a body of more than 4 KiB has no more bytes than it said,
// takes that for a failure and closes the connection, with the rest of the response on
// it. A service this near answers soon enough for that: one in 100 such calls failed
// ("use of closed network connection") where each write was held up for 0.3 ms.
type plainBodies struct{ *http.Transport }

func (p plainBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r = r.Clone(r.Context())
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.Transport.RoundTrip(r)
}
