package main

import (
	"errors"
	"io"

	"github.com/urfave/cli/v2"

	"kmsfs.dev/kmsfs/keysvc"
)

// checkRemote refuses flags that mean nothing without others, before anything starts.
func checkRemote(c *cli.Context) error {
	cert, key := c.String("tls-cert") != "", c.String("tls-key") != ""
	switch {
	case c.String("listen") == "" && (cert || key || c.Bool("insecure-http")):
		return usagef(c, "--tls-cert, --tls-key and --insecure-http need --listen")
	case cert != key:
		return usagef(c, "--tls-cert and --tls-key need each other")
	case cert && c.Bool("insecure-http"):
		return usagef(c, "--tls-cert and --insecure-http exclude each other")
	}
	return nil
}

func listenRemote(c *cli.Context, svc *keysvc.Service) ([]*keysvc.RemoteListener, error) {
	if c.String("listen") == "" {
		return nil, nil
	}
	r, err := svc.ListenRemote(keysvc.RemoteOptions{
		Address:      c.String("listen"),
		CertFile:     c.String("tls-cert"),
		KeyFile:      c.String("tls-key"),
		InsecureHTTP: c.Bool("insecure-http"),
	})
	if err != nil {
		return nil, err
	}
	return []*keysvc.RemoteListener{r}, nil
}

func certificateCommand() *cli.Command {
	return &cli.Command{
		Name:  "certificate",
		Usage: "print the certificate that the service shows the network",
		Description: `Prints it in PEM, for clients to trust. It comes over the unix socket, from a
service that runs with --listen.

Example:
   kmsfs keysvc certificate > kmsfs.pem
   AWS_CA_BUNDLE=kmsfs.pem aws kms list-keys --endpoint-url https://127.0.0.1:4599`,
		Action: certificate,
	}
}

func certificate(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	_, st, err := askStatus(c)
	if err != nil {
		return err
	}
	for _, l := range st.Listeners {
		if l.Certificate != "" {
			_, err := io.WriteString(c.App.Writer, l.Certificate)
			return err
		}
	}
	return errors.New("the key service shows no certificate: start it with `kmsfs keysvc serve --listen 127.0.0.1:4599`")
}
