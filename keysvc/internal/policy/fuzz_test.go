package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"kmsfs.dev/kmsfs/keysvc/internal/policy"
)

// compare evaluates what choices make, here and in the reference.
func compare(t testing.TB, choices []byte) (outcome policy.Outcome, ok bool) {
	d := &dice{choices}
	r, refR := d.request()
	refP := d.policies()
	p := refP.compile()
	if p == nil {
		return 0, false
	}
	got := policy.Evaluate(r, p)
	if want := refDecide(t, refR, refP); got.Outcome != want {
		t.Fatalf("%v, the reference says %v\nrequest: %+v\npolicies: %+v", got.Outcome, want, refR, refP)
	}
	if again := policy.Evaluate(r, p); again != got {
		t.Fatalf("%+v, and then %+v", got, again)
	}
	// A request that is described has only what the policies ask for.
	r.Context.DescribedBy(refR, p)
	if described := policy.Evaluate(r, p); described != got {
		t.Fatalf("%+v, and %+v if the request is described\nrequest: %+v\npolicies: %+v", got, described, refR, refP)
	}
	if (got.Statement == nil) != (got.Document == nil) || got.Outcome == policy.ExplicitDeny && got.Statement == nil || got.Outcome == policy.ImplicitDeny && got.Statement != nil {
		t.Fatalf("decision %+v", got)
	}
	return got.Outcome, true
}

// TestReference compares with the reference for random policies and requests, the
// same in every run.
func TestReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	n := 2_000
	if os.Getenv("KMSFS_LONG") != "" {
		n = 50_000
	}
	choices := make([]byte, 400)
	outcomes := map[policy.Outcome]int{}
	for range n {
		for i := range choices {
			choices[i] = byte(rng.Uint32())
		}
		if outcome, ok := compare(t, choices); ok {
			outcomes[outcome]++
		}
	}
	for _, o := range []policy.Outcome{policy.ImplicitDeny, policy.ExplicitDeny, policy.Allowed} {
		if outcomes[o] < n/20 {
			t.Errorf("only %d of %d requests end with %v: the test does not test much", outcomes[o], n, o)
		}
	}
	t.Log(outcomes)
}

// FuzzEvaluate lets the fuzzer make the choices.
func FuzzEvaluate(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		choices := make([]byte, rng.IntN(500))
		for i := range choices {
			choices[i] = byte(rng.Uint32())
		}
		f.Add(choices)
	}
	f.Fuzz(func(t *testing.T, choices []byte) { compare(t, choices) })
}

// marshal writes JSON anew: other spaces, other order of members, other escapes.
func marshal(t testing.TB, text string) string {
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("encoding/json refuses what Parse accepts: %v\n%q", err, text)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range string(out) {
		if c <= 0xff {
			b.WriteRune(c)
			continue
		}
		for _, u := range utf16.Encode([]rune{c}) {
			fmt.Fprintf(&b, `\u%04x`, u)
		}
	}
	return b.String()
}

// FuzzParse: Parse never panics, its faults are in the text, it accepts only JSON, and what
// it accepts means the same when it is written differently.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		consolePolicy, policy.DefaultKeyPolicy(ours), "", "{}", `{"Version": "2012-10-17", "Id": "x", "Statement": []}`,
		v2012(statement(`"Sid": "\u65e5\ud83d\ude00 é"`)),
		v2012(condition("ForAnyValue:StringLikeIfExists", "kms:EncryptionContext:path", `["/a/${aws:username}/*", 1, true, "${aws:PrincipalTag/team, 'x'}"]`)),
		v2012(statement(`"Effect": "Deny"`, `"NotPrincipal": {"AWS": "*"}`)),
		`{"Statement": {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"}}`,
		v2012(`{"Effect": "Allow", "NotAction": "kms:*", "NotResource": "arn:aws:s3:::b/${aws:username}"}`),
	} {
		for kind := range byte(3) {
			f.Add(kind, text)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, text string) {
		k := policy.Kind(kind % 3)
		d, err := policy.Parse(k, []byte(text))
		if err != nil {
			var faults policy.Faults
			if d != nil || !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("Parse: %v, %v", d, err)
			}
			lines := strings.Split(text, "\n")
			for _, f := range faults {
				if f.Line < 1 || f.Line > len(lines) || f.Column < 1 || f.Column > utf8.RuneCountInString(lines[f.Line-1])+1 || f.Message == "" {
					t.Errorf("%v is not in the text %q", f, text)
				}
			}
			return
		}
		if d.Text() != text {
			t.Fatalf("%q became %q", text, d.Text())
		}
		again := marshal(t, text)
		e, err := policy.Parse(k, []byte(again))
		if err != nil {
			t.Fatalf("%q is accepted, but not as %q: %v", text, again, err)
		}
		if !policy.Same(d, e) {
			t.Fatalf("%q and %q differ:\n%+v\n%+v", text, again, d, e)
		}
	})
}
