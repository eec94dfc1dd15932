package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// connection asks on a unix socket, one request after the other.
type connection struct {
	http   http.Client
	answer []byte
}

func newConnection(socket string) *connection {
	return &connection{
		http: http.Client{Transport: &http.Transport{
			DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		}},
		answer: make([]byte, 16<<10),
	}
}

// post sends a request. The answer is valid until the next one.
func (c *connection) post(op string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(http.MethodPost, "http://kmsfs/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kmsapi.ContentType)
	req.Header.Set("X-Amz-Target", kmsapi.TargetPrefix+op)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	n, err := io.ReadFull(resp.Body, c.answer)
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%s: an answer of more than %d bytes: %v", op, n, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", op, resp.Status, c.answer[:n])
	}
	return c.answer[:n], nil
}

// call is post with values.
func (c *connection) call(op string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := c.post(op, body)
	if err != nil || len(answer) == 0 {
		return err
	}
	return json.Unmarshal(answer, out)
}
