package keysvc_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
	"kmsfs.dev/kmsfs/keysvc/kmsclient"
)

// identitiesOf is all that can be asked about the identities of TestIdentitiesAreKept.
func identitiesOf(t *testing.T, i kmsclient.Identity, policyARN string) string {
	t.Helper()
	ctx := t.Context()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	keep := func(v any, err error) {
		t.Helper()
		must(t, err)
		must(t, enc.Encode(v))
	}
	users, err := i.AllUsers(ctx)
	keep(users, err)
	roles, err := i.AllRoles(ctx)
	keep(roles, err)
	policies, err := i.AllPolicies(ctx)
	keep(policies, err)
	versions, err := i.AllPolicyVersions(ctx, policyARN)
	keep(versions, err)
	for _, v := range versions {
		version, err := i.GetPolicyVersion(ctx, policyARN, v.VersionID)
		keep(version, err)
	}
	for _, e := range [][2]string{{user, "alice"}, {role, "reader"}, {user, localName}} {
		attached, err := i.AllAttached(ctx, e[0], e[1])
		keep(attached, err)
		inline, err := i.AllInline(ctx, e[0], e[1])
		keep(inline, err)
		for _, name := range inline {
			text, err := i.GetInline(ctx, e[0], e[1], name)
			keep(text, err)
		}
	}
	keys, err := i.ListAccessKeys(ctx, "alice")
	keep(keys, err)
	return b.String()
}

func TestIdentitiesAreKept(t *testing.T) {
	srv := keysvctest.NewServer(t, keysvctest.WithRemote(loopback))
	i, ctx := srv.Client().Identity(""), t.Context()
	arn := newManaged(t, i, "p", allowList)
	_, err := i.CreatePolicyVersion(ctx, arn, allowRandom)
	must(t, err)
	_, err = i.CreateUser(ctx, &kmsapi.CreateUserInput{UserName: "alice", Path: aws.String("/team/"), PermissionsBoundary: &arn, Tags: entityTags(2)})
	must(t, err)
	_, err = i.CreateRole(ctx, &kmsapi.CreateRoleInput{RoleName: "reader", AssumeRolePolicyDocument: strings.Replace(trustRoot, "000000000000", hereARN+"user/team/alice", 1),
		Description: "d", MaxSessionDuration: aws.Int(7200), Tags: entityTags(1)})
	must(t, err)
	must(t, i.Attach(ctx, user, "alice", arn))
	must(t, i.Attach(ctx, role, "reader", arn))
	must(t, i.PutInline(ctx, role, "reader", "own", allowList))
	must(t, i.PutInline(ctx, user, localName, "own", allowRandom))
	key, off := newAccessKey(t, i, "alice"), newAccessKey(t, i, "alice")
	must(t, i.UpdateAccessKey(ctx, "alice", off.AccessKeyID, kmsapi.AccessKeyInactive))
	newUser(t, i, "gone")
	must(t, i.Delete(ctx, user, "gone"))

	before := identitiesOf(t, i, arn)
	srv.Stop()
	srv.Start()
	i = srv.Client().Identity("")
	if after := identitiesOf(t, i, arn); after != before {
		t.Errorf("after a restart:\n%s\nand before:\n%s", after, before)
	}
	must(t, random(t, remoteKMS(srv, srv.RemoteHTTPClient(), key)))
	refused(t, random(t, remoteKMS(srv, srv.RemoteHTTPClient(), off)), "UnrecognizedClientException")
	must(t, random(t, sdkAs(srv, otherUID)))
	_, err = i.Get(ctx, user, "gone")
	mustNot(t, err, kmsapi.CodeNoSuchEntity, "")
	// What a role trusts is who was called so, also when that one is gone.
	must(t, i.DeleteAccessKey(ctx, "alice", key.AccessKeyID))
	must(t, i.DeleteAccessKey(ctx, "alice", off.AccessKeyID))
	must(t, i.Detach(ctx, user, "alice", arn))
	must(t, i.Delete(ctx, user, "alice"))
	srv.Stop()
	srv.Start()
	_, err = srv.Client().Identity("").Get(ctx, role, "reader")
	must(t, err)
}

// TestSecretsAreWrittenNowhere: neither to the log, nor to the audit log, nor
// readably to the store; and only CreateAccessKey's answer has one.
func TestSecretsAreWrittenNowhere(t *testing.T) {
	var log bytes.Buffer
	srv := keysvctest.NewServer(t, keysvctest.WithRemote(loopback),
		keysvctest.WithLog(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	i := srv.Client().Identity("")
	newUser(t, i, "alice")
	must(t, i.PutInline(t.Context(), user, "alice", "p", allowRandom))
	key := newAccessKey(t, i, "alice")
	must(t, random(t, remoteKMS(srv, srv.RemoteHTTPClient(), key)))
	keys, err := i.ListAccessKeys(t.Context(), "alice")
	must(t, err)
	listed, err := json.Marshal(keys)
	must(t, err)
	srv.Stop()

	found := map[string]bool{}
	look := func(what string, b []byte) {
		if bytes.Contains(b, []byte(key.SecretAccessKey)) {
			t.Errorf("the secret is in %s", what)
		}
		if bytes.Contains(b, []byte(key.AccessKeyID)) {
			found[filepath.Base(filepath.Dir(what))] = true
		}
	}
	look("the list of access keys", listed)
	look("the log", log.Bytes())
	must(t, filepath.WalkDir(srv.StateDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		look(path, b)
		return err
	}))
	if len(found) < 2 { // what was looked at, and the audit log
		t.Errorf("the access key's id is found in %v only", found)
	}
}
