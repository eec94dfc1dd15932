package keysvc_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"kmsfs.dev/kmsfs/keysvc"
	"kmsfs.dev/kmsfs/keysvc/keysvctest"
)

const (
	home    = "000000000000" // the account of the key
	foreign = "111122223333"
)

// sentence says who may or may not do what with the key.
type sentence struct {
	allowed bool
	who     string // root, alice, bob, or stranger from another account
	action  string
	context string // of encryption: "name=value name=value"
}

func allow(who, action string, context ...string) sentence {
	return sentence{true, who, action, strings.Join(context, " ")}
}

func deny(who, action string, context ...string) sentence {
	return sentence{false, who, action, strings.Join(context, " ")}
}

func (s sentence) String() string {
	verb := "deny"
	if s.allowed {
		verb = "allow"
	}
	return strings.TrimSpace(strings.Join([]string{verb, s.who, s.action, s.context}, " "))
}

func (s sentence) pairs() map[string]string {
	if s.context == "" {
		return nil
	}
	out := map[string]string{}
	for _, pair := range strings.Split(s.context, " ") {
		name, value, _ := strings.Cut(pair, "=")
		out[name] = value
	}
	return out
}

// stage is a service with a key and those who want to use it.
type stage struct {
	*testing.T
	srv     *keysvctest.Server
	key     string // the ARN
	clients map[string]*kms.Client
}

func newStage(t *testing.T, policies map[string]string) *stage {
	s := &stage{T: t, srv: keysvctest.NewServer(t), clients: map[string]*kms.Client{}}
	s.clients["root"] = sdk(s.srv)
	for _, name := range []string{"alice", "bob", "stranger"} {
		account := home
		if name == "stranger" {
			account = foreign
		}
		var texts []string
		if text := policies[name]; text != "" {
			texts = append(texts, text)
		}
		s.hire(account, name, texts...)
	}
	s.clients["stranger's root"] = s.client(keysvc.RootOf(foreign))
	s.key = arnPrefix + "key/" + newKey(t, s.clients["root"])
	return s
}

// hire makes an IAM user, or another one of the same name.
func (s *stage) hire(account, name string, policies ...string) {
	s.Helper()
	caller, err := s.srv.Service.HireUser(account, "/", name, policies...)
	if err != nil {
		s.Fatal(err)
	}
	s.clients[name] = s.client(caller)
}

// attach makes one of this account's users again, with a policy of statements in
// which KEY is the key's ARN.
func (s *stage) attach(name string, list ...string) {
	s.Helper()
	s.hire(home, name, strings.ReplaceAll(identityPolicy(list...), "KEY", s.key))
}

func (s *stage) client(caller keysvc.Caller) *kms.Client {
	return kms.New(kms.Options{
		Region:           "us-east-1",
		BaseEndpoint:     aws.String("http://kmsfs.test"),
		Credentials:      credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
		HTTPClient:       &http.Client{Transport: inProcess{s.srv.Service.HandlerFor(caller)}},
		RetryMaxAttempts: 1,
	})
}

// inProcess sends requests to a handler.
type inProcess struct{ http.Handler }

func (h inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

// statements is a key policy: those given, and one that lets the root user make
// things ready.
func statements(list ...string) string {
	list = append(list, `{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*",
		"Condition": {"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::000000000000:root"}}}`)
	return `{"Version": "2012-10-17", "Statement": [` + strings.Join(list, ", ") + `]}`
}

func identityPolicy(list ...string) string {
	return `{"Version": "2012-10-17", "Statement": [` + strings.Join(list, ", ") + `]}`
}

func (s *stage) put(text string) {
	s.Helper()
	_, err := s.clients["root"].PutKeyPolicy(s.Context(), &kms.PutKeyPolicyInput{KeyId: &s.key, Policy: &text})
	if err != nil {
		s.Fatalf("put %s: %v", text, err)
	}
}

// check says each sentence to the service.
func (s *stage) check(list ...sentence) {
	s.Helper()
	for _, x := range list {
		err := s.do(x)
		switch {
		case x.allowed && err != nil:
			s.Errorf("%s: %v", x, err)
		case !x.allowed && err == nil:
			s.Errorf("%s: it was allowed", x)
		case !x.allowed:
			refused(s.T, err, "AccessDeniedException")
		}
	}
}

func (s *stage) do(x sentence) error {
	c, ctx, key := s.clients[x.who], s.Context(), &s.key
	if c == nil {
		s.Fatalf("who is %s?", x.who)
	}
	var err error
	switch x.action {
	case "Encrypt":
		_, err = c.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("p"), EncryptionContext: x.pairs()})
	case "GenerateDataKey":
		_, err = c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256, EncryptionContext: x.pairs()})
	case "GenerateDataKeyWithoutPlaintext":
		_, err = c.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: key, KeySpec: types.DataKeySpecAes256, EncryptionContext: x.pairs()})
	case "Decrypt":
		_, err = c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: s.blob(x), EncryptionContext: x.pairs()})
	case "ReEncrypt":
		_, err = c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: s.blob(x), SourceEncryptionContext: x.pairs(), DestinationKeyId: key,
			DestinationEncryptionContext: map[string]string{"path": "/moved"}})
	case "DescribeKey":
		_, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key})
	case "GetKeyPolicy":
		_, err = c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: key})
	case "GetKeyRotationStatus":
		_, err = c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: key})
	case "ListKeyPolicies":
		_, err = c.ListKeyPolicies(ctx, &kms.ListKeyPoliciesInput{KeyId: key})
	case "ListResourceTags":
		_, err = c.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: key})
	case "ListKeys":
		_, err = c.ListKeys(ctx, &kms.ListKeysInput{})
	case "ListAliases":
		_, err = c.ListAliases(ctx, &kms.ListAliasesInput{})
	case "CreateAlias":
		_, err = c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(x.context), TargetKeyId: key})
	case "DisableKey": // and again as it was
		if _, err = c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key}); err == nil {
			_, err = s.clients["root"].EnableKey(ctx, &kms.EnableKeyInput{KeyId: key})
		}
	case "ListAliases of the key":
		_, err = c.ListAliases(ctx, &kms.ListAliasesInput{KeyId: key})
	case "EnableKey":
		_, err = c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key})
	case "TagResource":
		_, err = c.TagResource(ctx, &kms.TagResourceInput{KeyId: key, Tags: sdkTags(x.pairs())})
	case "UntagResource":
		names := []string{}
		for name := range x.pairs() {
			names = append(names, name)
		}
		_, err = c.UntagResource(ctx, &kms.UntagResourceInput{KeyId: key, TagKeys: names})
	case "CreateKey":
		_, err = c.CreateKey(ctx, &kms.CreateKeyInput{Tags: sdkTags(x.pairs())})
	case "ScheduleKeyDeletion": // in a dry run of sorts: the key is saved again
		var days int32
		if _, err := fmt.Sscanf(x.context, "days=%d", &days); err != nil {
			s.Fatal(err)
		}
		if _, err = c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key, PendingWindowInDays: &days}); err == nil {
			root := s.clients["root"]
			if _, err := root.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: key}); err != nil {
				s.Fatal(err)
			}
			_, err = root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key})
		}
	case "EnableKeyRotation":
		var days int32
		if _, err := fmt.Sscanf(x.context, "days=%d", &days); err != nil {
			s.Fatal(err)
		}
		_, err = c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: key, RotationPeriodInDays: &days})
	case "DescribeKey by alias/a":
		_, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(arnPrefix + "alias/a")})
	default:
		s.Fatalf("how does one %s?", x.action)
	}
	return err
}

// blob is made by the root user, whom every policy here lets in.
func (s *stage) blob(x sentence) []byte {
	s.Helper()
	out, err := s.clients["root"].Encrypt(s.Context(), &kms.EncryptInput{KeyId: &s.key, Plaintext: []byte("p"), EncryptionContext: x.pairs()})
	if err != nil {
		s.Fatal(err)
	}
	return out.CiphertextBlob
}

func sdkTags(pairs map[string]string) []types.Tag {
	tags := []types.Tag{}
	for name, value := range pairs {
		tags = append(tags, types.Tag{TagKey: aws.String(name), TagValue: aws.String(value)})
	}
	return tags
}

const (
	toAlice    = `"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/alice"}, "Resource": "*"`
	toAccount  = `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "kms:*", "Resource": "*"}`
	toStranger = `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"}`
	anything   = `{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}`
)

// TestAuthorization reads as who may do what under which policies.
func TestAuthorization(t *testing.T) {
	for name, tt := range map[string]struct {
		policy   string // of the key; "" is the default one
		identity map[string]string
		says     []sentence
	}{
		"the default key policy leaves it to the account": {
			identity: map[string]string{"alice": identityPolicy(anything), "stranger": identityPolicy(anything)},
			says: []sentence{
				allow("root", "Encrypt"), allow("root", "GetKeyPolicy"),
				allow("alice", "Encrypt"), allow("alice", "Decrypt", "path=/a"), allow("alice", "EnableKey"),
				deny("bob", "Encrypt"), deny("bob", "DescribeKey"),
				deny("stranger", "Encrypt"), deny("stranger", "DescribeKey"), deny("stranger's root", "Decrypt"),
			},
		},
		"without delegation identity policies allow nothing": {
			policy:   statements(`{` + toAlice + `, "Action": "kms:Encrypt"}`),
			identity: map[string]string{"alice": identityPolicy(anything), "bob": identityPolicy(anything)},
			says:     []sentence{allow("alice", "Encrypt"), deny("alice", "Decrypt"), deny("bob", "Encrypt")},
		},
		"a key policy alone is enough, action by action": {
			policy: statements(`{` + toAlice + `, "Action": ["kms:Encrypt", "kms:GenerateDataKey*", "kms:Describe*"]}`),
			says: []sentence{
				allow("alice", "Encrypt"), allow("alice", "GenerateDataKey"), allow("alice", "GenerateDataKeyWithoutPlaintext"), allow("alice", "DescribeKey"),
				deny("alice", "Decrypt"), deny("alice", "ReEncrypt"), deny("alice", "GetKeyPolicy"), deny("alice", "CreateKey"), deny("bob", "DescribeKey"),
			},
		},
		"the encryption context decides": {
			policy: statements(`{` + toAlice + `, "Action": "kms:*", "Condition": {"StringLike": {"kms:EncryptionContext:kmsfs:path": "/public/*"}}}`),
			says: []sentence{
				allow("alice", "GenerateDataKey", "kmsfs:path=/public/a"), allow("alice", "Decrypt", "kmsfs:path=/public/deep/a"),
				allow("alice", "Decrypt", "kmsfs:path=/public/a", "kmsfs:volume=vol-1"),
				deny("alice", "GenerateDataKey", "kmsfs:path=/secret/a"), deny("alice", "Decrypt", "kmsfs:path=/public"),
				deny("alice", "Decrypt", "kmsfs:path=/Public/a"), deny("alice", "Decrypt"), deny("alice", "DescribeKey"),
				deny("alice", "ReEncrypt", "kmsfs:path=/public/a"), // its destination has another context
				deny("alice", "Encrypt", "path=/public/a"),
			},
		},
		"the names in the context decide": {
			policy: statements(`{` + toAlice + `, "Action": "kms:Encrypt", "Condition": {"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["a", "b"]}, "Null": {"kms:EncryptionContextKeys": "false"}}}`),
			says: []sentence{
				allow("alice", "Encrypt", "a=1"), allow("alice", "Encrypt", "a=1", "b=2"),
				deny("alice", "Encrypt", "a=1", "c=3"), deny("alice", "Encrypt", "A=1"), deny("alice", "Encrypt"),
			},
		},
		"ReEncrypt is two permissions": {
			policy: statements(`{` + toAlice + `, "Action": "kms:ReEncryptFrom"}`),
			says:   []sentence{deny("alice", "ReEncrypt")},
		},
		"ReEncrypt on the same key": {
			policy: statements(`{` + toAlice + `, "Action": "kms:ReEncrypt*", "Condition": {"Bool": {"kms:ReEncryptOnSameKey": "true"}}}`),
			says:   []sentence{allow("alice", "ReEncrypt", "a=1")},
		},
		"ReEncrypt to other keys only": {
			policy: statements(`{` + toAlice + `, "Action": "kms:ReEncrypt*", "Condition": {"Bool": {"kms:ReEncryptOnSameKey": "false"}}}`),
			says:   []sentence{deny("alice", "ReEncrypt", "a=1")},
		},
		"an explicit deny wins, also over the root user": {
			policy: statements(toAccount, `{`+toAlice+`, "Action": "kms:*"}`,
				`{"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"StringEquals": {"kms:EncryptionContext:path": "/x"}}}`),
			says: []sentence{allow("alice", "Decrypt", "path=/y"), deny("alice", "Decrypt", "path=/x"), deny("root", "Decrypt", "path=/x"), allow("root", "Decrypt")},
		},
		"an identity policy can deny what the key policy allows": {
			policy:   statements(`{` + toAlice + `, "Action": "kms:*"}`),
			identity: map[string]string{"alice": identityPolicy(`{"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}`)},
			says:     []sentence{allow("alice", "Encrypt"), deny("alice", "Decrypt")},
		},
		"NotAction and NotPrincipal": {
			policy: statements(`{`+toAlice+`, "NotAction": ["kms:Decrypt", "kms:ReEncrypt*"]}`,
				`{"Effect": "Deny", "NotPrincipal": {"AWS": ["arn:aws:iam::000000000000:user/alice", "arn:aws:iam::000000000000:root"]}, "Action": "kms:Encrypt", "Resource": "*"}`),
			says: []sentence{allow("alice", "Encrypt"), deny("alice", "Decrypt"), deny("bob", "Encrypt"), allow("root", "Encrypt")},
		},
		"a statement without Action or Resource does nothing": {
			policy: statements(`{"Effect": "Allow", "Principal": "*", "Resource": "*"}`, `{"Effect": "Allow", "Principal": "*", "Action": "kms:*"}`),
			says:   []sentence{deny("alice", "Encrypt"), deny("stranger", "Encrypt")},
		},
		"another account needs both sides": {
			policy:   statements(toStranger),
			identity: map[string]string{"stranger": identityPolicy(`{"Effect": "Allow", "Action": "kms:*", "Resource": "arn:aws:kms:*:000000000000:key/*"}`)},
			says: []sentence{
				allow("stranger", "Encrypt"), allow("stranger", "Decrypt"), allow("stranger", "DescribeKey"), allow("stranger", "GetKeyRotationStatus"),
				allow("stranger's root", "Encrypt"),
				// These stay within the account, whatever the policies say.
				deny("stranger", "GetKeyPolicy"), deny("stranger", "EnableKey"), deny("stranger's root", "EnableKey"), deny("stranger", "TagResource", "a=b"),
				deny("stranger's root", "ListAliases of the key"),
				deny("alice", "Encrypt"),
			},
		},
		"another account, and nothing on its own side": {
			policy: statements(toStranger, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/stranger"}, "Action": "kms:*", "Resource": "*"}`),
			says:   []sentence{deny("stranger", "Encrypt"), deny("stranger", "DescribeKey")},
		},
		"everybody, within the account only": {
			policy: statements(`{"Effect": "Allow", "Principal": "*", "Action": "kms:Encrypt", "Resource": "*", "Condition": {"StringEquals": {"kms:CallerAccount": "000000000000"}}}`),
			says:   []sentence{allow("alice", "Encrypt"), allow("bob", "Encrypt"), deny("stranger's root", "Encrypt")},
		},
		"the caller's name in a policy variable": {
			policy: statements(`{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*", "Condition": {"StringLike": {"kms:EncryptionContext:path": "/home/${aws:username}/*"}}}`),
			says: []sentence{
				allow("alice", "Decrypt", "path=/home/alice/x"), deny("alice", "Decrypt", "path=/home/bob/x"),
				allow("bob", "Decrypt", "path=/home/bob/x"), deny("bob", "Decrypt", "path=/home//x"),
			},
		},
		"days": {
			policy: statements(
				`{`+toAlice+`, "Action": "kms:ScheduleKeyDeletion", "Condition": {"NumericGreaterThanEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": "20"}}}`,
				`{`+toAlice+`, "Action": "kms:EnableKeyRotation", "Condition": {"NumericLessThan": {"kms:RotationPeriodInDays": "181"}}}`),
			says: []sentence{
				allow("alice", "ScheduleKeyDeletion", "days=20"), deny("alice", "ScheduleKeyDeletion", "days=19"),
				allow("alice", "EnableKeyRotation", "days=180"), deny("alice", "EnableKeyRotation", "days=181"),
			},
		},
		"tags of the request": {
			policy: statements(`{`+toAlice+`, "Action": ["kms:TagResource", "kms:UntagResource"], "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}, "Null": {"aws:TagKeys": "false"}}}`,
				`{"Effect": "Deny", "Principal": "*", "Action": "kms:TagResource", "Resource": "*", "Condition": {"StringEquals": {"aws:RequestTag/team": "root"}}}`),
			identity: map[string]string{"alice": identityPolicy(`{"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*", "Condition": {"StringEquals": {"aws:RequestTag/team": "a"}}}`,
				`{"Effect": "Allow", "Action": "kms:TagResource", "Resource": "arn:aws:kms:*:000000000000:key/*", "Condition": {"StringEquals": {"kms:CallerAccount": "000000000000"}}}`)},
			says: []sentence{
				allow("alice", "TagResource", "team=a"), deny("alice", "TagResource", "team=root"), deny("alice", "TagResource", "team=a", "env=x"),
				allow("alice", "UntagResource", "team=a"), deny("alice", "UntagResource", "env=x"),
				allow("alice", "CreateKey", "team=a"), deny("alice", "CreateKey", "team=b"), deny("alice", "CreateKey"),
			},
		},
		"what the key is like": {
			policy: statements(`{` + toAlice + `, "Action": "kms:*", "Condition": {"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:KeyUsage": "ENCRYPT_DECRYPT",
				"kms:KeyOrigin": "AWS_KMS", "kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "aws:ResourceAccount": "000000000000", "aws:RequestedRegion": "us-east-1"},
				"Bool": {"kms:MultiRegion": "false", "aws:SecureTransport": "true", "aws:ViaAWSService": "false"}, "Null": {"kms:ViaService": "true", "aws:SourceIp": "true"},
				"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}, "NumericGreaterThan": {"aws:EpochTime": "1700000000"}}}`),
			says: []sentence{allow("alice", "Encrypt"), allow("alice", "Decrypt"), allow("alice", "GenerateDataKey"), deny("alice", "DescribeKey")},
		},
		"another service is no way in": {
			policy: statements(`{` + toAlice + `, "Action": "kms:*", "Condition": {"StringEquals": {"kms:ViaService": "ec2.us-east-1.amazonaws.com"}}}`),
			says:   []sentence{deny("alice", "Encrypt")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, tt.identity)
			if tt.policy != "" {
				s.put(tt.policy)
			}
			s.check(tt.says...)
		})
	}
}

// TestDenials say what is missing, or what forbids it, and on which resource: * for an
// action that is on none.
func TestDenials(t *testing.T) {
	s := newStage(t, nil)
	alice := s.clients["alice"]
	_, list := alice.ListKeys(t.Context(), &kms.ListKeysInput{})
	_, create := alice.CreateKey(t.Context(), &kms.CreateKeyInput{})
	_, describe := alice.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &s.key})
	for _, c := range []struct {
		err              error
		action, resource string
	}{
		{list, "kms:ListKeys", "*"},
		{create, "kms:CreateKey", "*"},
		{describe, "kms:DescribeKey", s.key},
	} {
		says(t, c.err, "AccessDeniedException", "User: "+aliceARN+" is not authorized to perform: "+c.action+" on resource: "+c.resource+
			" because no identity-based policy allows the "+c.action+" action")
	}
	for text, why := range map[string]string{
		statements(): " because no resource-based policy allows the kms:DescribeKey action",
		statements(`{"Effect": "Deny", "Principal": "*", "Action": "kms:DescribeKey", "Resource": "*"}`): " with an explicit deny in a resource-based policy",
	} {
		s.put(text)
		_, err := alice.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &s.key})
		says(t, err, "AccessDeniedException", "User: "+aliceARN+" is not authorized to perform: kms:DescribeKey on resource: "+s.key+why)
	}
}

// TestSessionTags: a session has tags of its own, whatever its role has.
func TestSessionTags(t *testing.T) {
	s := newStage(t, nil)
	sessions, err := s.srv.Service.HireRole(home, "role", "", "tagged", "plain")
	if err != nil {
		t.Fatal(err)
	}
	sessions[0].Tags = map[string]string{"team": "a"}
	s.clients["tagged"], s.clients["plain"] = s.client(sessions[0]), s.client(sessions[1])
	s.put(statements(`{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::` + home + `:role/role"}, "Action": "kms:Encrypt", "Resource": "*",
		"Condition": {"StringEquals": {"aws:PrincipalTag/team": "a"}}}`))
	s.check(allow("tagged", "Encrypt"), deny("plain", "Encrypt"))
}
