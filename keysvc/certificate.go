package keysvc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/store"
)

// certificateRecordName is the record of the certificate that the service made for
// itself. Clients are given it once and trust it from then on, so it is kept.
const certificateRecordName = "certificate"

type certificateRecord struct {
	Schema      int
	Certificate []byte // DER
	Key         []byte // PKCS #8
}

const (
	// certificateLife is long: nobody but the clients that were given the certificate
	// trusts it, and a new one would have to be given to all of them.
	certificateLife = 10 * 365 * day
	// certificateRest is what must be left of it at a start.
	certificateRest = 30 * day
)

// selfSigned returns the service's own certificate, good for host. Another one
// takes its place when it is about to expire or was made for other hosts.
func (s *Service) selfSigned(host string) (tls.Certificate, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	cert, err := s.storedCertificate()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return cert, fmt.Errorf("read the service's certificate: %w", err)
	}
	if err == nil && s.wall().Add(certificateRest).Before(cert.Leaf.NotAfter) && covers(cert.Leaf, host) {
		return cert, nil
	}
	r, err := makeCertificate(host, s.wall())
	if err != nil {
		return cert, fmt.Errorf("make the service's certificate: %w", err)
	}
	if err := s.db.Update(func(tx store.SealedTx) error { return putRecord(tx, certificateRecordName, r) }); err != nil {
		return cert, fmt.Errorf("store the service's certificate: %w", err)
	}
	return r.parse()
}

func (s *Service) storedCertificate() (cert tls.Certificate, err error) {
	var r certificateRecord
	err = s.db.View(func(tx store.SealedTx) error {
		value, err := tx.Get(nil, certificateRecordName)
		if err != nil {
			return err
		}
		return parseRecord(certificateRecordName, value, &r, &r.Schema)
	})
	if err != nil {
		return cert, err
	}
	return r.parse()
}

func (r certificateRecord) parse() (cert tls.Certificate, err error) {
	if cert.Leaf, err = x509.ParseCertificate(r.Certificate); err != nil {
		return cert, err
	}
	if cert.PrivateKey, err = x509.ParsePKCS8PrivateKey(r.Key); err != nil {
		return cert, err
	}
	cert.Certificate = [][]byte{r.Certificate}
	return cert, nil
}

// covers says whether a client that is told to connect to host takes the certificate.
// Who listens on all addresses is called many names: none is asked for.
func covers(c *x509.Certificate, host string) bool {
	return isUnspecified(host) || c.VerifyHostname(host) == nil
}

func isUnspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// makeCertificate signs a certificate for host and for the names of this machine. It
// is no authority: who trusts it trusts it for these names and nothing else.
func makeCertificate(host string, now time.Time) (r certificateRecord, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return r, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return r, err
	}
	c := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "kmsfs key service"},
		NotBefore:             now.Add(-time.Hour), // clients' clocks differ
		NotAfter:              now.Add(certificateLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if name, err := os.Hostname(); err == nil && name != "localhost" {
		c.DNSNames = append(c.DNSNames, name)
	}
	switch ip := net.ParseIP(host); {
	case isUnspecified(host):
		if c.IPAddresses, err = machineAddresses(c.IPAddresses); err != nil {
			return r, err
		}
	case ip != nil && c.VerifyHostname(host) != nil:
		c.IPAddresses = append(c.IPAddresses, ip)
	case ip == nil && c.VerifyHostname(host) != nil:
		c.DNSNames = append(c.DNSNames, host)
	}
	r.Schema = recordSchema
	if r.Certificate, err = x509.CreateCertificate(rand.Reader, c, c, key.Public(), key); err != nil {
		return r, err
	}
	r.Key, err = x509.MarshalPKCS8PrivateKey(key)
	return r, err
}

// machineAddresses appends the addresses that other machines may know this one by.
func machineAddresses(list []net.IP) ([]net.IP, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			list = append(list, n.IP)
		}
	}
	return list, nil
}
