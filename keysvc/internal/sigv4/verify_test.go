package sigv4_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"kmsfs.dev/kmsfs/keysvc/internal/sigv4"
)

// TestReplay sends one request again and again.
func TestReplay(t *testing.T) {
	req, body := describeKey().request(t)
	o := options()
	o.Cache = sigv4.NewCache(10)
	defer o.Cache.Close()
	for _, tt := range []struct {
		after time.Duration
		words string
	}{
		{0, ""}, {sigv4.MaxSkew, ""},
		{sigv4.MaxSkew + 1, "Signature expired"},
		{-sigv4.MaxSkew, ""},
		{-sigv4.MaxSkew - 1, "Signature not yet current"},
		{24 * time.Hour, "Signature expired"},
	} {
		o.Now = func() time.Time { return noon.Add(tt.after).In(time.FixedZone("x", 3600)) }
		_, err := sigv4.Verify(req, body, o)
		if tt.words == "" {
			if err != nil {
				t.Errorf("after %v: %v", tt.after, err)
			}
			continue
		}
		refused(t, err, invalid, tt.words)
	}
}

// TestAnotherService: a signature for one service of an endpoint is none for another.
func TestAnotherService(t *testing.T) {
	f := describeKey()
	f.drop("X-Amz-Target")
	f.set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	f.body, f.signed, f.service = "Action=GetCallerIdentity&Version=2011-06-15", "content-type;host;x-amz-date", "sts"
	req, body := f.request(t)
	o := options()
	_, err := sigv4.Verify(req, body, o)
	refused(t, err, invalid, "correct service: 'kms'")
	o.Service = "sts"
	if _, err := sigv4.Verify(req, body, o); err != nil {
		t.Error(err)
	}
}

func TestSessionToken(t *testing.T) {
	f := describeKey()
	f.add("X-Amz-Security-Token", "the/token==")
	f.signed = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
	req, body := f.request(t)
	r, err := sigv4.Verify(req, body, options())
	if err != nil || r.SessionToken != "the/token==" {
		t.Errorf("the token is %q, %v", r.SessionToken, err)
	}
	req.Header.Set("X-Amz-Security-Token", "another")
	_, err = sigv4.Verify(req, body, options())
	refused(t, err, invalid, "does not match")
}

// TestClaimedAccessKey: a refusal names the access key, for the audit, as
// soon as one can be read; never one that is no ID.
func TestClaimedAccessKey(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*forged)
		want   string
	}{
		{"a wrong secret", func(f *forged) { f.secret = "x" }, userID},
		{"an unknown key", func(f *forged) { f.id = "AKIAI44QH8DHBEXAMPLE" }, "AKIAI44QH8DHBEXAMPLE"},
		{"an old time", func(f *forged) { f.set("X-Amz-Date", "20150830T123600Z") }, userID},
		{"no signature", func(f *forged) { f.authorization = func(c, h, s string) string { return "" } }, ""},
		{"a name with a space", func(f *forged) { f.id = "A B" }, ""},
	} {
		f := describeKey()
		tt.change(&f)
		req, body := f.request(t)
		_, err := sigv4.Verify(req, body, options())
		var e *sigv4.Error
		if !errors.As(err, &e) || e.AccessKeyID != tt.want {
			t.Errorf("%s: the refusal %v names %q, not %q", tt.name, err, e.AccessKeyID, tt.want)
		}
	}
}

// TestLookupFailures: what is not the peer's fault is no refusal, and verifies nothing.
func TestLookupFailures(t *testing.T) {
	broken := errors.New("the store is closed")
	for name, lookup := range map[string]sigv4.Lookup{
		"an error":            func(string, func([]byte)) (bool, error) { return false, broken },
		"an error and a key":  func(_ string, use func([]byte)) (bool, error) { use([]byte(userSecret)); return true, broken },
		"no secret":           func(string, func([]byte)) (bool, error) { return true, nil },
		"an empty secret":     func(_ string, use func([]byte)) (bool, error) { use(nil); return true, nil },
		"a secret, not found": func(_ string, use func([]byte)) (bool, error) { use([]byte(userSecret)); return false, nil },
	} {
		f := describeKey()
		if name == "an empty secret" {
			f.secret = ""
		}
		req, body := f.request(t)
		o := options()
		o.Lookup = lookup
		_, err := sigv4.Verify(req, body, o)
		var e *sigv4.Error
		switch {
		case name == "a secret, not found":
			refused(t, err, unrecognized, "")
		case err == nil:
			t.Errorf("%s: verified", name)
		case errors.As(err, &e):
			t.Errorf("%s: refused with %v, as if it were the peer's fault", name, err)
		case strings.HasPrefix(name, "an error") && !errors.Is(err, broken):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSecretStaysOut: no refusal has a part of the secret or of the right signature.
func TestSecretStaysOut(t *testing.T) {
	for _, change := range []func(*forged){
		func(f *forged) { f.signed = "host;x-amz-date" },
		func(f *forged) { f.region = "eu-west-1" },
		func(f *forged) { f.set("X-Amz-Date", "20150830T123600Z") },
		func(f *forged) { f.terminator = "x" },
	} {
		f := describeKey()
		change(&f)
		req, body := f.request(t)
		_, signature, _ := strings.Cut(req.Header.Get("Authorization"), "Signature=")
		req.Method = "PUT"
		_, err := sigv4.Verify(req, body, options())
		if err == nil || strings.Contains(err.Error(), userSecret[:8]) || strings.Contains(err.Error(), signature) {
			t.Errorf("the refusal is %v", err)
		}
	}
}

// TestAccessKeyIDs: what is no ID is not looked up.
func TestAccessKeyIDs(t *testing.T) {
	for id, ok := range map[string]bool{
		"a": true, "A_9": true, strings.Repeat("A", 128): true,
		strings.Repeat("A", 129): false, "A-": false, "A B": false, "é": false,
	} {
		f := describeKey()
		f.id = id
		req, body := f.request(t)
		o := options()
		asked := false
		o.Lookup = func(_ string, use func([]byte)) (bool, error) {
			asked = true
			use([]byte(userSecret))
			return true, nil
		}
		if _, err := sigv4.Verify(req, body, o); (err == nil) != ok || asked != ok {
			t.Errorf("%s: looked up: %v, %v", id, asked, err)
		}
	}
}

func TestSecretIsOnlyRead(t *testing.T) {
	s := []byte(userSecret)
	req, body := describeKey().request(t)
	o := options()
	o.Lookup = func(_ string, use func([]byte)) (bool, error) { use(s); return true, nil }
	for range 2 {
		if _, err := sigv4.Verify(req, body, o); err != nil {
			t.Fatal(err)
		}
	}
	if string(s) != userSecret {
		t.Error("the caller's secret was changed")
	}
}
