package worker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"kmsfs.dev/kmsfs/fs"
)

// Volume is what a door opens to; *fs.Root is one.
type Volume interface {
	Rewrap(context.Context, fs.RewrapOptions) (fs.RewrapSummary, error)
}

// Event is a line of the answer to a rewrap.
type Event struct {
	Progress *fs.RewrapSummary `json:",omitempty"`
	Failed   *fs.RewrapFailure `json:",omitempty"`
	// Done and Error end the answer: one of them comes last.
	Done  *fs.RewrapSummary `json:",omitempty"`
	Error string            `json:",omitempty"`
}

// Server is a worker's door.
type Server struct {
	path   string
	volume Volume
	log    *slog.Logger
	// replacing is told of the volume's next configuration, see fs.RewrapOptions.
	replacing func(*fs.Config) error

	http   http.Server
	cancel context.CancelFunc // of all requests
}

// Serve answers on the socket path until Close.
func Serve(path string, v Volume, replacing func(*fs.Config) error) (*Server, error) {
	l, err := listen(path)
	if err != nil {
		return nil, err
	}
	s := &Server{path: path, volume: v, log: slog.Default(), replacing: replacing}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/rewrap", s.rewrap)
	s.http = http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelInfo),
	}
	go func() {
		if err := s.http.Serve(owners{l, s.log}); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the worker's socket answers no more", "err", err)
		}
	}()
	return s, nil
}

// owners is a listener that lets in only whom checkPeer does.
type owners struct {
	net.Listener
	log *slog.Logger
}

func (o owners) Accept() (net.Conn, error) {
	for {
		conn, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if err := checkPeer(conn); err != nil {
			o.log.Warn("turned away on the worker's socket", "err", err)
			conn.Close()
			continue
		}
		return conn, nil
	}
}

// Close removes the socket and breaks off what is under way, for whose end the volume's
// own Close waits.
func (s *Server) Close() error {
	err := os.Remove(s.path)
	s.cancel()
	return errors.Join(err, s.http.Close())
}

func (s *Server) rewrap(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	send := func(e Event) {
		// Who does not read any more has hung up, and the context tells Rewrap.
		if out.Encode(e) == nil {
			_ = flush.Flush()
		}
	}
	sum, err := s.volume.Rewrap(req.Context(), fs.RewrapOptions{
		Progress:  func(p fs.RewrapSummary) { send(Event{Progress: &p}) },
		Failed:    func(f fs.RewrapFailure) { send(Event{Failed: &f}) },
		Replacing: s.replacing,
	})
	if err != nil {
		send(Event{Error: err.Error()})
		return
	}
	send(Event{Done: &sum})
}
