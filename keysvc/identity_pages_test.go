package keysvc_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"

	"kmsfs.dev/kmsfs/keysvc/keysvctest"
	"kmsfs.dev/kmsfs/keysvc/kmsapi"
)

// TestIdentityPages goes through each list in pages of one: there is a marker
// where the answer says that it is truncated, and nothing comes twice.
func TestIdentityPages(t *testing.T) {
	srv := keysvctest.NewServer(t)
	i, ctx := srv.Client().Identity(""), t.Context()
	newUser(t, i, "alice")
	newUser(t, i, "bob")
	for _, name := range []string{"reader", "writer"} {
		_, err := i.CreateRole(ctx, &kmsapi.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: trustRoot})
		must(t, err)
	}
	for n := range 2 {
		arn := newManaged(t, i, fmt.Sprint("p", n), allowList)
		must(t, i.Attach(ctx, user, "alice", arn))
		must(t, i.PutInline(ctx, user, "alice", fmt.Sprint("inline", n), allowList))
		_, err := i.CreateAccessKey(ctx, "alice")
		must(t, err)
		if n == 0 {
			_, err = i.CreatePolicyVersion(ctx, arn, allowRandom)
			must(t, err)
		}
	}
	must(t, i.Tag(ctx, user, "alice", entityTags(2)))
	c := srv.HTTPClient(uint32(os.Geteuid()))
	for op, list := range map[string]struct{ by, of, items string }{
		kmsapi.OpListUsers:          {"", "", "Users"},
		kmsapi.OpListRoles:          {"", "", "Roles"},
		kmsapi.OpListPolicies:       {"", "", "Policies"},
		kmsapi.OpListVersions:       {"PolicyArn", "arn:aws:iam::000000000000:policy/p0", "Versions"},
		kmsapi.OpListAccess:         {"UserName", "alice", "AccessKeyMetadata"},
		kmsapi.OpListAttached(user): {"UserName", "alice", "AttachedPolicies"},
		kmsapi.OpListInline(user):   {"UserName", "alice", "PolicyNames"},
		kmsapi.OpListTags(user):     {"UserName", "alice", "Tags"},
	} {
		t.Run(op, func(t *testing.T) {
			in := map[string]any{"MaxItems": 1}
			if list.by != "" {
				in[list.by] = list.of
			}
			seen := map[string]bool{}
			const items = 2
			for n := 1; n <= items; n++ {
				status, answer := askIdentity(t, c, "http://kmsfs"+kmsapi.IdentityPath, "", op, in)
				if status != http.StatusOK {
					t.Fatal(answer)
				}
				var out struct {
					IsTruncated bool
					Marker      *string
				}
				var lists map[string]json.RawMessage
				var page []json.RawMessage
				must(t, json.Unmarshal([]byte(answer), &out))
				must(t, json.Unmarshal([]byte(answer), &lists))
				must(t, json.Unmarshal(lists[list.items], &page))
				if len(page) != 1 || seen[string(page[0])] {
					t.Fatalf("page %d is %s", n, answer)
				}
				seen[string(page[0])] = true
				if more := n < items; out.IsTruncated != more || (out.Marker != nil) != more {
					t.Fatalf("page %d of %d: %s", n, items, answer)
				}
				in["Marker"] = out.Marker
			}
		})
	}
}
