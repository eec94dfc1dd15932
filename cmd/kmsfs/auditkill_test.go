package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// TestKilledServiceHasRecordedWhatItAnswered kills the service again and again
// while clients call it: the log always verifies, and has a record of every call
// that was answered.
func TestKilledServiceHasRecordedWhatItAnswered(t *testing.T) {
	rounds := 10
	if os.Getenv("KMSFS_LONG") != "" {
		rounds = 200
	}
	state := shortDir(t)
	dir := filepath.Join(state, "audit")
	var mu sync.Mutex
	answered := map[string]bool{} // paths and descriptions, each of its own
	var enough int                // answers after which the service is killed
	var killNow chan struct{}
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		answered[what] = true
		if len(answered) == enough {
			close(killNow)
		}
	}
	for round := range rounds {
		enough, killNow = len(answered)+1+rand.N(100), make(chan struct{})
		s := startService(t, state)
		var wg sync.WaitGroup
		for n := range 3 {
			wg.Go(func() {
				c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
				if err != nil {
					return // killed already
				}
				defer c.Close()
				what := fmt.Sprintf("key %d/%d", round, n)
				made, err := c.CreateKey(t.Context(), &kmsapi.CreateKeyInput{Description: what})
				if err != nil {
					return
				}
				note(what)
				for i := 0; ; i++ {
					time.Sleep(time.Millisecond) // the log is verified 200 times
					items := make([]kmsapi.BatchItem, 1+rand.N(2)*15)
					for j := range items {
						items[j] = kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: made.KeyMetadata.KeyID, NumberOfBytes: 32,
							EncryptionContext: map[string]string{"kmsfs:path": fmt.Sprintf("/%d/%d/%d/%d", round, n, i, j)}}
					}
					out, err := c.Batch(t.Context(), items)
					if err != nil {
						return
					}
					for j, r := range out {
						if r.Err != nil {
							t.Errorf("refused: %v", r.Err)
							return
						}
						note(items[j].EncryptionContext["kmsfs:path"])
					}
				}
			})
		}
		select {
		case <-killNow:
		case <-time.After(time.Minute):
			t.Fatalf("round %d: the service does not answer", round)
		}
		s.kill(t)
		wg.Wait()
		// The end may be torn. What a start makes of it must verify.
		s = startService(t, state)
		if rep, err := keysvc.VerifyAudit(dir, keysvc.AuditVerifyOptions{Grace: time.Second}); err != nil || rep.Fault != nil {
			t.Fatalf("round %d: %v, %+v", round, err, rep)
		}
		s.kill(t)
	}
	total := 0
	err := keysvc.TailAudit(t.Context(), dir, 1<<30, false, func(_ []byte, r *keysvc.AuditRecord) error {
		total++
		if p := r.RequestParameters; p != nil {
			delete(answered, p.EncryptionContext["kmsfs:path"])
			if p.Management != nil {
				delete(answered, p.Description)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what := range answered {
		t.Errorf("%s was answered and is not in the log of %d records", what, total)
	}
}
