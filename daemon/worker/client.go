package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"kmsfs.dev/kmsfs/fs"
)

// Rewrap asks the worker that listens on path to re-wrap its volume's keys, and waits.
// Of the options, Replacing is the worker's own.
func Rewrap(ctx context.Context, path string, o fs.RewrapOptions) (fs.RewrapSummary, error) {
	var none fs.RewrapSummary
	client := http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(path) },
	}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://worker/v1/rewrap", nil)
	if err != nil {
		return none, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return none, errors.Unwrap(err) // of *url.Error, which would name the URL
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return none, fmt.Errorf("the worker answered %s: it may be of another version of kmsfs", resp.Status)
	}
	in := json.NewDecoder(resp.Body)
	last := none
	for {
		var e Event
		if err := in.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return last, ctx.Err()
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("the worker has gone; mount the volume again, and the same command goes on from there")
			}
			return last, err
		}
		switch {
		case e.Error != "":
			return last, errors.New(e.Error)
		case e.Done != nil:
			return *e.Done, nil
		case e.Failed != nil && o.Failed != nil:
			o.Failed(*e.Failed)
		case e.Progress != nil:
			last = *e.Progress
			if o.Progress != nil {
				o.Progress(last)
			}
		}
	}
}
