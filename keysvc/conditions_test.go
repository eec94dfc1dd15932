package keysvc_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
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
