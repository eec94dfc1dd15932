// Package kmsclient talks to the key service over its unix socket.
//
// [Connect] finds the service of a state directory, starts it if it may, and
// checks that its process belongs to the directory's owner or to root.
// [Client.Batch] is for the filesystem: many data keys in one round trip. The
// other methods are the KMS actions, for people's commands.
//
// A Client survives the service: when it went away, the next call finds it
// again or starts it anew. Every method may be called from many goroutines.
package kmsclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// Options say which service to talk to.
type Options struct {
	// StateDir is the service's state directory; "" is the default one.
	StateDir string
	// Socket is where it listens; "" is the place that belongs to StateDir.
	Socket string
	// Autostart starts the service when none answers.
	Autostart bool
	// Executable is the kmsfs to start; "" is this process's own.
	Executable string
	// IdleTimeout is how long a service that this client starts stays without
	// clients; zero is the service's default.
	IdleTimeout time.Duration
}

// Client is a connection to the key service.
type Client struct {
	opts         Options
	stateDir     string
	socket       string
	defaultState bool     // StateDir and Socket are the defaults
	unitDirs     []string // where systemd's units are
	http         *http.Client
	peer         atomic.Pointer[unix.Ucred] // who answered last, for errors

	mu        sync.Mutex // guards what follows; held while a connection is made
	batch     *batchConn // nil before the first batch and after a failure
	lanes     []*lane    // free ones
	laneCount int        // of all
	closed    bool
}

// ErrClosed is what a closed Client answers.
var ErrClosed = errors.New("the connection to the key service is closed")

// Connect returns a client whose service is known to answer. The service counts
// it as a client until Close.
func Connect(ctx context.Context, o Options) (*Client, error) {
	c := &Client{opts: o, unitDirs: unitDirs()}
	var err error
	if c.stateDir, err = StateDir(o.StateDir); err != nil {
		return nil, err
	}
	normal, err := SocketPath(o.StateDir)
	if c.socket = o.Socket; c.socket == "" {
		if err != nil {
			return nil, err
		}
		c.socket = normal
	}
	if err := CheckSocketPath(c.socket); err != nil {
		return nil, err
	}
	if d, err := DefaultStateDir(); err == nil {
		c.defaultState = c.stateDir == d && c.socket == normal
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
			DisableCompression: true,
			MaxIdleConns:       1,
			IdleConnTimeout:    5 * time.Second, // the batch connection shows that we live
		},
		// No redirects: nobody but the service is to be asked.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	// The service may be leaving just as we come: look again then.
	err = retryLost(ctx, func() error {
		_, err := c.batchConn(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Socket returns the path of the service's socket.
func (c *Client) Socket() string { return c.socket }

// Close hangs up. Calls that are running fail.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.http.CloseIdleConnections()
	for _, l := range c.lanes {
		l.close()
	}
	c.lanes = nil
	if c.batch != nil {
		c.batch.close(ErrClosed)
		c.batch = nil
	}
	return nil
}

// maxResponse bounds what the client reads of an answer.
const maxResponse = 4 << 20

// call performs one action. Out is nil for actions without output.
func call[Out any](ctx context.Context, c *Client, action string, in any) (*Out, error) {
	return callAt[Out](ctx, c, endpoint{path: "/", prefix: kmsapi.TargetPrefix}, action, in)
}

// endpoint is where actions are asked for.
type endpoint struct {
	path, prefix string // prefix of X-Amz-Target
	account      string // whose root user is asking; "" is the caller as it is
}

// userAgent is how kmsfs is called in the audit log.
const userAgent = "kmsfs"

// callAt is call for an action that has an endpoint of its own.
func callAt[Out any](ctx context.Context, c *Client, at endpoint, action string, in any) (*Out, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	defer secret.Wipe(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://kmsfs"+at.path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Content-Type", kmsapi.ContentType)
	req.Header.Set("X-Amz-Target", at.prefix+action)
	if at.account != "" {
		req.Header.Set(kmsapi.AccountHeader, at.account)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, plain(err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", action, err)
	}
	defer secret.Wipe(answer)
	if resp.StatusCode != http.StatusOK {
		e := new(kmsapi.Error)
		if err := json.Unmarshal(answer, e); err != nil || e.Code == "" {
			return nil, fmt.Errorf("%s: the key service answers %s", action, resp.Status)
		}
		return nil, e
	}
	out := new(Out)
	if len(answer) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, fmt.Errorf("%s: read the answer: %w", action, err)
	}
	return out, nil
}

// Status asks the service how it is.
func (c *Client) Status(ctx context.Context) (*kmsapi.Status, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kmsfs"+kmsapi.StatusPath, nil)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("status: %w", plain(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status: the key service answers %s", resp.Status)
	}
	st := new(kmsapi.Status)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxResponse)).Decode(st); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return st, nil
}
