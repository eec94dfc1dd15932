package keysvc_test

import (
	"fmt"
	"os"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// TestActAs: items are decided for whom they name, if whoever has the
// connection may name them.
func TestActAs(t *testing.T) {
	const alice, bob, forwarder, stranger, wishful = 5001, 5002, 5003, 5004, 5005
	srv := keysvctest.NewServer(t, keysvctest.WithForwarders(forwarder, stranger))
	c := srv.Client()
	key := clientKey(t, c)
	arn := func(uid int) string { return fmt.Sprintf("arn:aws:iam::000000000000:user/local/%d", uid) }
	if err := c.PutKeyPolicy(t.Context(), key, fmt.Sprintf(`{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "kms:*", "Resource": "*"},
		{"Effect": "Allow", "Principal": {"AWS": %q}, "Action": "kms:GenerateDataKey", "Resource": "*"}]}`, arn(alice)), false); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []int{forwarder, wishful} {
		allowLocal(t, c, uid, `{"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Action": "kmsfs:ActAs", "Resource": "arn:aws:iam::000000000000:user/local/*"},
			{"Effect": "Deny", "Action": "kmsfs:ActAs", "Resource": "`+arn(bob)+`"}]}`)
	}
	for _, a := range []struct {
		who  uint32
		as   int // -1: nobody
		code string
	}{
		{0, -1, ""},
		{0, 0, ""},
		{0, alice, ""},
		{0, bob, kmsapi.CodeAccessDenied}, // he may not, though root may
		{alice, -1, ""},
		{alice, alice, ""},
		{alice, 0, kmsapi.CodeAccessDenied},
		{alice, bob, kmsapi.CodeAccessDenied},
		{bob, alice, kmsapi.CodeAccessDenied},
		{forwarder, alice, ""},
		{forwarder, -1, kmsapi.CodeAccessDenied},
		{forwarder, bob, kmsapi.CodeAccessDenied},
		{forwarder, 0, kmsapi.CodeAccessDenied},    // no user/local/*
		{stranger, alice, kmsapi.CodeAccessDenied}, // no policy lets them
		{wishful, alice, kmsapi.CodeAccessDenied},  // a policy does, and they are no forwarder
	} {
		it := kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, NumberOfBytes: 32}
		if a.as >= 0 {
			uid := uint32(a.as)
			it.ActAs = &uid
		}
		got := batchAs(t, srv, a.who, it)[0]
		if a.code == "" && got.Err != nil || a.code != "" && (got.Err == nil || got.Err.Code != a.code || got.Plaintext != nil) {
			t.Errorf("uid %d for %d: %v, want %q", a.who, a.as, got.Err, a.code)
		}
	}

	// The audit log names both.
	srv.Stop()
	forwarded := map[string]int{}
	for _, r := range records(t, auditDir(srv)) {
		if r.AdditionalEventData != nil && r.AdditionalEventData.ForwardedBy != nil {
			forwarded[r.AdditionalEventData.ForwardedBy.ARN+" for "+r.UserIdentity.ARN+" "+r.ErrorCode]++
			peer := map[string]uint32{"arn:aws:iam::000000000000:root": 0, arn(forwarder): forwarder}[r.AdditionalEventData.ForwardedBy.ARN]
			if p := r.AdditionalEventData.Peer; p == nil || p.UID != peer || p.PID != int32(os.Getpid()) {
				t.Errorf("forwarded by %s, from the process %+v", r.AdditionalEventData.ForwardedBy.ARN, p)
			}
		}
	}
	want := map[string]int{
		"arn:aws:iam::000000000000:root for " + arn(alice) + " ":                         1,
		"arn:aws:iam::000000000000:root for " + arn(bob) + " " + kmsapi.CodeAccessDenied: 1,
		arn(forwarder) + " for " + arn(alice) + " ":                                      1,
	}
	if fmt.Sprint(forwarded) != fmt.Sprint(want) {
		t.Errorf("recorded as forwarded:\n%v\nwant\n%v", forwarded, want)
	}
}

// allowLocal gives a user of the machine an identity policy.
func allowLocal(t *testing.T, c *kmsclient.Client, uid int, document string) {
	t.Helper()
	err := c.Identity("").PutInline(t.Context(), kmsapi.KindUser, fmt.Sprint(uid), "test", document)
	if err != nil {
		t.Fatal(err)
	}
}
