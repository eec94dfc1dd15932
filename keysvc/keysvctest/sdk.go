package keysvctest

import (
	"context"
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
