package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"kmsfs.dev/kmsfs/internal/secret"
	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// measureInProcess measures the same data keys as over the socket, without one.
func measureInProcess(c config, dir string, r *results) error {
	return withService(dir, func(svc *keysvc.Service, state string) error {
		// Not this process's user, who owns the service.
		text, err := policyFor(clientUID)
		if err != nil {
			return err
		}
		do := inProcess(svc)
		key, err := makeKey(do, text)
		if err != nil {
			return err
		}
		if err := grantToOthers(do, key, c.grants); err != nil {
			return err
		}
		return measureKeys(c, svc, state, r, keySamples{key, &r.InProcess})
	})
}

// measureGrants measures data keys that only a grant permits.
func measureGrants(c config, r *results) error {
	dir, err := os.MkdirTemp(c.grantsDir, "bk")
	if err != nil {
		return err
	}
	err = withService(dir, func(svc *keysvc.Service, state string) error {
		do := inProcess(svc)
		samples := []keySamples{{into: &r.OneGrant}, {into: &r.ManyGrants}}
		for i, others := range []int{0, c.most - 1} {
			if samples[i].key, err = makeKey(do, ""); err != nil {
				return err
			}
			if err := grantToOthers(do, samples[i].key, others); err != nil {
				return err
			}
			if err := grantTo(do, samples[i].key, clientUID); err != nil {
				return err
			}
		}
		return measureKeys(c, svc, state, r, samples...)
	})
	return errors.Join(err, os.RemoveAll(dir))
}

// withService has do measure a new service in this process.
func withService(dir string, do func(svc *keysvc.Service, state string) error) (err error) {
	state := filepath.Join(dir, "direct")
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	svc, err := keysvc.Open(keysvc.Options{
		Dir: filepath.Join(state, "keysvc"), DefaultRootKeyFile: filepath.Join(state, "root.key"),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, svc.Close()) }()
	return do(svc, state)
}

// keySamples is a key, and where its samples go.
type keySamples struct {
	key  string
	into *[]sample
}

// measureKeys measures keys in turns.
func measureKeys(c config, svc *keysvc.Service, state string, r *results, keys ...keySamples) error {
	audit := auditLog{c.kmsfs, state, 0}
	for range c.rounds {
		for _, k := range keys {
			before, err := ownCPU()
			if err != nil {
				return err
			}
			s, err := repeat(runtime.NumCPU(), c.duration, 1, func(client int) (func() error, error) {
				return dataKeys(svc, svc.LocalCaller(clientUID), k.key, client), nil
			})
			if err != nil {
				return err
			}
			after, err := ownCPU()
			if err != nil {
				return err
			}
			s.CPU = micros(after-before) / float64(s.Keys)
			*k.into = append(*k.into, s)
			if err := audit.gained(s.Keys); err != nil {
				return err
			}
			r.Verified += s.Keys
		}
	}
	return nil
}

// ownCPU is the processor time that this process has used.
func ownCPU() (time.Duration, error) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// dataKeys makes a data key per call.
func dataKeys(svc *keysvc.Service, user keysvc.Caller, key string, client int) func() error {
	size := 32
	in := kmsapi.GenerateDataKeyInput{KeyID: key, NumberOfBytes: &size, EncryptionContext: encryptionContext(client)}
	return func() error {
		out, err := keysvc.Call(context.Background(), svc, user, kmsapi.OpGenerateDataKey, (*keysvc.Service).GenerateDataKey, &in)
		if err != nil {
			return err
		}
		secret.Wipe(out.Plaintext)
		return nil
	}
}

// inProcess performs the actions that prepare keys.
func inProcess(svc *keysvc.Service) caller {
	root := svc.LocalCaller(0)
	return func(op string, in, out any) error {
		switch in := in.(type) {
		case *kmsapi.CreateKeyInput:
			made, err := keysvc.Call(context.Background(), svc, root, op, (*keysvc.Service).CreateKey, in)
			if err == nil {
				*out.(*kmsapi.CreateKeyOutput) = *made
			}
			return err
		case *kmsapi.CreateGrantInput:
			_, err := keysvc.Call(context.Background(), svc, root, op, (*keysvc.Service).CreateGrant, in)
			return err
		}
		return fmt.Errorf("%s is no action that prepares a key", op)
	}
}
