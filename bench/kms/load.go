package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// roleLoad is the first argument of the process that the clients are in.
const roleLoad = "-load"

// load is what clients do.
type load struct {
	Socket, StateDir string
	Key              string // "" for the empty handler
	Batch            int    // keys per request; 1 asks the public API
	Clients          int
	Duration         time.Duration
}

// sample is what came of it.
type sample struct {
	Keys int // made in all
	// PerSecond counts keys, or requests to the empty handler, and after a warm-up only.
	PerSecond float64
	// P50 and P99 are of a request, in microseconds.
	P50, P99 float64
	// CPU is the processor time of a key, clients and service, in microseconds. Other
	// programs on the machine change it less than they do the rest.
	CPU float64
}

// clientUID is a user who owns nothing, and whom the policy lets in.
const clientUID = 64001

// clientUser is who the clients are.
func clientUser() uint32 {
	if os.Geteuid() == 0 {
		return clientUID
	}
	return uint32(os.Geteuid()) // to the service its owner
}

// run has another process do it, of another user if possible.
func (l load) run(server *process) (sample, error) {
	var s sample
	arg, err := json.Marshal(l)
	if err != nil {
		return s, err
	}
	cmd := exec.Command("/proc/self/exe", roleLoad, string(arg))
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	if uid := clientUser(); uid != uint32(os.Geteuid()) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	before, err := server.cpu()
	if err != nil {
		return s, err
	}
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("clients: %w", err)
	}
	after, err := server.cpu()
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("clients: %w", err)
	}
	used := after - before + cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	s.CPU = micros(used) / float64(s.Keys)
	return s, nil
}

// loadRole is the other process.
func loadRole(arg string) error {
	var l load
	if err := json.Unmarshal([]byte(arg), &l); err != nil {
		return err
	}
	ask := l.asker
	if l.Batch > 1 {
		ask = l.batcher
	}
	s, err := repeat(l.Clients, l.Duration, max(1, l.Batch), ask)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// warmUp is how long answers do not count yet.
const warmUp = 300 * time.Millisecond

// repeat has clients ask, each again as soon as it is answered. An answer is
// keys keys.
func repeat(clients int, duration time.Duration, keys int, newAsker func(client int) (ask func() error, err error)) (sample, error) {
	asks := make([]func() error, clients)
	for i := range asks {
		var err error
		if asks[i], err = newAsker(i); err != nil {
			return sample{}, err
		}
	}
	times := make([][]time.Duration, clients)
	all := make([]int, clients)
	errs := make([]error, clients)
	begin := time.Now().Add(warmUp)
	end := begin.Add(duration)
	var wg sync.WaitGroup
	for i, ask := range asks {
		wg.Go(func() {
			times[i] = make([]time.Duration, 0, 1<<16)
			for {
				from := time.Now()
				if from.After(end) {
					return
				}
				if errs[i] = ask(); errs[i] != nil {
					return
				}
				all[i]++
				if now := time.Now(); from.After(begin) && now.Before(end) {
					times[i] = append(times[i], now.Sub(from))
				}
			}
		})
	}
	wg.Wait()
	var s sample
	for i, err := range errs {
		if err != nil {
			return s, fmt.Errorf("client %d: %w", i, err)
		}
		s.Keys += all[i] * keys
	}
	t := slices.Concat(times...)
	if len(t) == 0 {
		return s, fmt.Errorf("no answer in %v", duration)
	}
	slices.Sort(t)
	s.PerSecond = float64(len(t)*keys) / duration.Seconds()
	s.P50, s.P99 = micros(t[len(t)/2]), micros(t[len(t)*99/100])
	return s, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// encryptionContext is that of a file.
func encryptionContext(client int) map[string]string {
	return map[string]string{"kmsfs:volume": volume, "kmsfs:path": fmt.Sprintf("/project-18/src/file-%d.go", client)}
}

// asker is a client of the public API with a connection of its own. The empty
// handler gets the same requests.
func (l load) asker(client int) (func() error, error) {
	key := l.Key
	if key == "" {
		key = "00000000-0000-0000-0000-000000000000"
	}
	size := 32
	body, err := json.Marshal(kmsapi.GenerateDataKeyInput{KeyID: key, NumberOfBytes: &size, EncryptionContext: encryptionContext(client)})
	if err != nil {
		return nil, err
	}
	c := newConnection(l.Socket)
	return func() error {
		_, err := c.post(kmsapi.OpGenerateDataKey, body)
		return err
	}, nil
}

// batcher is a client as a mount is one.
func (l load) batcher(client int) (func() error, error) {
	c, err := kmsclient.Connect(context.Background(), kmsclient.Options{Socket: l.Socket, StateDir: l.StateDir})
	if err != nil {
		return nil, err
	}
	items := make([]kmsapi.BatchItem, l.Batch)
	for i := range items {
		items[i] = kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: l.Key, NumberOfBytes: 32, EncryptionContext: encryptionContext(client)}
	}
	return func() error {
		made, err := c.Batch(context.Background(), items)
		if err != nil {
			return err
		}
		for i := range made {
			if e := made[i].Err; e != nil {
				return e
			}
			secret.Wipe(made[i].Plaintext)
		}
		return nil
	}, nil
}
