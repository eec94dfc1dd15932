package fstest

import (
	"errors"
	"os/exec"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

func TestUnescapeMount(t *testing.T) {
	for in, want := range map[string]string{
		"/plain": "/plain", `/a\040b`: "/a b", `/tail\04`: `/tail\04`, `\134`: `\`, `/x\999`: `/x\999`,
	} {
		if got := unescapeMount(in); got != want {
			t.Errorf("unescapeMount(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPoll(t *testing.T) {
	n := 0
	if err := Poll(time.Minute, func() (bool, error) { n++; return n == 3, nil }); err != nil || n != 3 {
		t.Errorf("%d calls, %v", n, err)
	}
	if err := Poll(10*time.Millisecond, func() (bool, error) { return false, nil }); err == nil {
		t.Error("no error after the limit")
	}
	want := errors.New("no")
	if err := Poll(time.Minute, func() (bool, error) { return false, want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// A test's leftovers have to be found: this is what makes a clean run mean
// something.
func TestProcessesAndStop(t *testing.T) {
	dir := Dir(t)
	cmd := exec.Command("sleep", "60")
	cmd.Args[0] = dir + "/sleep"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait()
	found := processes(dir)
	if len(found) != 1 || found[0].pid != cmd.Process.Pid {
		t.Fatalf("found %v, want process %d", found, cmd.Process.Pid)
	}
	if err := stop(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if Alive(cmd.Process.Pid) {
		t.Error("the process runs after stop")
	}
}

func TestTmpfs(t *testing.T) {
	if dir := Tmpfs(t, "size=1m"); !Mounted(dir) {
		t.Errorf("%s is not mounted", dir)
	}
}
