package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// batchSize is what a batch of the private protocol has.
const batchSize = 128

// measureSockets measures what needs a socket, in turns, so that what else the
// machine does meets all alike.
func measureSockets(c config, dir string, r *results) (err error) {
	emptySocket := filepath.Join(dir, "empty.sock")
	empty, err := start(emptySocket, "/proc/self/exe", roleEmpty, emptySocket)
	if err != nil {
		return err
	}
	defer empty.stop()
	state := filepath.Join(dir, "state")
	socket := filepath.Join(state, "keysvc.sock")
	if err := os.Mkdir(state, 0o755); err != nil { // for the clients' user, too
		return err
	}
	service, err := start(socket, c.kmsfs, "--state-dir", state, "keysvc", "serve")
	if err != nil {
		return err
	}
	defer service.stop()

	text, err := policyFor(clientUser())
	if err != nil {
		return err
	}
	do := newConnection(socket).call
	key, err := makeKey(do, text)
	if err != nil {
		return err
	}
	if err := grantToOthers(do, key, c.grants); err != nil {
		return err
	}
	nothing := load{Socket: emptySocket, Clients: c.clients, Duration: c.duration}
	single := load{Socket: socket, StateDir: state, Key: key, Clients: c.clients, Duration: c.duration}
	batches := single
	batches.Batch = batchSize
	audit := auditLog{c.kmsfs, state, 0}
	if err := audit.gained(0); err != nil {
		return err
	}
	for range c.rounds {
		for _, x := range []struct {
			load   load
			server *process
			into   *[]sample
		}{{nothing, empty, &r.Empty}, {single, service, &r.Single}, {batches, service, &r.Batches}} {
			s, err := x.load.run(x.server)
			if err != nil {
				return err
			}
			*x.into = append(*x.into, s)
			if x.server == empty {
				continue
			}
			if err := audit.gained(s.Keys); err != nil {
				return err
			}
			r.Verified += s.Keys
		}
	}
	return nil
}

// auditLog is a service's, running or not.
type auditLog struct {
	kmsfs, state string
	have         int // data keys that were recorded so far
}

// gained verifies the log, and that it has keys data keys more than before.
func (a *auditLog) gained(keys int) error {
	out, err := exec.Command(a.kmsfs, "--state-dir", a.state, "audit", "verify", "--json").Output()
	if err != nil {
		return fmt.Errorf("audit verify: %w: %s", err, out)
	}
	var rep struct {
		Errors int            `json:"errors"`
		Events map[string]int `json:"events"`
	}
	if err := json.Unmarshal(out, &rep); err != nil {
		return fmt.Errorf("audit verify: %w", err)
	}
	got := rep.Events[kmsapi.OpGenerateDataKey] - a.have
	if got != keys || rep.Errors != 0 {
		return fmt.Errorf("%d data keys were made, and the audit log has %d records of that, and %d errors", keys, got, rep.Errors)
	}
	a.have += got
	return nil
}
