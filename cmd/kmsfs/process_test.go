package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// shortDir is a state directory whose socket's path fits into 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kmsfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// endService stops the service of a state directory, if one runs, and waits until
// its process has left: only then may the directory go.
func endService(t *testing.T, state string) {
	t.Helper()
	c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
	if err != nil {
		return
	}
	defer c.Close()
	st, err := c.Status(t.Context())
	if err != nil {
		t.Error(err)
		return
	}
	process, err := unix.PidfdOpen(st.PID, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(process)
	if err := unix.PidfdSendSignal(process, unix.SIGTERM, nil, 0); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		// Readable means that it has ended.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, 1000)
		if n > 0 {
			return
		}
		if err != nil && err != unix.EINTR {
			t.Error(err)
			return
		}
	}
	t.Errorf("the service of %s does not end", state)
}

// service runs `kmsfs keysvc serve` as a process.
type service struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

func startService(t *testing.T, state string, args ...string) *service {
	t.Helper()
	s := &service{cmd: exec.Command("kmsfs", append([]string{"--state-dir", state, "keysvc", "serve"}, args...)...)}
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.kill(t) })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
		if err == nil {
			c.Close()
			return s
		}
	}
	t.Fatalf("the service does not answer: %s", &s.stderr)
	return nil
}

func (s *service) kill(t *testing.T) {
	t.Helper()
	if s.cmd.ProcessState != nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = s.cmd.Wait() // "signal: killed"
}

// TestAcknowledgedChangesSurviveSIGKILL kills the service right after its
// answers, again and again.
func TestAcknowledgedChangesSurviveSIGKILL(t *testing.T) {
	state := shortDir(t)
	enabled := map[string]bool{}
	aliases := map[string]string{}
	rotated := map[string]int{}
	var blobs []kmsapi.BatchItem
	for round := range 8 {
		s := startService(t, state)
		c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
		if err != nil {
			t.Fatal(err)
		}
		checkState(t, c, enabled, aliases, blobs)
		for range 3 {
			out, err := c.CreateKey(t.Context(), &kmsapi.CreateKeyInput{Description: "d"})
			if err != nil {
				t.Fatal(err)
			}
			id := out.KeyMetadata.KeyID
			enabled[id] = true
			made, err := c.Batch(t.Context(), []kmsapi.BatchItem{{Op: kmsapi.OpGenerateDataKey, KeyID: id, NumberOfBytes: 32}})
			if err != nil || made[0].Err != nil {
				t.Fatal(err, made[0].Err)
			}
			blobs = append(blobs, kmsapi.BatchItem{Op: kmsapi.OpDecrypt, KeyID: id, CiphertextBlob: made[0].CiphertextBlob})
			if _, err := c.RotateKeyOnDemand(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			rotated[id]++
			made, err = c.Batch(t.Context(), []kmsapi.BatchItem{{Op: kmsapi.OpGenerateDataKey, KeyID: id, NumberOfBytes: 32}})
			if err != nil || made[0].Err != nil {
				t.Fatal(err, made[0].Err)
			}
			blobs = append(blobs, kmsapi.BatchItem{Op: kmsapi.OpDecrypt, KeyID: id, CiphertextBlob: made[0].CiphertextBlob})
			name := "alias/" + id
			if err := c.CreateAlias(t.Context(), name, id); err != nil {
				t.Fatal(err)
			}
			aliases[name] = id
		}
		for id, on := range enabled { // one or another
			if on {
				err = c.DisableKey(t.Context(), id)
			} else {
				err = c.EnableKey(t.Context(), id)
			}
			if err != nil {
				t.Fatal(err)
			}
			enabled[id] = !on
			break
		}
		for name := range aliases {
			if round%2 == 1 {
				if err := c.DeleteAlias(t.Context(), name); err != nil {
					t.Fatal(err)
				}
				delete(aliases, name)
			}
			break
		}
		s.kill(t)
		c.Close()
	}
	startService(t, state)
	c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	checkState(t, c, enabled, aliases, blobs)
	for id, n := range rotated {
		if list, err := c.AllKeyMaterial(t.Context(), id); err != nil || len(list) != n+1 {
			t.Errorf("%d of %d rotations of %s are left: %v", len(list)-1, n, id, err)
		}
	}
}

func checkState(t *testing.T, c *kmsclient.Client, enabled map[string]bool, aliases map[string]string, blobs []kmsapi.BatchItem) {
	t.Helper()
	keys, err := c.AllKeys(t.Context())
	if err != nil || len(keys) != len(enabled) {
		t.Fatalf("%d keys of %d are left: %v", len(keys), len(enabled), err)
	}
	for id, on := range enabled {
		m, err := c.DescribeKey(t.Context(), id)
		if err != nil || m.Enabled != on {
			t.Errorf("key %s: %+v, %v", id, m, err)
		}
	}
	list, err := c.AllAliases(t.Context(), "")
	if err != nil || len(list) != len(aliases) {
		t.Errorf("%d aliases of %d are left: %v", len(list), len(aliases), err)
	}
	for _, a := range list {
		if aliases[a.AliasName] != a.TargetKeyID {
			t.Errorf("%s points at %s", a.AliasName, a.TargetKeyID)
		}
	}
	opened, err := c.Batch(t.Context(), blobs)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range opened {
		if on := enabled[blobs[i].KeyID]; on != (o.Err == nil) {
			t.Errorf("blob %d: the key is enabled: %t, the answer is %v", i, on, o.Err)
		}
	}
}

// TestAdvanceSurvivesSIGKILL: what an answered advance did is done.
func TestAdvanceSurvivesSIGKILL(t *testing.T) {
	state := shortDir(t)
	var keys []string
	var ahead float64
	for round := range 4 {
		s := startService(t, state, "--simulated-clock")
		c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := c.Status(t.Context()); err != nil || st.ClockAhead != ahead || st.Keys != len(keys) {
			t.Errorf("round %d: %+v, %v", round, st, err)
		}
		for range 2 {
			out, err := c.CreateKey(t.Context(), &kmsapi.CreateKeyInput{})
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, out.KeyMetadata.KeyID)
		}
		doomed, kept := keys[len(keys)-2], keys[len(keys)-1]
		keys = append(keys[:len(keys)-2], kept)
		if _, err := c.ScheduleKeyDeletion(t.Context(), doomed, 7); err != nil {
			t.Fatal(err)
		}
		if err := c.EnableKeyRotation(t.Context(), kept, 90); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Advance(t.Context(), 100*24*time.Hour); err != nil {
			t.Fatal(err)
		}
		ahead += 100 * 86400
		s.kill(t)
		c.Close()
	}
	startService(t, state, "--simulated-clock")
	c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	left, err := c.AllKeys(t.Context())
	if err != nil || len(left) != len(keys) {
		t.Errorf("%d keys of %d are left: %v", len(left), len(keys), err)
	}
	for i, id := range keys {
		rotations := (4 - i) * 100 / 90
		if list, err := c.AllKeyMaterial(t.Context(), id); err != nil || len(list) != rotations+1 {
			t.Errorf("key %d has %d rotations, not %d: %v", i, len(list)-1, rotations, err)
		}
	}
}

// TestServeIsHardened looks at the process from outside.
func TestServeIsHardened(t *testing.T) {
	state := shortDir(t)
	s := startService(t, state)
	pid := s.cmd.Process.Pid
	limits, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "limits"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") && !strings.Contains(line, "0                    0") {
			t.Errorf("core files are allowed: %s", line)
		}
	}
	// /proc/PID of an undumpable process belongs to root, of a dumpable one to
	// its user; as root both look alike, and a trace says it: see mem's owner of
	// a service that another user runs.
	other := shortDir(t)
	if err := os.Chown(other, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	exe := copyOfTestBinary(t)
	cmd := exec.Command(exe, "--state-dir", other, "keysvc", "serve")
	cmd.Args[0] = "kmsfs"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	cmd.Dir = "/"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(filepath.Join(other, "keysvc.sock")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the service does not start: %s", &stderr)
		}
	}
	st, err := os.Stat(filepath.Join("/proc", itoa(cmd.Process.Pid), "mem"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := st.Sys().(*syscall.Stat_t).Uid; uid != 0 {
		t.Errorf("the memory of the service can be read by its user %d", uid)
	}
}

// TestLogsHaveNoSecrets reads what a verbose service logs.
func TestLogsHaveNoSecrets(t *testing.T) {
	state := shortDir(t)
	s := startService(t, state)
	c, err := kmsclient.Connect(t.Context(), kmsclient.Options{StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out, err := c.CreateKey(t.Context(), &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	item := kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: out.KeyMetadata.KeyID, NumberOfBytes: 32,
		EncryptionContext: map[string]string{"kmsfs:path": "/very/private/name"}}
	made, err := c.Batch(t.Context(), []kmsapi.BatchItem{item, {Op: kmsapi.OpDecrypt, CiphertextBlob: []byte("x"), EncryptionContext: item.EncryptionContext}})
	if err != nil {
		t.Fatal(err)
	}
	if made[1].Err == nil {
		t.Error("garbage decrypts")
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	log := s.stderr.String()
	if !strings.Contains(log, "created a key") {
		t.Errorf("the log is %q", log)
	}
	for what, bad := range map[string]string{"a path": "private", "a data key": string(made[0].Plaintext)} {
		if strings.Contains(log, bad) {
			t.Errorf("%s is in the log: %s", what, log)
		}
	}
}
