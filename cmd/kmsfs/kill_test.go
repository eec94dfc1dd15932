package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// fact is something in the key service that one client alone changes.
type fact struct {
	sure  string // as the last answer left it
	maybe string // as a request without an answer may have left it
	asked bool   // there is such a request
}

func (f *fact) change(to string, do func() error) error {
	f.maybe, f.asked = to, true
	if err := do(); err != nil {
		return err
	}
	f.sure, f.asked = to, false
	return nil
}

// found says how it is after a restart. That settles it.
func (f *fact) found(t *testing.T, what, is string) {
	t.Helper()
	if is != f.sure && (!f.asked || is != f.maybe) {
		t.Errorf("%s is %q. It was %q, and %q was asked for: %t", what, is, f.sure, f.maybe, f.asked)
	}
	f.sure, f.asked = is, false
}

// writtenKey is a key, and what is known of it.
type writtenKey struct {
	id                                                string
	state, description, tag, target, materials, grant fact
	blobs                                             [][]byte
}

func (k *writtenKey) alias() string { return "alias/" + k.id }

// writer is a client that makes changes until the service dies.
type writer struct {
	n, steps int
	asked    *atomic.Int64 // steps of all writers, in this round
	keys     []*writtenKey // it changes the last one
	creating fact          // the description of the last key that it asked for
}

// write does it. The error is that of the connection.
func (w *writer) write(t *testing.T, state string) {
	ctx := t.Context()
	c, err := kmsclient.Connect(ctx, kmsclient.Options{StateDir: state})
	if err != nil {
		return // killed already
	}
	defer c.Close()
	for err == nil {
		w.steps++
		w.asked.Add(1)
		err = w.step(t, c)
	}
	if e := (*kmsapi.Error)(nil); errors.As(err, &e) || errors.Is(err, errUnexpected) {
		t.Errorf("writer %d: %v", w.n, err)
	}
}

var errUnexpected = errors.New("not what was written")

func (w *writer) step(t *testing.T, c *kmsclient.Client) error {
	ctx := t.Context()
	value := fmt.Sprintf("%d-%d", w.n, w.steps)
	if len(w.keys) == 0 || w.steps%150 == 0 {
		return w.creating.change(value, func() error {
			out, err := c.CreateKey(ctx, &kmsapi.CreateKeyInput{Description: value})
			if err == nil {
				w.keys = append(w.keys, newWrittenKey(out.KeyMetadata.KeyID, value))
			}
			return err
		})
	}
	k := w.keys[len(w.keys)-1]
	switch k.state.sure {
	case kmsapi.StatePendingDeletion:
		return k.state.change(kmsapi.StateDisabled, func() error {
			_, err := c.CancelKeyDeletion(ctx, k.id)
			return err
		})
	case kmsapi.StateDisabled:
		if w.steps%2 == 0 {
			return k.state.change(kmsapi.StateEnabled, func() error { return c.EnableKey(ctx, k.id) })
		}
		return k.state.change(kmsapi.StatePendingDeletion, func() error {
			_, err := c.ScheduleKeyDeletion(ctx, k.id, 7)
			return err
		})
	}
	switch w.steps % 10 {
	case 0:
		return k.state.change(kmsapi.StateDisabled, func() error { return c.DisableKey(ctx, k.id) })
	case 1, 2:
		return k.tag.change(value, func() error { return c.TagResource(ctx, k.id, []kmsapi.Tag{{TagKey: "t", TagValue: value}}) })
	case 3, 4:
		if k.target.sure == "" {
			return k.target.change(k.id, func() error { return c.CreateAlias(ctx, k.alias(), k.id) })
		}
		return k.target.change("", func() error { return c.DeleteAlias(ctx, k.alias()) })
	case 6, 7:
		return k.changeGrant(t, c, value)
	case 5:
		if w.steps%40 == 5 { // there are 25 of them
			if err := w.rotate(t, c, k); err != nil {
				return err
			}
		}
	}
	return k.description.change(value, func() error { return c.UpdateKeyDescription(ctx, k.id, value) })
}

// changeGrant makes a grant, whose name is known, or revokes it.
func (k *writtenKey) changeGrant(t *testing.T, c *kmsclient.Client, name string) error {
	ctx := t.Context()
	if k.grant.sure == "" {
		return k.grant.change(name, func() error {
			_, err := c.CreateGrant(ctx, &kmsapi.CreateGrantInput{
				KeyID: k.id, GranteePrincipal: "arn:aws:iam::000000000000:user/local/12345", Operations: []string{"Decrypt"}, Name: &name})
			return err
		})
	}
	all, err := c.AllGrants(ctx, k.id, "")
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("%w: there are %d grants", errUnexpected, len(all))
	}
	return k.grant.change("", func() error {
		return c.RevokeGrant(ctx, &kmsapi.RevokeGrantInput{KeyID: k.id, GrantID: all[0].GrantID})
	})
}

// rotate also keeps something that the new material encrypts.
func (w *writer) rotate(t *testing.T, c *kmsclient.Client, k *writtenKey) error {
	err := k.materials.change(more(k.materials.sure), func() error {
		_, err := c.RotateKeyOnDemand(t.Context(), k.id)
		return err
	})
	if err != nil {
		return err
	}
	made, err := c.Batch(t.Context(), []kmsapi.BatchItem{{Op: kmsapi.OpGenerateDataKey, KeyID: k.id, NumberOfBytes: 32}})
	if err != nil {
		return err
	}
	if e := made[0].Err; e != nil {
		return e
	}
	k.blobs = append(k.blobs, made[0].CiphertextBlob)
	return nil
}

func newWrittenKey(id, description string) *writtenKey {
	k := &writtenKey{id: id}
	k.state.sure, k.description.sure, k.materials.sure = kmsapi.StateEnabled, description, "1"
	return k
}

func more(n string) string {
	var i int
	fmt.Sscan(n, &i)
	return itoa(i + 1)
}

// check compares one key with what is known of it.
func (k *writtenKey) check(t *testing.T, c *kmsclient.Client) {
	t.Helper()
	ctx := t.Context()
	m, err := c.DescribeKey(ctx, k.id)
	if err != nil {
		t.Errorf("key %s: %v", k.id, err)
		return
	}
	tags, err := c.AllTags(ctx, k.id)
	aliases, err2 := c.AllAliases(ctx, k.id)
	materials, err3 := c.AllKeyMaterial(ctx, k.id)
	grants, err4 := c.AllGrants(ctx, k.id, "")
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Errorf("key %s: %v", k.id, err)
		return
	}
	tag, target, granted := "", "", ""
	if len(grants) > 0 {
		granted = grants[0].Name
	}
	if len(tags) > 0 {
		tag = tags[0].TagValue
	}
	if len(aliases) > 0 {
		target = aliases[0].TargetKeyID
	}
	k.state.found(t, "the state", m.KeyState)
	k.description.found(t, "the description", m.Description)
	k.tag.found(t, "the tag", tag)
	k.grant.found(t, "the grant", granted)
	k.target.found(t, "the alias's target", target)
	k.materials.found(t, "the number of materials", itoa(len(materials)))
	if k.state.sure != kmsapi.StateEnabled || len(k.blobs) == 0 {
		return
	}
	items := make([]kmsapi.BatchItem, len(k.blobs))
	for i, b := range k.blobs {
		items[i] = kmsapi.BatchItem{Op: kmsapi.OpDecrypt, KeyID: k.id, CiphertextBlob: b}
	}
	opened, err := c.Batch(ctx, items)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range opened {
		if o.Err != nil {
			t.Errorf("data key %d of %s: %v", i, k.id, o.Err)
		}
	}
}

// TestKilledWhileWriting kills the service at any moment, while clients change
// things or while it starts, again and again on one state directory. It
// always starts again, all that was acknowledged is there, what was not is
// there as a whole or not at all, and the audit log verifies.
func TestKilledWhileWriting(t *testing.T) {
	rounds := 12
	if os.Getenv("KMSFS_LONG") != "" {
		rounds = 200
	}
	state := shortDir(t)
	var asked atomic.Int64
	writers := make([]*writer, 4)
	for i := range writers {
		writers[i] = &writer{n: i, asked: &asked}
	}
	pause := func(most time.Duration) { time.Sleep(rand.N(most)) }
	for round := range rounds {
		if round%4 == 3 {
			cmd := exec.Command("kmsfs", "--state-dir", state, "keysvc", "serve")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pause(60 * time.Millisecond)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // "signal: killed"
		}
		s := startService(t, state)
		checkWriters(t, state, writers, round == rounds-1)
		if t.Failed() {
			t.Fatalf("after %d kills", round)
		}
		var wg sync.WaitGroup
		asked.Store(0)
		for _, w := range writers {
			wg.Go(func() { w.write(t, state) })
		}
		if round%4 == 0 {
			pause(150 * time.Millisecond) // perhaps before anything was asked for
		} else {
			// However slow the machine is, much is going on.
			enough := int64(10 + rand.N(100))
			for deadline := time.Now().Add(time.Minute); asked.Load() < enough && time.Now().Before(deadline) && !t.Failed(); {
				time.Sleep(time.Millisecond)
			}
			pause(5 * time.Millisecond)
		}
		s.kill(t)
		wg.Wait()
	}
	startService(t, state)
	checkWriters(t, state, writers, true)
	if out, err := exec.Command("kmsfs", "--state-dir", state, "audit", "verify").CombinedOutput(); err != nil {
		t.Errorf("audit verify: %v: %s", err, out)
	}
	steps := 0
	for _, w := range writers {
		steps += w.steps
	}
	if steps < 5*rounds {
		t.Errorf("only %d changes were asked for in %d rounds", steps, rounds)
	}
	t.Logf("%d kills during %d changes", rounds, steps)
}

// checkWriters checks the keys that are being written, or all.
func checkWriters(t *testing.T, state string, writers []*writer, all bool) {
	t.Helper()
	c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	list, err := c.AllKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, k := range list {
		there[k.KeyID] = true
	}
	for _, w := range writers {
		for i, k := range w.keys {
			if !there[k.id] {
				t.Errorf("key %s is lost", k.id)
			}
			delete(there, k.id)
			if all || i == len(w.keys)-1 {
				k.check(t, c)
			}
		}
	}
	// The rest are keys whose creation was not answered.
	for id := range there {
		m, err := c.DescribeKey(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		known := false
		for _, w := range writers {
			if w.creating.asked && w.creating.maybe == m.Description {
				w.keys = append(w.keys, newWrittenKey(id, m.Description))
				known = true
			}
		}
		if !known {
			t.Errorf("nobody asked for key %s, %q", id, m.Description)
		}
	}
	for _, w := range writers {
		w.creating.asked = false
	}
}
