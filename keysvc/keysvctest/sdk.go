package keysvctest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
)

// HTTPClient returns a client whose requests reach the service as user uid,
// whatever host they name. It suits the AWS SDK.
func (s *Server) HTTPClient(uid uint32) *http.Client {
	tr := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return s.Dial(uid) },
	}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
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
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
