package keysvc_test

import (
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// TestConditionsOnTheNetwork: what a policy can tell about where a request comes
// from, with TLS, without and on the unix socket.
func TestConditionsOnTheNetwork(t *testing.T) {
	const (
		tls = iota
		plain
		socket
	)
	conditions := map[string][3]bool{
		`"Bool": {"aws:SecureTransport": "true"}`:                  {true, false, true},
		`"Bool": {"aws:SecureTransport": "false"}`:                 {false, true, false},
		`"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}`:             {true, true, false},
		`"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}`:          {false, false, true},
		`"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}`:              {false, false, false},
		`"StringLike": {"aws:UserAgent": "aws-sdk-go-v2/*"}`:       {true, true, true},
		`"StringEquals": {"aws:PrincipalType": "User"}`:            {true, true, true},
		`"Null": {"aws:userid": "false"}`:                          {true, true, true},
		`"StringEquals": {"aws:PrincipalAccount": "` + home + `"}`: {true, true, true},
	}
	for where, o := range map[int]keysvc.RemoteOptions{tls: loopback, plain: {Address: "localhost:0", InsecureHTTP: true}} {
		srv, alice := remoteServer(t, o)
		root := sdk(srv)
		key := newKey(t, root)
		clients := map[int]*kms.Client{where: remoteKMS(srv, srv.RemoteHTTPClient(), alice)}
		if where == tls {
			clients[socket] = sdkAs(srv, otherUID)
		}
		for condition, want := range conditions {
			policy := statements(`{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::000000000000:user/alice", "arn:aws:iam::000000000000:user/local/54321"]},
				"Action": "kms:DescribeKey", "Resource": "*", "Condition": {` + condition + `}}`)
			if _, err := root.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &key, Policy: &policy}); err != nil {
				t.Fatal(err)
			}
			for at, c := range clients {
				_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &key})
				if err == nil != want[at] {
					t.Errorf("%s, connection %d: %v", condition, at, err)
				}
				if err != nil {
					refused(t, err, "AccessDeniedException")
				}
			}
		}
	}
}

// TestViaService: the key of EBS is for those for whom EC2 asks, in its account.
func TestViaService(t *testing.T) {
	srv := keysvctest.NewServer(t)
	s := &stage{T: t, srv: srv}
	caller, err := srv.Service.HireUser(home, "/", "alice")
	if err != nil {
		t.Fatal(err)
	}
	use := func(via string) error {
		asked := caller
		asked.ViaService = via
		c := s.client(asked)
		_, err := c.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String("alias/aws/ebs"), KeySpec: types.DataKeySpecAes256})
		return err
	}
	if err := use("ec2.us-east-1.amazonaws.com"); err != nil {
		t.Error(err)
	}
	for _, via := range []string{"", "ec2.eu-west-1.amazonaws.com", "s3.us-east-1.amazonaws.com"} {
		refused(t, use(via), "AccessDeniedException")
	}
}

// TestConditionsOnTheRequest: what a request is like, by all names that this has, and
// what it lacks.
func TestConditionsOnTheRequest(t *testing.T) {
	s := newStage(t, nil)
	if err := createAlias(t, s.clients["root"], "alias/a", s.key); err != nil {
		t.Fatal(err)
	}
	for condition, says := range map[string][]sentence{
		`"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:CustomerMasterKeySpec": "SYMMETRIC_DEFAULT"}`: {allow("alice", "Encrypt"), allow("alice", "DescribeKey")},
		`"StringEquals": {"kms:KeyUsage": "ENCRYPT_DECRYPT", "kms:CustomerMasterKeyUsage": "ENCRYPT_DECRYPT"}`:   {allow("alice", "Encrypt"), allow("alice", "DescribeKey")},
		`"Null": {"kms:RequestAlias": "true"}`: {allow("alice", "DescribeKey"), deny("alice", "DescribeKey by alias/a")},
		`"NumericGreaterThan": {"aws:EpochTime": "1700000000"}, "NumericLessThan": {"aws:EpochTime": "4000000000"}`: {allow("alice", "Encrypt")},
		`"DateGreaterThan": {"aws:CurrentTime": "2024-01-01"}, "DateLessThan": {"aws:CurrentTime": "2096-01-01"}`:   {allow("alice", "Encrypt")},
	} {
		s.put(statements(`{` + toAlice + `, "Action": "kms:*", "Condition": {` + condition + `}}`))
		s.check(says...)
	}
}

// TestSourceIPIsPlain: an address has one spelling, and no zone.
func TestSourceIPIsPlain(t *testing.T) {
	s := newStage(t, nil)
	caller, err := s.srv.Service.HireUser(home, "/", "alice")
	if err != nil {
		t.Fatal(err)
	}
	for addr, plain := range map[string]string{"fe80::1%eth0": "fe80::1", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:0:0::1": "2001:db8::1"} {
		caller.Remote = &keysvc.Remote{Addr: netip.MustParseAddr(addr)}
		s.clients["alice"] = s.client(caller)
		s.put(statements(`{` + toAlice + `, "Action": "kms:Encrypt", "Condition": {"StringEquals": {"aws:SourceIp": "` + plain + `"}}}`))
		s.check(allow("alice", "Encrypt"))
	}
}

// TestBatchHasNoUserAgent: a key that is not there is missing, and not empty.
func TestBatchHasNoUserAgent(t *testing.T) {
	srv := keysvctest.NewServer(t)
	c := srv.Client()
	key := clientKey(t, c)
	if err := c.PutKeyPolicy(t.Context(), key, statements(`{"Effect": "Allow", "Principal": {"AWS": "`+localUser(otherUID)+`"},
		"Action": "kms:GenerateDataKey", "Resource": "*", "Condition": {"Null": {"aws:UserAgent": "true"}}}`), false); err != nil {
		t.Fatal(err)
	}
	got := batchAs(t, srv, otherUID, kmsapi.BatchItem{Op: kmsapi.OpGenerateDataKey, KeyID: key, NumberOfBytes: 32})[0]
	if got.Err != nil {
		t.Error(got.Err)
	}
	_, err := sdkAs(srv, otherUID).GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256})
	refused(t, err, "AccessDeniedException")
}

// TestTagsOfTheKeyAreSeenByBoundaries, also of who has no other identity policy.
func TestTagsOfTheKeyAreSeenByBoundaries(t *testing.T) {
	s := newStage(t, nil)
	sessions, err := s.srv.Service.HireRole(home, "bounded",
		identityPolicy(`{"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/team": "a"}}}`), "one")
	if err != nil {
		t.Fatal(err)
	}
	s.clients["bounded/one"] = s.client(sessions[0])
	s.put(statements(`{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::` + home + `:role/bounded"}, "Action": "kms:Encrypt", "Resource": "*"}`))
	s.check(deny("bounded/one", "Encrypt"), allow("root", "TagResource", "team=a"), allow("bounded/one", "Encrypt"))
}
