package keysvc_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

const aliceSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

// loopback listens on a free port, with TLS.
var loopback = keysvc.RemoteOptions{Address: "127.0.0.1:0"}

// remoteServer is a service on the network with a user called alice.
func remoteServer(t *testing.T, o keysvc.RemoteOptions, opts ...keysvctest.Option) (srv *keysvctest.Server, alice aws.Credentials) {
	t.Helper()
	srv = keysvctest.NewServer(t, append(opts, keysvctest.WithRemote(o))...)
	id, _ := keysvc.AddUser(t, srv.Service, keysvc.Account, "alice", aliceSecret)
	return srv, aws.Credentials{AccessKeyID: id, SecretAccessKey: aliceSecret}
}

func remoteKMS(srv *keysvctest.Server, c *http.Client, who aws.Credentials) *kms.Client {
	return kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(srv.Remote.URL()), HTTPClient: c, RetryMaxAttempts: 1,
		Credentials: credentials.StaticCredentialsProvider{Value: who},
	})
}

func stsClient(url string, c *http.Client, who aws.Credentials) *sts.Client {
	return sts.New(sts.Options{
		Region: "us-east-1", BaseEndpoint: &url, HTTPClient: c, RetryMaxAttempts: 1,
		Credentials: credentials.StaticCredentialsProvider{Value: who},
	})
}

func TestCallerIdentity(t *testing.T) {
	check := func(t *testing.T, c *sts.Client, arn, id, account string) {
		t.Helper()
		out, err := c.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		if err != nil {
			t.Fatal(err)
		}
		if *out.Arn != arn || *out.UserId != id || *out.Account != account {
			t.Errorf("%s, %s, %s", *out.Arn, *out.UserId, *out.Account)
		}
	}
	srv := keysvctest.NewServer(t, keysvctest.WithRemote(loopback))
	key, id := keysvc.AddUser(t, srv.Service, "111122223333", "bob", aliceSecret)
	bob := aws.Credentials{AccessKeyID: key, SecretAccessKey: aliceSecret}
	check(t, stsClient(srv.Remote.URL(), srv.RemoteHTTPClient(), bob), "arn:aws:iam::111122223333:user/bob", id, "111122223333")
	// On the socket the peer's uid counts, whatever signed.
	check(t, stsClient("http://kmsfs.test", srv.HTTPClient(0), bob), "arn:aws:iam::000000000000:root", "000000000000", "000000000000")
	check(t, stsClient("http://kmsfs.test", srv.HTTPClient(otherUID), bob), "arn:aws:iam::000000000000:user/local/54321", "AIDALOCALUID00000D431", "000000000000")
	_, err := stsClient(srv.Remote.URL(), srv.RemoteHTTPClient(), bob).GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
	says(t, err, "InvalidAction", "Could not find operation GetSessionToken for version 2011-06-15")
}

func TestSignedRequestsAreTheirSigners(t *testing.T) {
	for name, o := range map[string]keysvc.RemoteOptions{
		"TLS":        loopback,
		"plain HTTP": {Address: "localhost:0", InsecureHTTP: true},
		"IPv6":       {Address: "[::1]:0"},
	} {
		t.Run(name, func(t *testing.T) {
			srv, alice := remoteServer(t, o)
			c := srv.RemoteHTTPClient()
			_, err := remoteKMS(srv, c, alice).CreateKey(t.Context(), &kms.CreateKeyInput{})
			says(t, err, "AccessDeniedException", "User: arn:aws:iam::000000000000:user/alice is not authorized to perform: kms:CreateKey on resource: * because no identity-based policy allows the kms:CreateKey action")

			wrong := alice
			wrong.SecretAccessKey = "x" + aliceSecret[1:]
			_, err = remoteKMS(srv, c, wrong).ListKeys(t.Context(), &kms.ListKeysInput{})
			refused(t, err, "InvalidSignatureException")
			unknown := alice
			unknown.AccessKeyID = "AKIAIOSFODNN7EXAMPLE"
			_, err = remoteKMS(srv, c, unknown).ListKeys(t.Context(), &kms.ListKeysInput{})
			says(t, err, "UnrecognizedClientException", "The security token included in the request is invalid.")
			token := alice
			token.SessionToken = "token"
			_, err = remoteKMS(srv, c, token).ListKeys(t.Context(), &kms.ListKeysInput{})
			refused(t, err, "UnrecognizedClientException")
		})
	}
}

// TestCertificateIsKept restarts the service: clients that trust its certificate go on to.
func TestCertificateIsKept(t *testing.T) {
	srv, alice := remoteServer(t, loopback)
	c := srv.RemoteHTTPClient()
	identity := func() error {
		_, err := stsClient(srv.Remote.URL(), c, alice).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		return err
	}
	if err := identity(); err != nil {
		t.Fatal(err)
	}
	srv.Stop()
	srv.Start()
	if err := identity(); err != nil {
		t.Fatal(err)
	}
	_, err := stsClient(srv.Remote.URL(), &http.Client{Transport: &http.Transport{}}, alice).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a client that was not given the certificate: %v", err)
	}
}

// TestCertificateIsRenewed looks at the certificate of one listener after another.
func TestCertificateIsRenewed(t *testing.T) {
	clock := keysvctest.NewClock(time.Now())
	srv := keysvctest.NewServer(t, keysvctest.WithClock(clock.Now))
	shown := func(address string) *x509.Certificate {
		t.Helper()
		l, err := srv.Service.ListenRemote(keysvc.RemoteOptions{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		block, _ := pem.Decode([]byte(l.Describe().Certificate))
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := shown("127.0.0.1:0")
	for _, address := range []string{"127.0.0.1:0", "localhost:0", "[::1]:0", ":0", "0.0.0.0:0"} {
		if !shown(address).Equal(first) {
			t.Errorf("%s has another certificate", address)
		}
	}
	if first.IsCA || first.VerifyHostname("kms.us-east-1.amazonaws.com") == nil {
		t.Errorf("the certificate is good for too much: %v", first)
	}
	second := shown("127.7.7.7:0")
	if second.Equal(first) || second.VerifyHostname("127.7.7.7") != nil || second.VerifyHostname("localhost") != nil {
		t.Errorf("a listener on another address shows %v", second.IPAddresses)
	}
	clock.Set(second.NotAfter.Add(-31 * 24 * time.Hour))
	if !shown("127.7.7.7:0").Equal(second) {
		t.Error("the certificate is replaced 31 days before its end")
	}
	clock.Set(second.NotAfter.Add(-29 * 24 * time.Hour))
	if third := shown("127.7.7.7:0"); third.Equal(second) || third.NotAfter.Before(second.NotAfter.AddDate(9, 0, 0)) {
		t.Errorf("29 days before its end the certificate is good until %v", third.NotAfter)
	}
}

func TestTLS(t *testing.T) {
	srv, _ := remoteServer(t, loopback)
	dial := func(c *tls.Config) (*tls.Conn, error) {
		c.InsecureSkipVerify = true // what is looked at is the protocol
		return tls.Dial("tcp", srv.Remote.Addr().String(), c)
	}
	if c, err := dial(&tls.Config{MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
	c, err := dial(&tls.Config{NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p := c.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("the protocol is %q", p)
	}
}

func TestPlainHTTPIsForLoopback(t *testing.T) {
	srv := keysvctest.NewServer(t)
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "127.9.9.9:0": true, "localhost:0": true, "[::1]:0": true, "[::ffff:127.0.0.1]:0": true,
		":0": false, "0.0.0.0:0": false, "[::]:0": false, "192.0.2.1:0": false, "127.0.0.1": false,
	} {
		l, err := srv.Service.ListenRemote(keysvc.RemoteOptions{Address: address, InsecureHTTP: true})
		if err == nil {
			l.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, o := range []keysvc.RemoteOptions{{CertFile: "x"}, {KeyFile: "x"}, {CertFile: "x", KeyFile: "x"}, {CertFile: "x", KeyFile: "x", InsecureHTTP: true}} {
		o.Address = "127.0.0.1:0"
		if l, err := srv.Service.ListenRemote(o); err == nil {
			l.Close()
			t.Errorf("%+v is listened on", o)
		}
	}
}

// TestPrivatePathsAreLocal asks the network for what only the socket has.
func TestPrivatePathsAreLocal(t *testing.T) {
	srv, alice := remoteServer(t, loopback)
	for _, path := range []string{"/kmsfs/status", "/kmsfs/batch", "/kmsfs/advance", "/kmsfs/identity", "/x", "/?x=1"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r := signedRequest{Method: method, Path: path, Body: `{"Seconds":1}`, Target: "TrentService.AdvanceClock"}
			status, answer := r.send(t, srv, alice)
			if status != 400 || !strings.Contains(answer, `"UnknownOperationException"`) {
				t.Errorf("%s %s answers %d %s", method, path, status, answer)
			}
			r.Unsigned = true
			if status, answer := r.send(t, srv, alice); status != 400 || !strings.Contains(answer, `"MissingAuthenticationTokenException"`) {
				t.Errorf("%s %s without a signature answers %d %s", method, path, status, answer)
			}
		}
	}
}
