package audit

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary is the service that is killed when this is set to a directory.
const childDir = "KMSFS_AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child appends until it is killed. It says what was acknowledged: "a NUMBER ID",
// and "h HEAD" for the service's sealed store.
func child(dir string) error {
	var mu sync.Mutex
	out := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...) // one write(2)
	}
	l, err := Open(Options{
		Dir: dir, Signer: testKey(1), SegmentBytes: 100 << 10, CheckpointEvery: 20, CheckpointAfter: 5 * time.Millisecond,
		SyncDelay: time.Millisecond, Log: slog.New(slog.DiscardHandler),
		OnCheckpoint: func(h Head) {
			text, err := json.Marshal(h)
			if err == nil {
				out("h %s", text)
			}
		},
	})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for c := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), c, i)
				r := named(id)
				r.UserAgent = strings.Repeat("u", rand.IntN(maxText)) // several pages to a batch
				batch := []*Record{r}
				for k := 1; k < 1+i%3*4; k++ {
					batch = append(batch, r)
				}
				n, err := l.AppendAll(batch, i%5 == 0)
				if err != nil {
					errs <- err
					return
				}
				out("a %d %s", n, id)
			}
		}()
	}
	return <-errs
}

// TestKill kills a service while it appends, many times on one log. Each time the
// log opens, contains the head that was told last, all that was acknowledged is
// there, and all verifies.
func TestKill(t *testing.T) {
	rounds := 8
	switch {
	case os.Getenv("KMSFS_LONG") != "":
		rounds = 200
	case testing.Short():
		rounds = 3
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acked := make(map[uint64]string)
	var head *Head
	torn := 0
	for round := range rounds {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		killed := killSoon(cmd.Process, stdout, 20+rand.IntN(400), func(line string) {
			kind, rest, _ := strings.Cut(line, " ")
			if kind == "h" {
				head = new(Head)
				if err := json.Unmarshal([]byte(rest), head); err != nil {
					t.Error(err)
				}
				return
			}
			number, id, _ := strings.Cut(rest, " ")
			n, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				t.Error(err)
			}
			acked[n] = id
		})
		if err := cmd.Wait(); err == nil || !killed {
			t.Fatalf("round %d: the service ended by itself: %v", round, err)
		}
		if t.Failed() {
			return
		}
		r := verify(t, dir, VerifyOptions{Head: head})
		if r.Fault != nil {
			if r.Fault.Kind != FaultTruncated || !strings.Contains(r.Fault.Reason, "has no end") {
				t.Fatalf("round %d: before it was opened again: %v", round, r.Fault)
			}
			torn++
		}
		l, err := Open(quiet(Options{Dir: dir, Signer: testKey(1), ExpectedHead: head}))
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		closeLog(t, l)
		head = ptr(l.Head())
		mustVerify(t, dir, VerifyOptions{Head: head})
		got := records(t, dir)
		for n, id := range acked {
			if got[n] != id {
				t.Fatalf("round %d: record %d is %q, was acknowledged as %q", round, n, got[n], id)
			}
		}
		if round%10 == 9 { // begin anew, so that the rounds stay short
			dir, acked, head = t.TempDir(), make(map[uint64]string), nil
		}
	}
	t.Logf("%d of %d left a torn line", torn, rounds)
}

// killSoon kills p after some lines of its output, and passes on all there are:
// what was in the pipe counts.
func killSoon(p *os.Process, out io.Reader, after int, line func(string)) bool {
	r := bufio.NewScanner(out)
	killed := false
	for n := 0; r.Scan(); n++ {
		line(r.Text())
		if n == after {
			killed = p.Kill() == nil
		}
	}
	return killed
}
