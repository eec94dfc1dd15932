package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this binary the kmsfs that the scripts and the tests run: as
// kmsfs it is main.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kmsfs": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs testdata/script. Each script has a state directory of its
// own; services that it started are ended with it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			state := shortDir(t)
			e.Setenv("STATE", state)
			e.Setenv("KMSFS_STATE_DIR", state)
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Defer(func() { endService(t, state) })
			return nil
		},
	})
}
