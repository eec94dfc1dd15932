package keysvc

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// RemoteOptions say where and how callers reach the service over the network.
type RemoteOptions struct {
	// Address is HOST:PORT. Without a host it is every address of the machine.
	Address string
	// CertFile and KeyFile are PEM files of a certificate with what leads to its
	// authority, and of its key. Without them the service makes a certificate for itself
	// and keeps it.
	CertFile, KeyFile string
	// InsecureHTTP leaves TLS out. Requests are signed, not secret: the answers hold
	// plaintext data keys. So it is for loopback addresses only.
	InsecureHTTP bool
}

// RemoteListener is where callers from the network arrive. They speak the protocols of
// AWS, and sign what they say.
type RemoteListener struct {
	net.Listener
	tls *tls.Config // nil: plain HTTP
}

// ListenRemote listens on the network. [Server.Serve] closes what it returns.
func (s *Service) ListenRemote(o RemoteOptions) (*RemoteListener, error) {
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w: an address is HOST:PORT, as in 127.0.0.1:4599", err)
	}
	addr, err := net.ResolveTCPAddr("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	remote := &RemoteListener{}
	if !o.InsecureHTTP {
		if remote.tls, err = s.tlsConfig(host, o); err != nil {
			return nil, err
		}
	} else if o.CertFile != "" || o.KeyFile != "" {
		return nil, errors.New("listen: plain HTTP has no certificate")
	} else if !addr.IP.IsLoopback() {
		return nil, fmt.Errorf("listen on %s: plain HTTP shows plaintext keys to the network, it is for loopback addresses only: listen on 127.0.0.1, or use TLS", o.Address)
	}
	if remote.Listener, err = net.ListenTCP("tcp", addr); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return remote, nil
}

func (s *Service) tlsConfig(host string, o RemoteOptions) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// HTTP/2 would let one connection ask for hundreds of things at once.
		NextProtos: []string{"http/1.1"},
	}
	var cert tls.Certificate
	var err error
	switch {
	case o.CertFile == "" && o.KeyFile == "":
		cert, err = s.selfSigned(host)
	case o.CertFile == "" || o.KeyFile == "":
		return nil, errors.New("a certificate and its key belong together: one of the two files is missing")
	default:
		if cert, err = tls.LoadX509KeyPair(o.CertFile, o.KeyFile); err != nil {
			err = fmt.Errorf("read the certificate %s and its key %s: %w", o.CertFile, o.KeyFile, err)
		}
	}
	if err != nil {
		return nil, err
	}
	c.Certificates = []tls.Certificate{cert}
	return c, nil
}

// URL is what clients call the endpoint.
func (l *RemoteListener) URL() string {
	if l.tls == nil {
		return "http://" + l.Addr().String()
	}
	return "https://" + l.Addr().String()
}

// Describe is the listener for Status.
func (l *RemoteListener) Describe() kmsapi.Listener {
	d := kmsapi.Listener{URL: l.URL()}
	if l.tls != nil {
		der := l.tls.Certificates[0].Certificate[0]
		sum := sha256.Sum256(der)
		d.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		d.Fingerprint = hex.EncodeToString(sum[:])
	}
	return d
}
