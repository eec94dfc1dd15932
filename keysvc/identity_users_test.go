package keysvc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

const (
	user        = kmsapi.KindUser
	role        = kmsapi.KindRole
	hereARN     = "arn:aws:iam::000000000000:"
	localName   = "54321" // otherUID
	allowRandom = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*"}}`
	allowList   = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}}`
	trustRoot   = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"sts:AssumeRole"}}`
)

// mustNot checks the code of a refusal, and its message if one is given.
func mustNot(t *testing.T, err error, code, message string) {
	t.Helper()
	var e *kmsapi.Error
	if !errors.As(err, &e) || e.Code != code || message != "" && e.Message != message {
		t.Errorf("the answer is %v, not %s: %s", err, code, message)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newUser(t *testing.T, i kmsclient.Identity, name string) *kmsapi.User {
	t.Helper()
	out, err := i.CreateUser(t.Context(), &kmsapi.CreateUserInput{UserName: name})
	must(t, err)
	return out.User
}

func newManaged(t *testing.T, i kmsclient.Identity, name, text string) (arn string) {
	t.Helper()
	out, err := i.CreatePolicy(t.Context(), &kmsapi.CreatePolicyInput{PolicyName: name, PolicyDocument: text})
	must(t, err)
	return out.Policy.Arn
}

func newAccessKey(t *testing.T, i kmsclient.Identity, name string) aws.Credentials {
	t.Helper()
	out, err := i.CreateAccessKey(t.Context(), name)
	must(t, err)
	return aws.Credentials{AccessKeyID: out.AccessKey.AccessKeyID, SecretAccessKey: string(out.AccessKey.SecretAccessKey)}
}

// random is the error of an action that needs a policy of the caller's.
func random(t *testing.T, c *kms.Client) error {
	t.Helper()
	_, err := c.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
	return err
}

func TestPoliciesCountAtOnce(t *testing.T) {
	srv := keysvctest.NewServer(t)
	i, ctx := srv.Client().Identity(""), t.Context()
	c := sdkAs(srv, otherUID) // one connection, which is older than what follows
	allowed := func(what string) {
		t.Helper()
		if err := random(t, c); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	denied := func(what, why string) {
		t.Helper()
		err := random(t, c)
		refused(t, err, "AccessDeniedException")
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v does not say %q", what, err, why)
		}
	}
	denied("without a policy", "no identity-based policy allows")
	must(t, i.PutInline(ctx, user, localName, "p", allowRandom))
	allowed("with an inline policy")
	must(t, i.PutInline(ctx, user, localName, "p", allowList))
	denied("with another inline policy", "no identity-based policy allows")

	arn := newManaged(t, i, "p", allowRandom)
	must(t, i.Attach(ctx, user, localName, arn))
	allowed("with a managed policy")
	_, err := i.CreatePolicyVersion(ctx, arn, strings.Replace(allowRandom, "Allow", "Deny", 1))
	must(t, err)
	denied("with a version that denies", "explicit deny in an identity-based policy")
	must(t, i.SetDefaultPolicyVersion(ctx, arn, "v1"))
	allowed("with the first version again")

	boundary := newManaged(t, i, "boundary", allowList)
	must(t, i.SetBoundary(ctx, user, localName, boundary))
	denied("outside of the boundary", "no permissions boundary allows")
	must(t, i.SetBoundary(ctx, user, localName, arn))
	allowed("within a boundary")
	must(t, i.SetBoundary(ctx, user, localName, ""))
	must(t, i.Detach(ctx, user, localName, arn))
	denied("without the managed policy", "no identity-based policy allows")

	must(t, i.PutInline(ctx, user, localName, "p",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"red"}}}}`))
	denied("without the tag", "no identity-based policy allows")
	must(t, i.Tag(ctx, user, localName, []kmsapi.EntityTag{{TagKey: "Team", TagValue: "red"}}))
	allowed("with the tag")
	must(t, i.Tag(ctx, user, localName, []kmsapi.EntityTag{{TagKey: "team", TagValue: "blue"}}))
	denied("with another value", "no identity-based policy allows")
	must(t, i.Untag(ctx, user, localName, []string{"TEAM"}))
	denied("without it again", "no identity-based policy allows")
}

// TestRecreatedUsersInheritNothing: neither what a key policy gave the user of old,
// nor its policies, nor its access key.
func TestRecreatedUsersInheritNothing(t *testing.T) {
	srv := keysvctest.NewServer(t, keysvctest.WithRemote(loopback))
	i, ctx, root := srv.Client().Identity(""), t.Context(), sdk(srv)
	first := newUser(t, i, "alice")
	old := newAccessKey(t, i, "alice")
	must(t, i.PutInline(ctx, user, "alice", "p", allowRandom))
	id := newKey(t, root)
	_, err := root.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &id, Policy: aws.String(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"` + hereARN + `user/alice"},"Action":"kms:DescribeKey","Resource":"*"}]}`)})
	must(t, err)
	describe := func(who aws.Credentials) error {
		_, err := remoteKMS(srv, srv.RemoteHTTPClient(), who).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
		return err
	}
	must(t, describe(old))
	must(t, random(t, remoteKMS(srv, srv.RemoteHTTPClient(), old)))

	must(t, i.DeleteAccessKey(ctx, "alice", old.AccessKeyID))
	must(t, i.DeleteInline(ctx, user, "alice", "p"))
	must(t, i.Delete(ctx, user, "alice"))
	again := newUser(t, i, "alice")
	if again.Arn != first.Arn || again.UserID == first.UserID {
		t.Errorf("%s with id %s, and then %s with %s", first.Arn, first.UserID, again.Arn, again.UserID)
	}
	fresh := newAccessKey(t, i, "alice")
	for range 2 { // and after a restart
		refused(t, describe(old), "UnrecognizedClientException")
		refused(t, describe(fresh), "AccessDeniedException")
		refused(t, random(t, remoteKMS(srv, srv.RemoteHTTPClient(), fresh)), "AccessDeniedException")
		srv.Stop()
		srv.Start()
	}
}

func TestAccessKeysAreSwitchedOff(t *testing.T) {
	srv := keysvctest.NewServer(t, keysvctest.WithRemote(loopback))
	i, ctx := srv.Client().Identity(""), t.Context()
	newUser(t, i, "alice")
	must(t, i.PutInline(ctx, user, "alice", "p", allowRandom))
	key := newAccessKey(t, i, "alice")
	c := remoteKMS(srv, srv.RemoteHTTPClient(), key)
	must(t, random(t, c))
	must(t, i.UpdateAccessKey(ctx, "alice", key.AccessKeyID, kmsapi.AccessKeyInactive))
	refused(t, random(t, c), "UnrecognizedClientException")
	must(t, i.UpdateAccessKey(ctx, "alice", key.AccessKeyID, kmsapi.AccessKeyActive))
	must(t, random(t, c))
	newUser(t, i, "bob")
	mustNot(t, i.UpdateAccessKey(ctx, "bob", key.AccessKeyID, kmsapi.AccessKeyInactive), kmsapi.CodeNoSuchEntity,
		"The Access Key with id "+key.AccessKeyID+" cannot be found.")
	mustNot(t, i.DeleteAccessKey(ctx, "bob", key.AccessKeyID), kmsapi.CodeNoSuchEntity, "")
	must(t, i.DeleteAccessKey(ctx, "alice", key.AccessKeyID))
	refused(t, random(t, c), "UnrecognizedClientException")
}

// askIdentity sends an action on identities as a user of this machine, or to
// somewhere else.
func askIdentity(t *testing.T, c *http.Client, url, account, op string, in any) (status int, answer string) {
	t.Helper()
	body, err := json.Marshal(in)
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	must(t, err)
	req.Header.Set("X-Amz-Target", kmsapi.IdentityTargetPrefix+op)
	if account != "" {
		req.Header.Set(kmsapi.AccountHeader, account)
	}
	resp, err := c.Do(req)
	must(t, err)
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(out)
}

func TestWhoManagesIdentities(t *testing.T) {
	srv := keysvctest.NewServer(t, keysvctest.WithRemote(loopback))
	i, ctx := srv.Client().Identity(""), t.Context()
	newUser(t, i, "alice")
	other := srv.HTTPClient(otherUID)
	ask := func(account, op string, in any) (int, string) {
		t.Helper()
		return askIdentity(t, other, "http://kmsfs"+kmsapi.IdentityPath, account, op, in)
	}
	denied := func(op, resource string, in any) {
		t.Helper()
		status, answer := ask("", op, in)
		want := fmt.Sprintf(`{"__type":"AccessDeniedException","message":"User: %suser/local/54321 is not authorized to perform: iam:%s on resource: %s%s because no identity-based policy allows the iam:%s action"}`,
			hereARN, op, hereARN, resource, op)
		if status != 400 || answer != want {
			t.Errorf("%s: %d %s\nnot %s", op, status, answer, want)
		}
	}
	named := func(name string) kmsapi.EntityInput { return kmsapi.EntityInput{EntityName: kmsapi.NameOf(user, name)} }
	denied("CreateUser", "user/team/bob", kmsapi.CreateUserInput{UserName: "bob", Path: aws.String("/team/")})
	denied("GetUser", "user/alice", named("alice"))
	denied("GetUser", "user/nobody", named("nobody")) // nothing is told of who exists
	denied("DeleteUser", "user/nobody", named("nobody"))
	denied("ListUsers", "user/", kmsapi.ListEntitiesInput{})
	denied("CreateAccessKey", "user/local/54321", kmsapi.AccessKeyInput{})
	denied("CreateAccessKey", "user/alice", kmsapi.AccessKeyInput{UserName: "alice"})
	denied("CreatePolicy", "policy/p", kmsapi.CreatePolicyInput{PolicyName: "p", PolicyDocument: allowList})
	denied("DeletePolicy", "policy/p", kmsapi.PolicyArnInput{PolicyArn: hereARN + "policy/p"})

	must(t, i.PutInline(ctx, user, localName, "p", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["iam:CreateUser","iam:GetUser"],"Resource":"`+hereARN+`user/team/*"},
		{"Effect":"Allow","Action":"iam:AttachUserPolicy","Resource":"*","Condition":{"ArnLike":{"iam:PolicyARN":"`+hereARN+`policy/safe"}}},
		{"Effect":"Allow","Action":"iam:TagUser","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":"x"},"StringEquals":{"aws:ResourceTag/x":"1"}}},
		{"Effect":"Allow","Action":"iam:*AccessKey*","Resource":"`+hereARN+`user/local/${aws:username}"}]}`))
	allowed := func(op string, in any) {
		t.Helper()
		if status, answer := ask("", op, in); status != 200 {
			t.Errorf("%s: %d %s", op, status, answer)
		}
	}
	allowed("CreateUser", kmsapi.CreateUserInput{UserName: "bob", Path: aws.String("/team/"), Tags: []kmsapi.EntityTag{{TagKey: "x", TagValue: "1"}}})
	allowed("GetUser", named("bob"))
	allowed("CreateAccessKey", kmsapi.AccessKeyInput{})
	denied("CreateAccessKey", "user/alice", kmsapi.AccessKeyInput{UserName: "alice"})
	denied("CreateUser", "user/carol", kmsapi.CreateUserInput{UserName: "carol"})
	denied("GetUser", "user/alice", named("alice"))
	safe, other1 := newManaged(t, i, "safe", allowList), newManaged(t, i, "other", allowList)
	attach := func(arn string) kmsapi.AttachInput {
		return kmsapi.AttachInput{EntityName: kmsapi.NameOf(user, "alice"), PolicyArn: arn}
	}
	allowed("AttachUserPolicy", attach(safe))
	denied("AttachUserPolicy", "user/alice", attach(other1))
	tag := func(name, key string) kmsapi.TagEntityInput {
		return kmsapi.TagEntityInput{EntityName: kmsapi.NameOf(user, name), Tags: []kmsapi.EntityTag{{TagKey: key, TagValue: "2"}}}
	}
	denied("TagUser", "user/alice", tag("alice", "x"))
	denied("TagUser", "user/team/bob", tag("bob", "y"))
	allowed("TagUser", tag("bob", "x"))

	// Accounts are kept apart.
	for _, account := range []string{"111122223333", "12"} {
		if status, answer := ask(account, "ListUsers", kmsapi.ListEntitiesInput{}); status != 400 || strings.Contains(answer, "Users") {
			t.Errorf("in account %s: %d %s", account, status, answer)
		}
	}
	far := srv.Client().Identity("111122223333")
	newUser(t, far, "alice")
	mustNot(t, far.Attach(ctx, user, "alice", safe), kmsapi.CodeNoSuchEntity, "Policy "+safe+" does not exist or is not attachable.")
	_, err := far.Get(ctx, user, "bob")
	mustNot(t, err, kmsapi.CodeNoSuchEntity, "The user with name bob cannot be found.")
	_, err = far.Get(ctx, user, localName)
	mustNot(t, err, kmsapi.CodeNoSuchEntity, "")
	_, err = far.GetPolicy(ctx, safe)
	mustNot(t, err, kmsapi.CodeInvalidInput, "ARN "+safe+" is not valid.")
	far2 := srv.Client().Identity("12")
	_, err = far2.AllUsers(ctx)
	mustNot(t, err, kmsapi.CodeValidation, "")

	// The network does not have these actions, however they are asked for.
	for _, path := range []string{kmsapi.IdentityPath, "/"} {
		status, answer := askIdentity(t, srv.RemoteHTTPClient(), srv.Remote.URL()+path, "", "ListUsers", kmsapi.ListEntitiesInput{})
		if status == 200 || strings.Contains(answer, "alice") {
			t.Errorf("over TCP on %s: %d %s", path, status, answer)
		}
	}
	must(t, i.PutInline(ctx, user, "alice", "all", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`))
	signed := remoteKMS(srv, &http.Client{Transport: retarget{srv.RemoteHTTPClient().Transport}}, newAccessKey(t, i, "alice"))
	_, err = signed.ListKeys(ctx, &kms.ListKeysInput{})
	if err == nil || strings.Contains(fmt.Sprint(err), "alice") {
		t.Errorf("a signed request to another path: %v", err)
	}
}

// retarget sends a signed request to the path of the actions on identities.
type retarget struct{ next http.RoundTripper }

func (r retarget) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Path = kmsapi.IdentityPath
	return r.next.RoundTrip(req)
}
